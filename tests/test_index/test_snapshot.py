import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from kshot.index import snapshot as snapshot_module
from kshot.index.filtering import bitmap
from kshot.index.snapshot import Exclusions, hash64
from kshot.index.store.example_rows import PoolChanges
from kshot.records import Status, content_hash, input_hash
from kshot.schemas.filters import Filter
from tests.test_index.builders import header, ids_of, published

pytestmark = pytest.mark.usefixtures("without_fsync")
ADAPTER: TypeAdapter[Filter] = TypeAdapter(Filter)
PLAIN = Exclusions()


def parsed(expression):
    return ADAPTER.validate_python(expression)


INPUTS, OUTPUTS = st.sampled_from(["i1", "i2", "i3"]), st.sampled_from(["yes", "no", None])
EXAMPLES = st.fixed_dictionaries(
    {
        "inputs": INPUTS,
        "outputs": OUTPUTS,
        "status": st.sampled_from(Status),
        "split": st.sampled_from([None, "train", "test"]),
        "group": st.sampled_from([None, "g1", "g2"]),
        "metadata": st.sampled_from([{}, {"n": 1}, {"n": 2}]),
    }
)
# Each with what it says about an example, spelled out, and whether it reads the status.
FILTERS: list[tuple[Any, Any, bool]] = [
    (None, lambda _: True, False),
    ({"field": "metadata.n", "eq": 1}, lambda one: one["metadata"].get("n") == 1, False),
    ({"not": {"field": "metadata.n", "eq": 1}}, lambda one: one["metadata"].get("n") != 1, False),
    ({"field": "status", "in": ["draft", "retired"]}, lambda one: one["status"] != Status.APPROVED, True),
    (
        {"all": [{"field": "status", "ne": "approved"}, {"field": "split", "eq": "train"}]},
        lambda one: one["status"] != Status.APPROVED and one["split"] == "train",
        True,
    ),
    ({"field": "label", "eq": "yes"}, lambda one: one["outputs"] == "yes", False),
    ({"all": []}, lambda _: True, False),
    ({"any": []}, lambda _: False, False),
]
EXCLUSIONS = st.fixed_dictionaries(
    {},
    optional={
        "ids": st.lists(st.sampled_from(["e1", "e2", "e5", "none"]), max_size=3),
        "content_hashes": st.lists(st.builds(content_hash, INPUTS, OUTPUTS), max_size=2),
        "input_hash": st.builds(input_hash, INPUTS),
        "groups": st.lists(st.sampled_from(["g1", "none"]), max_size=2),
        "splits": st.lists(st.sampled_from(["test", "none"]), max_size=2),
    },
)


def is_left_out(seq, example, exclude):
    return (
        f"e{seq}" in exclude.get("ids", ())
        or content_hash(example["inputs"], example["outputs"]) in exclude.get("content_hashes", ())
        or input_hash(example["inputs"]) == exclude.get("input_hash")
        or example["group"] in exclude.get("groups", ())
        or example["split"] in exclude.get("splits", ())
    )


@settings(max_examples=80)
@given(
    examples=st.lists(EXAMPLES, min_size=1, max_size=8),
    removed=st.sets(st.integers(1, 8), max_size=2),
    condition=st.sampled_from(FILTERS),
    exclude=EXCLUSIONS,
)
def test_eligible_rows_pass_the_filter_and_no_exclusion(examples, removed, condition, exclude):
    expression, passes, reads_status = condition
    headers = [header(seq, **example) for seq, example in enumerate(examples, start=1)]
    with tempfile.TemporaryDirectory() as folder:
        index = published(Path(folder), headers, ["x"] * len(headers), with_tokens=False)
        snapshot = index.publish(PoolChanges(2, sorted(removed), []))
        found = snapshot.eligible(None if expression is None else parsed(expression), Exclusions(**exclude))
    matched = [
        seq
        for seq, example in enumerate(examples, start=1)
        if seq not in removed
        and (reads_status or (example["status"] == Status.APPROVED and example["outputs"] is not None))
        and passes(example)
    ]
    left = [seq for seq in matched if not is_left_out(seq, examples[seq - 1], exclude)]
    assert snapshot.seqs[found.rows].tolist() == left
    assert found.mask.tolist() == [seq in left for seq in range(1, len(examples) + 1)]
    assert found.filter_matched == (None if expression is None else len(matched))
    assert found.excluded == len(matched) - len(left)


@pytest.fixture
def snapshot(tmp_path):
    headers = [
        header(1, group="g1", split="train", metadata={"lang": "de"}),
        header(2, group="g2", split="test", metadata={"old": 1}),
        header(3, inputs="same"),
        header(4, inputs="same", outputs="no"),
        header(5, status=Status.DRAFT, outputs=None),
    ]
    index = published(tmp_path, headers, with_tokens=False)
    return index.publish(PoolChanges(2, [2], []))


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        ({}, ["e1", "e3", "e4"]),
        ({"ids": ["e3", "E1", "e", ""]}, ["e1", "e4"]),
        ({"content_hashes": [content_hash("same", "no")]}, ["e1", "e3"]),
        ({"input_hash": input_hash("same")}, ["e1"]),
        ({"groups": ["g1"]}, ["e3", "e4"]),
        ({"splits": ["train", "other"]}, ["e3", "e4"]),
        ({"groups": ["g2"], "splits": ["test"]}, ["e1", "e3", "e4"]),
        ({"ids": ["\ud800"]}, ["e1", "e3", "e4"]),
    ],
)
def test_exclusions_by_example(snapshot, exclude, left):
    found = snapshot.eligible(None, Exclusions(**exclude))
    assert ids_of(snapshot, found.rows) == left
    assert (found.filter_matched, found.excluded) == (None, 3 - len(left))


def test_without_filter_and_exclusions_nothing_is_computed(snapshot):
    found = snapshot.eligible(None, PLAIN)
    assert found.mask is snapshot.approved
    assert found.rows is snapshot.approved_rows


def test_exclusions_of_an_empty_pool_are_empty(tmp_path):
    exclude = Exclusions(ids=["a"], content_hashes=["b"], input_hash="c", groups=["d"], splits=["e"])
    empty = published(tmp_path, []).snapshot
    assert empty.eligible(parsed({"field": "id", "eq": "a"}), exclude).rows.tolist() == []


def test_fields_that_no_live_row_has_are_named(snapshot):
    expression = {
        "any": [
            {"field": "metadata.lang", "eq": "fr"},
            {"field": "metadata.zz", "exists": False},
            {"field": "metadata.old", "eq": 1},
            {"field": "subject_id", "ne": "s"},
        ]
    }
    for _ in range(2):
        found = snapshot.eligible(parsed(expression), PLAIN)
        assert found.unseen_fields == ("metadata.old", "metadata.zz", "subject_id")


def test_a_filter_is_evaluated_once_per_snapshot_whatever_is_excluded(snapshot, monkeypatch):
    made = []

    def counted(*arguments):
        made.append(arguments[0])
        return bitmap(*arguments)

    monkeypatch.setattr(snapshot_module, "bitmap", counted)
    expression = {"field": "metadata.lang", "in": ["de", "en"]}
    first = snapshot.eligible(parsed(expression), PLAIN)
    second = snapshot.eligible(parsed(expression), Exclusions(ids=["e1"]))
    assert (first.rows.tolist(), second.rows.tolist()) == ([0], [])
    assert len(made) == 1
    snapshot.eligible(parsed({"field": "metadata.lang", "in": ["de", "fr"]}), PLAIN)
    assert len(made) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"eq": 1}, {"eq": True}),
        ({"eq": 1}, {"eq": "1"}),
        ({"eq": 1}, {"ne": 1}),
        ({"exists": True}, {"exists": False}),
    ],
)
def test_filters_that_look_alike_are_not_mixed_up(tmp_path, one, other):
    headers = [header(seq, metadata={"x": value}) for seq, value in enumerate([1, True, "1"], start=1)]
    snapshot = published(tmp_path, [*headers, header(4)]).snapshot
    found = [
        snapshot.eligible(parsed({"field": "metadata.x", **part}), PLAIN).rows.tolist()
        for part in (one, other, one)
    ]
    assert found[0] == found[2] != found[1]


def test_only_the_last_filters_are_kept(snapshot):
    for number in range(200):
        snapshot.eligible(parsed({"field": "metadata.lang", "eq": str(number)}), PLAIN)
    assert len(snapshot._filters._key_to_evaluated) == 64


def test_matching_seqs_are_of_any_status(snapshot):
    assert snapshot.matching_seqs(parsed({"all": []})).tolist() == [1, 3, 4, 5]
    assert snapshot.matching_seqs(parsed({"field": "status", "eq": "draft"})).tolist() == [5]
    assert snapshot.matching_seqs(parsed({"field": "metadata.old", "eq": 1})).tolist() == []


def test_hashes_are_64_bits_of_any_text():
    found = {hash64(text) for text in ("", "a", "b", "\ud800", "\x00", "é" * 1000)}
    assert len(found) == 6
    assert all(0 <= one < 2**64 for one in found)
    assert hash64("a") == hash64("a")


def test_a_snapshot_counts_its_live_examples(snapshot):
    assert (len(snapshot), snapshot.examples) == (5, 4)
    assert snapshot.approved_rows.tolist() == [0, 2, 3]
    assert np.flatnonzero(snapshot.live).tolist() == [0, 2, 3, 4]
