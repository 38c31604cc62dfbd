"""A pool's index against a dictionary, over random histories of a real store."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from numpy.testing import assert_array_equal

from kshot.index.pool import PoolIndex
from kshot.index.store import Store
from kshot.records import NewExample, Status
from kshot.structures import words
from tests import oracles
from tests.test_index.builders import embed, fields_of_row, tokens_of, vector_of

IDS = st.sampled_from([f"id{i}" for i in range(6)])
TEXTS = st.sampled_from(["a", "b c", "d e f g", "a c", "h"])
EXAMPLES = st.fixed_dictionaries(
    {"id": IDS, "inputs": TEXTS},
    optional={
        "outputs": st.sampled_from(
            ["yes", "no", "x" * 300, {"label": "spam", "why": "y" * 300}, {"why": "y" * 300}]
        ),
        "metadata": st.sampled_from(
            [{"n": 1}, {"n": 1.0}, {"n": True, "deep": {"a": "x"}}, {"tags": ["t", 1]}]
        ),
        "split": st.sampled_from(["train", "test"]),
        "status": st.sampled_from(Status),
        "subject_id": st.sampled_from(["s1", "s2"]),
        "group": st.sampled_from(["g1", "g2"]),
    },
)
PATCHES = st.fixed_dictionaries(
    {},
    optional={
        "inputs": TEXTS,
        "outputs": st.sampled_from([None, "yes", "maybe"]),
        "metadata": st.sampled_from([{}, {"n": 2}]),
        "split": st.sampled_from([None, "test"]),
        "status": st.sampled_from(Status),
        "subject_id": st.sampled_from([None, "s1"]),
    },
).filter(bool)


def label_of(outputs, label_field):
    if label_field == "outputs.label":
        return outputs.get("label") if isinstance(outputs, dict) else None
    return outputs if isinstance(outputs, str) and len(outputs) <= 200 else None


def what_is_known_of(example, label_field):
    """Return everything that a snapshot should say about an example."""
    metadata = {
        "metadata.n": example.metadata.get("n"),
        "metadata.deep.a": example.metadata.get("deep", {}).get("a"),
        "metadata.tags": example.metadata.get("tags"),
    }
    fields = {
        "id": example.id,
        "status": str(example.status),
        "split": example.split,
        "subject_id": example.subject_id,
        "group": example.group,
        "label": label_of(example.outputs, label_field),
        **metadata,
    }
    return {
        "fields": {name: (type(value), value) for name, value in fields.items() if value is not None},
        "approved": example.status == Status.APPROVED and example.outputs is not None,
        "truncated": len(example.inputs.split()) > 3,
        "vector": vector_of(example.inputs).tobytes(),
        "tokens": tokens_of(example.inputs).astype(np.float32).tobytes(),
    }


def what_a_snapshot_says(snapshot):
    """Read a snapshot row by row, into what `what_is_known_of` returns."""
    id_to_facts: dict[str, Any] = {}
    for row in np.flatnonzero(snapshot.live).tolist():
        fields = {
            name: (type(value), value) if not hasattr(value, "items") else (list, list(value.items))
            for name, value in fields_of_row(snapshot, row).items()
        }
        example_id = str(fields["id"][1])
        assert example_id not in id_to_facts
        tokens, offsets = snapshot.tokens.take(np.array([row]))
        assert offsets.tolist() == [0, len(tokens)]
        id_to_facts[example_id] = {
            "fields": fields,
            "approved": bool(snapshot.approved[row]),
            "truncated": bool(snapshot.truncated[row]),
            "vector": snapshot.dense.vectors[row].tobytes(),
            "tokens": tokens.tobytes(),
        }
    return id_to_facts


class PoolHistory(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.files = tempfile.TemporaryDirectory()
        self.folder = Path(self.files.name)
        self.store = Store(f"sqlite:///{self.folder}/store.sqlite")
        self.pool_id = self.store.create_pool("pool", {}).id
        self.model: dict[str, NewExample] = {}
        self.kept: list[tuple[Any, Any]] = []
        self.label_field: str | None = None

    def teardown(self):
        self.store.close()
        self.files.cleanup()

    @initialize(label_field=st.sampled_from([None, "outputs", "outputs.label"]))
    def open(self, label_field):
        self.label_field = label_field
        self.index: Any = PoolIndex(self.folder / "segments", label_field, self.load_texts)
        self.is_current = True

    def load_texts(self, seqs):
        seq_to_text = {
            example.seq: example.inputs for example in self.store.get_examples_by_seq(self.pool_id, seqs)
        }
        return [seq_to_text.get(seq, "") for seq in seqs]

    def append_missing(self, changes, limit=None):
        missing = self.index.missing(changes.added)
        for start in range(0, len(missing[:limit]), 2):
            some = missing[start : start + 2]
            examples = self.store.get_examples_by_seq(self.pool_id, [header.seq for header in some])
            keys = [example.feature_seq for example in examples]
            self.index.append(embed(keys, [str(example.inputs) for example in examples]))

    @rule(
        batch=st.lists(EXAMPLES, min_size=1, max_size=4, unique_by=lambda example: example["id"]),
        then_publish=st.booleans(),
    )
    def upsert(self, batch, then_publish):
        examples = [NewExample(**example) for example in batch]
        result = self.store.upsert_examples(
            self.pool_id, examples, keeps_features=lambda old, new: old.inputs == new.inputs
        )
        before = self.model.copy()
        self.model |= {example.id: example for example in examples}
        self.is_current = False
        stored = self.store.get_examples_by_seq(self.pool_id, result.seqs)
        for example, outcome in zip(stored, result.outcomes, strict=True):
            old = before.get(example.id)
            same_inputs = old is not None and old.inputs == example.inputs
            assert (example.feature_seq == example.seq) or same_inputs
            assert (outcome == "created") == (old is None)
        if then_publish:
            self.publish()

    @precondition(lambda self: self.model)
    @rule(data=st.data(), changes=PATCHES, then_publish=st.booleans())
    def patch(self, data, changes, then_publish):
        example_id = data.draw(st.sampled_from(sorted(self.model)))
        self.store.patch_example(
            self.pool_id, example_id, changes, keeps_features=lambda old, new: old.inputs == new.inputs
        )
        old = self.model[example_id]
        fields = {name: getattr(old, name) for name in NewExample.__dataclass_fields__} | changes
        self.model[example_id] = NewExample(**fields)
        self.is_current = False
        if then_publish:
            self.publish()

    @rule(ids=st.lists(IDS, max_size=2), then_publish=st.booleans())
    def delete(self, ids, then_publish):
        self.store.delete_examples(self.pool_id, ids=ids)
        self.model = {key: value for key, value in self.model.items() if key not in ids}
        self.is_current = False
        if then_publish:
            self.publish()

    @rule(subject_id=st.sampled_from(["s1", "s2"]))
    def delete_subject(self, subject_id):
        self.store.delete_examples(self.pool_id, subject_id=subject_id)
        self.model = {key: value for key, value in self.model.items() if value.subject_id != subject_id}
        self.is_current = False

    @rule()
    def publish(self):
        changes = self.store.read_changes(self.pool_id, self.index.snapshot.version)
        self.append_missing(changes)
        snapshot = self.index.publish(changes)
        assert snapshot.version == changes.version
        self.is_current = True
        self.kept.append((snapshot, what_a_snapshot_says(snapshot)))

    @rule(limit=st.integers(0, 3))
    def fail_in_the_middle(self, limit):
        self.append_missing(self.store.read_changes(self.pool_id, self.index.snapshot.version), limit)

    @rule(
        damage=st.sampled_from([None, "vectors", "keys", "manifest"]),
        data=st.data(),
        deleted=st.lists(IDS, max_size=2),
    )
    def reopen(self, damage, data, deleted):
        folder = self.folder / "segments"
        segments = sorted(folder.iterdir()) if folder.is_dir() else []
        lost: set[int] = set()
        if damage is not None and segments:
            damaged = data.draw(st.sampled_from(segments))
            lost = set(np.load(damaged / "keys.npy").tolist())
            (file,) = damaged.glob(f"{damage}.*")
            content = bytearray(file.read_bytes())
            content[-1] ^= 1
            file.write_bytes(content)
        unpublished = set(self.index._table.key_to_row)
        self.index = PoolIndex(folder, self.label_field, self.load_texts)
        assert len(self.index.dropped_segments) == bool(lost)
        changes = self.store.read_changes(self.pool_id, 0)
        missing = {header.feature_seq for header in self.index.missing(changes.added)}
        assert missing == {header.feature_seq for header in changes.added} - (unpublished - lost)
        # As a start does: forget, show what is there, and go on from version 0 unless that is all.
        unowned = self.index.unowned(changes.added)
        kept = {example.seq for example in self.store.get_examples_by_seq(self.pool_id, unowned)}
        self.index.compact(unowned, set(unowned) - kept)
        assert set(self.index.unowned(changes.added)) <= kept
        self.index.publish(changes if not missing else changes._replace(version=0))
        self.is_current = not missing
        self.kept.clear()
        if deleted:
            self.delete(deleted, then_publish=True)

    @invariant()
    def the_snapshot_is_the_model(self):
        if not hasattr(self, "index") or not self.is_current:
            return
        snapshot = self.index.snapshot
        wanted = {key: what_is_known_of(value, self.label_field) for key, value in self.model.items()}
        assert what_a_snapshot_says(snapshot) == wanted
        assert snapshot.examples == len(self.model)
        assert snapshot.approved_rows.tolist() == np.flatnonzero(snapshot.approved).tolist()
        assert not (snapshot.approved & ~snapshot.live).any()
        if wanted:
            sample = snapshot.sample
            assert sample.rows.tolist() == np.flatnonzero(snapshot.live).tolist()
            assert_array_equal(sample.vectors, snapshot.dense.vectors[sample.rows])

    @invariant()
    def words_are_found_as_in_the_model(self):
        if not hasattr(self, "index") or not self.is_current or not self.model:
            return
        snapshot = self.index.snapshot
        rows = np.flatnonzero(snapshot.live)
        ids = [fields_of_row(snapshot, row)["id"] for row in rows.tolist()]
        found = snapshot.lexical(current=True).scores("a c h")
        documents = [words(str(self.model[one].inputs)) for one in ids]
        np.testing.assert_allclose(found[rows], oracles.lucene(documents, ["a", "c", "h"]), rtol=1e-12)

    @invariant()
    def older_snapshots_say_what_they_said(self):
        for snapshot, said in self.kept:
            assert what_a_snapshot_says(snapshot) == said


TestPoolHistory = pytest.mark.usefixtures("without_fsync")(PoolHistory.TestCase)
TestPoolHistory.settings = settings(max_examples=20, stateful_step_count=20, deadline=None, derandomize=True)
