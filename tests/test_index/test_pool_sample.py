"""The rows that stand for the whole pool."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from kshot.index import snapshot as snapshot_module
from kshot.index.store.example_rows import PoolChanges
from tests.test_index.builders import embed, header, published, reopened

pytestmark = pytest.mark.usefixtures("without_fsync")


def test_the_sample_is_every_live_row_of_a_small_pool(tmp_path):
    index = published(tmp_path, map(header, range(1, 6)), ["a", "b c", "d", "e f", "g"])
    sample = index.publish(PoolChanges(2, [2], [])).sample
    assert sample.rows.tolist() == [0, 2, 3, 4]
    assert_array_equal(sample.vectors, index.snapshot.dense.vectors[[0, 2, 3, 4]])
    assert sample.offsets.tolist() == [0, 1, 2, 4, 5]
    assert len(sample.tokens) == 5


def test_the_sample_of_a_large_pool_depends_on_its_keys_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot_module, "SAMPLE_ROWS", 20)
    headers = [header(seq) for seq in range(1, 101)]
    index = published(tmp_path / "one", headers, segment_rows=30)

    def keys(snapshot):
        assert len(set(snapshot.sample.rows.tolist())) == len(snapshot.sample.rows) == 20
        assert_array_equal(snapshot.sample.vectors, snapshot.dense.vectors[snapshot.sample.rows])
        return set(snapshot.seqs[snapshot.sample.rows].tolist())

    drawn = keys(index.snapshot)
    assert keys(reopened(tmp_path / "one").publish(PoolChanges(1, [], headers))) == drawn
    assert keys(published(tmp_path / "two", headers[::-1]).snapshot) == drawn
    # Spread over the pool, and little changed by what comes and goes.
    assert 20 < np.mean(list(drawn)) < 80
    gone = min(drawn)
    without = keys(index.publish(PoolChanges(2, [gone], [])))
    assert drawn - without == {gone}
    index.append(embed(range(101, 106), ["x"] * 5))
    more = keys(index.publish(PoolChanges(3, [], [header(seq) for seq in range(101, 106)])))
    assert len(more & without) >= 15
