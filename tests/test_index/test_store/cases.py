"""Words that the store's tests share."""

from datetime import UTC, datetime
from typing import Any

from kshot.index.store import Store
from kshot.records import Example, Job, JobState, NewExample, Selection

NOON = datetime(2031, 5, 6, 12, tzinfo=UTC)


def same_inputs(old: Example, new: NewExample) -> bool:
    """Let a new version keep its vectors while inputs and given vector stay."""
    return old.inputs == new.inputs and old.vector == new.vector


def write(store: Store, pool_id: int, *examples: NewExample):
    return store.upsert_examples(pool_id, examples, keeps_features=same_inputs)


def content(example: NewExample) -> NewExample:
    """Return what the caller gave, without what the store added."""
    return NewExample(
        id=example.id,
        inputs=example.inputs,
        outputs=example.outputs,
        metadata=dict(example.metadata),
        split=example.split,
        status=example.status,
        subject_id=example.subject_id,
        group=example.group,
        vector=example.vector,
    )


def a_selection(**changes: Any) -> Selection:
    values: dict[str, Any] = {
        "id": "sel-1",
        "pool_id": 1,
        "pool_version": 3,
        "created_at": NOON,
        "method": "fused",
        "request": {"k": 2, "seed": 7, "filter": {"eq": ["lang", "de"]}},
        "demonstrations": [{"id": "a", "seq": 4, "score": 0.25, "gain": None, "part": "main"}],
        "query": {"title": "Grüße 🙂"},
        "abstained": False,
    }
    return Selection(**values | changes)


def a_job(**changes: Any) -> Job:
    values: dict[str, Any] = {
        "id": "job-1",
        "kind": "reembed",
        "pool_id": None,
        "params": {"batch": 16},
        "state": JobState.QUEUED,
        "done": 0,
        "total": None,
        "phase": None,
        "result": None,
        "error": None,
        "created_at": NOON,
        "updated_at": NOON,
    }
    return Job(**values | changes)
