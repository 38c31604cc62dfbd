"""Files under a pool's index: merged, damaged, foreign, decoded."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from kshot.errors import DimensionMismatch, InvalidInput, InvalidShape
from kshot.index import pool as pool_module
from kshot.index.segments import Features, open_all, write_segment
from kshot.index.store.example_rows import PoolChanges
from tests.test_index.builders import (
    TOKEN_DIMENSION,
    embed,
    header,
    live_ids,
    published,
    random_unit,
    reopened,
    vector_of,
)

pytestmark = pytest.mark.usefixtures("without_fsync")


def test_segments_are_merged_without_moving_a_row(tmp_path):
    index = reopened(tmp_path)
    snapshots = []
    for seq in range(1, 75):
        index.append(embed([seq], [f"text {seq}"]))
        snapshots.append(index.publish(PoolChanges(seq, [], [header(seq)])))
        assert index.segments < 3 * 8
    assert index.segments < 12
    assert index.segments == len(list(tmp_path.iterdir()))
    last = snapshots[-1]
    assert last.seqs.tolist() == list(range(1, 75))
    for i, snapshot in enumerate(snapshots):
        assert snapshot.seqs.tolist() == last.seqs.tolist()[: i + 1]
        assert_array_equal(snapshot.dense.vectors, last.dense.vectors[: i + 1])
        assert_array_equal(snapshot.tokens.take(np.arange(i + 1))[0], last.tokens.take(np.arange(i + 1))[0])
    again = reopened(tmp_path).publish(PoolChanges(74, [], [header(seq) for seq in range(1, 75)]))
    assert_array_equal(again.dense.vectors, last.dense.vectors)


@pytest.mark.parametrize("sizes", [[1, 40], [40, 1], [1, 1, 9, 2], [70, 9, 1]])
def test_segments_stay_few_whatever_the_sizes_of_the_batches(tmp_path, sizes):
    index = reopened(tmp_path)
    first = 1
    for size in itertools.islice(itertools.cycle(sizes), 60):
        keys = range(first, first + size)
        index.append(embed(keys, [""] * size, with_tokens=False))
        first += size
        # Under 8 of each order of magnitude (base 8), of which 2,400 rows have four.
        assert index.segments <= 4 * 7
    assert sum(len(one.features) for one in open_all(tmp_path)[0]) == first - 1


def test_the_inputs_of_a_merge_that_a_crash_left_are_removed(tmp_path):
    for keys in ([1, 2], [3], [1, 2, 3], [4]):
        write_segment(tmp_path, embed(keys, [f"text {key}" for key in keys]))
    index = reopened(tmp_path)
    assert (index.segments, len(list(tmp_path.iterdir())), index.dropped_segments) == (2, 2, [])
    snapshot = index.publish(PoolChanges(1, [], [header(seq) for seq in (1, 2, 3, 4)]))
    assert live_ids(snapshot) == ["e1", "e2", "e3", "e4"]
    assert len(snapshot) == 4


def test_features_of_a_corrupt_segment_are_missing_and_can_be_appended_again(tmp_path):
    headers = [header(seq) for seq in range(1, 7)]
    published(tmp_path, headers, segment_rows=2)
    damaged = sorted(tmp_path.iterdir())[1]
    (damaged / "vectors.npy").write_bytes(b"")
    index = reopened(tmp_path)
    assert index.dropped_segments == [damaged.name]
    missing = index.missing(headers)
    assert [one.seq for one in missing] == [3, 4]
    index.append(embed([3, 4], ["text 3", "text 4"]))
    snapshot = index.publish(PoolChanges(1, [], headers))
    assert sorted(live_ids(snapshot)) == [f"e{seq}" for seq in range(1, 7)]
    for row in range(6):
        assert_array_equal(snapshot.dense.vectors[row], vector_of(f"text {snapshot.seqs[row]}"))
    assert reopened(tmp_path).missing(headers) == []


@pytest.mark.parametrize(
    ("features", "error"),
    [
        (
            Features(np.array([2]), random_unit(np.random.default_rng(0), 1, 5), np.zeros(1, np.bool_)),
            DimensionMismatch,
        ),
        (embed([2, 1], ["text 2", "text 1"]), InvalidInput),
        (Features(np.array([2]), np.full((1, 8), np.nan, np.float32), np.zeros(1, np.bool_)), InvalidShape),
    ],
)
def test_features_that_do_not_fit_change_nothing(tmp_path, features, error):
    index = published(tmp_path, [header(1)])
    files = sorted(tmp_path.rglob("*"))
    with pytest.raises(error):
        index.append(features)
    assert sorted(tmp_path.rglob("*")) == files
    assert index.missing([header(2)]) == [header(2)]
    index.append(embed([2], ["text 2"]))
    assert live_ids(index.publish(PoolChanges(2, [], [header(2)]))) == ["e1", "e2"]


def test_segments_of_another_dimension_are_dropped_when_a_pool_is_opened(tmp_path):
    published(tmp_path, map(header, (1, 2)))
    foreign = Features(np.array([3]), random_unit(np.random.default_rng(0), 1, 5), np.zeros(1, np.bool_))
    name = write_segment(tmp_path, foreign).path.name
    index = reopened(tmp_path)
    assert index.dropped_segments == [name]
    assert index.missing(map(header, (1, 2, 3))) == [header(3)]
    assert reopened(tmp_path).dropped_segments == []


def test_no_features_make_no_segment(tmp_path):
    index = reopened(tmp_path)
    index.append(Features(np.empty(0, np.int64), np.empty((0, 1), np.float32), np.empty(0, np.bool_)))
    assert index.segments == 0
    # A dimension of nothing binds nobody.
    index.append(embed([1], ["x"]))
    assert index.segments == 1


def test_tokens_are_decoded_while_they_are_few(tmp_path, monkeypatch):
    texts = ["a b", "c", "d e f"]
    monkeypatch.setattr(pool_module, "DECODED_BYTES", 4 * 4 * TOKEN_DIMENSION)
    index = published(tmp_path, map(header, (1, 2)), texts[:2])
    small = index.snapshot
    assert all(part.decoded is not None for part in small.tokens.parts)
    index.append(embed([3], texts[2:]))
    large = index.publish(PoolChanges(2, [], [header(3)]))
    assert all(part.decoded is None for part in large.tokens.parts)
    rows = np.arange(2)
    assert_array_equal(small.tokens.take(rows)[0], large.tokens.take(rows)[0])
    assert (small.tokens.count, large.tokens.count) == (3, 6)
