"""What a pool's index publishes, and what its readers see."""

import threading

import pytest

from kshot.index.store.example_rows import PoolChanges
from kshot.records import Status
from tests.test_index.builders import embed, fields_of_row, header, live_ids, published, reopened

pytestmark = pytest.mark.usefixtures("without_fsync")


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
