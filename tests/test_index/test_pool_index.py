import itertools
import threading
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from kshot.errors import DimensionMismatch, InvalidInput, InvalidShape
from kshot.index import pool as pool_module
from kshot.index import segments
from kshot.index import snapshot as snapshot_module
from kshot.index.pool import PoolIndex
from kshot.index.segments import Features, open_all, write_segment
from kshot.index.store.example_rows import PoolChanges
from kshot.records import Status
from tests.test_index.builders import (
    TOKEN_DIMENSION,
    embed,
    fields_of_row,
    header,
    ids_of,
    no_texts,
    published,
    random_unit,
    vector_of,
)

pytestmark = pytest.mark.usefixtures("without_fsync")


def reopened(folder) -> Any:
    return PoolIndex(folder, None, no_texts)


def live_ids(snapshot):
    return ids_of(snapshot, np.flatnonzero(snapshot.live)) if snapshot.live.any() else []


def test_a_new_pool_is_empty(tmp_path):
    index = reopened(tmp_path)
    snapshot = index.snapshot
    assert (snapshot.version, len(snapshot), snapshot.examples) == (0, 0, 0)
    assert (snapshot.dense, snapshot.tokens, snapshot.sample) == (None, None, None)
    assert (index.segments, index.disk_bytes, index.dropped_segments) == (0, 0, [])


def test_appended_features_show_with_the_next_publication_only(tmp_path):
    index = published(tmp_path, [header(1)])
    before = index.snapshot
    index.append(embed([2], ["text 2"]))
    assert index.snapshot is before
    assert index.missing([header(2), header(3)]) == [header(3)]
    after = index.publish(PoolChanges(2, [], [header(2)]))
    assert index.snapshot is after
    assert (live_ids(before), live_ids(after)) == (["e1"], ["e1", "e2"])


def test_an_example_without_features_is_left_out(tmp_path):
    index = published(tmp_path, [header(1)])
    assert live_ids(index.publish(PoolChanges(2, [], [header(7)]))) == ["e1"]
    # Superseded by a version that cannot be embedded: gone as well.
    assert live_ids(index.publish(PoolChanges(3, [1], [header(8, "e1")]))) == []


def test_a_version_that_keeps_its_features_keeps_its_row(tmp_path):
    index = published(tmp_path, [header(1, split="train"), header(2)])
    before = index.snapshot
    newer = header(9, "e1", feature_seq=1, inputs="text 1", outputs="no", status=Status.RETIRED)
    after = index.publish(PoolChanges(2, [1], [newer]))
    assert after.seqs.tolist() == [9, 2]
    assert fields_of_row(after, 0) == {"id": "e1", "status": "retired", "label": "no"}
    assert after.approved.tolist() == [False, True]
    assert before.seqs.tolist() == [1, 2]
    assert fields_of_row(before, 0) == {"id": "e1", "status": "approved", "label": "yes", "split": "train"}
    assert before.approved.tolist() == [True, True]


@pytest.mark.parametrize(
    ("changes", "annotated", "approved"),
    [
        ({}, True, True),
        ({"outputs": None}, False, False),
        ({"status": Status.DRAFT}, True, False),
        ({"status": Status.DRAFT, "outputs": None}, False, False),
        ({"status": Status.RETIRED}, True, False),
        ({"outputs": {"a": 1}}, True, True),
    ],
)
def test_only_approved_examples_with_outputs_are_chosen_from(tmp_path, changes, annotated, approved):
    snapshot = published(tmp_path, [header(1, **changes)]).snapshot
    assert (snapshot.live.tolist(), snapshot.approved.tolist()) == ([True], [approved])
    assert snapshot.annotated.tolist() == [annotated]
    assert snapshot.approved_rows.tolist() == [0] * approved


def test_what_was_removed_after_a_partial_state_was_published_is_gone(tmp_path):
    published(tmp_path, map(header, (1, 2, 3)))
    index = reopened(tmp_path)
    # As a start does where features are missing: the state of version 5 stands in as version 0.
    index.publish(PoolChanges(0, [], [header(1), header(2), header(3), header(4)]))
    assert live_ids(index.snapshot) == ["e1", "e2", "e3"]
    # Example 2 was deleted since; as it was never in version 0, no list of changes names it.
    index.append(embed([4], ["text 4"]))
    assert live_ids(index.publish(PoolChanges(6, [], [header(1), header(3), header(4)]))) == [
        "e1",
        "e3",
        "e4",
    ]


def test_published_arrays_cannot_be_written(tmp_path):
    snapshot = published(tmp_path, [header(1)]).snapshot
    for array in (
        snapshot.seqs,
        snapshot.live,
        snapshot.approved,
        snapshot.annotated,
        snapshot.truncated,
        snapshot.dense.vectors,
    ):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


# Segments


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


# Erasure


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


# Labels


def labels_of(snapshot):
    return [fields_of_row(snapshot, row).get("label") for row in range(len(snapshot))]


@pytest.mark.parametrize(
    ("label_field", "expected"),
    [
        (None, ["yes", None, None]),
        ("outputs", ["yes", None, None]),
        ("outputs.label", [None, "spam", None]),
        ("outputs.stars", [None, "4", None]),
        ("outputs.sure", [None, "true", None]),
        ("outputs.nothing", [None] * 3),
        ("metadata.lang", ["de", "en", None]),
        ("metadata.deep.n", ["1.5", None, None]),
        ("metadata.deep", [None] * 3),
        ("metadata.tags", [None, '["a",1]', None]),
    ],
)
def test_labels_stand_where_the_settings_say(tmp_path, label_field, expected):
    headers = [
        header(1, outputs="yes", metadata={"lang": "de", "deep": {"n": 1.5}}),
        header(
            2, outputs={"label": "spam", "stars": 4, "sure": True}, metadata={"lang": "en", "tags": ["a", 1]}
        ),
        header(3, outputs=None),
    ]
    index = published(tmp_path, headers, label_field=label_field)
    assert labels_of(index.snapshot) == expected
    index.relabel("metadata.lang", headers)
    assert labels_of(index.snapshot) == ["de", "en", None]
    index.relabel(label_field, headers)
    assert labels_of(index.snapshot) == expected


def test_a_new_label_field_does_not_show_headers_that_are_not_published_yet(tmp_path):
    index = published(tmp_path, [header(1, metadata={"lang": "de"}), header(2, metadata={"lang": "en"})])
    newer = header(3, "e1", feature_seq=1, outputs="no", metadata={"lang": "fr"})
    index.relabel("metadata.lang", [newer, header(2, metadata={"lang": "en"})])
    assert fields_of_row(index.snapshot, 0) == {
        "id": "e1",
        "status": "approved",
        "label": "yes",
        "metadata.lang": "de",
    }
    snapshot = index.publish(PoolChanges(2, [1], [newer]))
    assert labels_of(snapshot) == ["fr", "en"]


def many(outputs):
    return [header(seq, outputs=text) for seq, text in enumerate(outputs, start=1)]


@pytest.mark.parametrize(
    ("distinct", "unlabelled", "are_labels"), [(500, 0, True), (500, 3, True), (501, 0, False)]
)
def test_outputs_are_labels_by_default_while_at_most_500_are_distinct(
    tmp_path, distinct, unlabelled, are_labels
):
    headers = many([str(i) for i in range(distinct)] + [None] * unlabelled)
    texts = ["x"] * len(headers)
    index = published(tmp_path, headers, texts, with_tokens=False)
    assert ("label" in index.snapshot.field_to_column) == are_labels
    index.relabel("outputs", headers)
    assert "label" in index.snapshot.field_to_column


def test_each_long_output_counts_as_a_distinct_one(tmp_path):
    # As the store gives them: too long for a header.
    long = [header(seq)._replace(short_outputs=None) for seq in range(1, 500)]
    headers = [*long, header(500, outputs="a"), header(501, outputs="b")]
    index = published(tmp_path, headers, ["x"] * 501, with_tokens=False)
    assert "label" not in index.snapshot.field_to_column
    assert "label" in index.publish(PoolChanges(2, [1], [])).field_to_column


def test_labels_of_deleted_examples_do_not_count(tmp_path):
    headers = many(str(i) for i in range(501))
    index = published(tmp_path, headers, ["x"] * 501, with_tokens=False)
    assert "label" not in index.snapshot.field_to_column
    assert "label" in index.publish(PoolChanges(2, [501], [])).field_to_column


# Sample


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


# Readers


def test_readers_meet_whole_states_while_a_writer_publishes(tmp_path):
    index = reopened(tmp_path)
    index.append(embed([1], ["text 1"]))
    index.publish(PoolChanges(1, [], [header(1)]))
    done = threading.Event()
    wrong: list[object] = []

    def read():
        while not done.is_set():
            snapshot = index.snapshot
            n = snapshot.version
            labels = snapshot.field_to_column["label"]
            expected = [f"v{n}"] * n
            if [labels.values[code] for code in labels.codes] != expected or len(snapshot) != n:
                wrong.append((n, snapshot))

    index.publish(PoolChanges(1, [1], [header(1, outputs="v1")]))
    reader = threading.Thread(target=read)
    reader.start()
    for n in range(2, 14):
        index.append(embed([n], [f"text {n}"]))
        headers = [header(1000 * n + i, f"e{i}", feature_seq=i, outputs=f"v{n}") for i in range(1, n + 1)]
        removed = index.snapshot.seqs[index.snapshot.live].tolist()
        index.publish(PoolChanges(n, removed, headers))
    done.set()
    reader.join()
    assert wrong == []
