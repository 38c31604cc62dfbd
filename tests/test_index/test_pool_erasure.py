"""What compaction leaves on disk of examples that were erased or superseded."""

import pytest
from numpy.testing import assert_array_equal

from kshot.index import segments
from kshot.index.store.example_rows import PoolChanges
from tests.test_index.builders import embed, header, published, reopened, vector_of

pytestmark = pytest.mark.usefixtures("without_fsync")


def occurs_on_disk(folder, text):
    """Look for a sentence vector and for token vectors in every file."""
    features = embed([0], [text])
    assert features.tokens is not None
    wanted = [features.vectors.tobytes(), features.tokens.tobytes()]
    contents = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    return any(one in content for one in wanted for content in contents)


def test_nothing_of_an_erased_example_is_left_on_disk_after_a_start(tmp_path):
    headers = [header(seq) for seq in range(1, 31)]
    published(tmp_path, headers, segment_rows=10)
    untouched = sorted(tmp_path.iterdir())[2]
    index = reopened(tmp_path)
    left = [one for one in headers if one.seq not in (3, 15, 16)]
    assert index.unowned(left) == [3, 15, 16]
    assert occurs_on_disk(tmp_path, "text 3")
    index.compact([3, 15, 16], erased={3, 15})
    for seq in (3, 15, 16):
        assert not occurs_on_disk(tmp_path, f"text {seq}")
    assert untouched.exists()
    assert index.segments == len(list(tmp_path.iterdir())) == 3
    snapshot = index.publish(PoolChanges(2, [], left))
    assert snapshot.seqs.tolist() == [one.seq for one in left]
    for row, one in enumerate(left):
        assert_array_equal(snapshot.dense.vectors[row], vector_of(f"text {one.seq}"))
    again = reopened(tmp_path)
    assert (again.missing(left), again.unowned(left)) == ([], [])


def test_superseded_features_are_kept_until_they_are_a_quarter_of_a_segment(tmp_path):
    published(tmp_path, map(header, range(1, 13)))
    index = reopened(tmp_path)
    index.compact([1, 2, 3], erased=())
    assert len(index.snapshot) == 12
    index.compact([1, 2, 3, 4], erased=())
    assert len(index.snapshot) == 8
    assert index.unowned([]) == list(range(5, 13))


def test_a_segment_without_any_owner_is_deleted(tmp_path):
    published(tmp_path, map(header, range(1, 5)), segment_rows=2)
    index = reopened(tmp_path)
    index.compact([1, 2], erased=[1])
    assert (index.segments, len(list(tmp_path.iterdir()))) == (1, 1)
    index.compact([3, 4], erased=[3, 4])
    assert (index.segments, list(tmp_path.iterdir())) == (0, [])
    assert index.snapshot.dense is None


def test_a_compaction_cut_short_is_done_by_the_next_start(tmp_path, monkeypatch):
    headers = [header(seq) for seq in (1, 2, 3)]
    published(tmp_path, headers)
    index = reopened(tmp_path)

    def crash(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(segments, "remove", crash)
        with pytest.raises(KeyboardInterrupt):
            index.compact([2], erased=[2])
    index = reopened(tmp_path)
    assert index.unowned([headers[0], headers[2]]) == [2]
    index.compact([2], erased=[2])
    assert not occurs_on_disk(tmp_path, "text 2")
    assert reopened(tmp_path).missing(headers) == [headers[1]]
