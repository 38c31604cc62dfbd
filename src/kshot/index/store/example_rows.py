"""What a row of examples looks like as a record, and back."""

from collections.abc import Sequence
from itertools import islice
from typing import Any, Literal, NamedTuple, TypeAlias

from sqlalchemy import Label

from kshot.index.store.schema import examples
from kshot.records import Content, Example, NewExample, Status, content_hash, input_hash, require_text

SHORT_OUTPUTS_CHARS = 200
"""Outputs up to this length are part of a header: long enough for labels, short enough for memory."""
_SHORT_FIELDS = 32

Outcome: TypeAlias = Literal["created", "updated", "unchanged"]


class ExampleHeader(NamedTuple):
    """A stored example without its texts: what a pool snapshot keeps in memory for every row."""

    id: str
    seq: int
    feature_seq: int
    status: Status
    split: str | None
    subject_id: str | None
    group: str | None
    content_hash: str
    input_hash: str
    #: Whether the example has outputs, short or not.
    has_outputs: bool
    #: What may be a label: a text of at most 200 characters, or of outputs with names the first 32 that are
    #: such a text, a number or a boolean.
    short_outputs: Content | None
    metadata: dict[str, Any]


class UpsertResult(NamedTuple):
    """What became of a batch: one outcome and one seq per example, in the order given."""

    #: The pool's version afterwards; the one before if nothing changed.
    version: int
    outcomes: list[Outcome]
    #: The seq of the version that is live now.
    seqs: list[int]


class PoolChanges(NamedTuple):
    """The net effect of all changes after one version and up to another."""

    #: The version that the changes lead to.
    version: int
    #: Seqs live before and not any more, ascending.
    removed: list[int]
    #: Headers live now and not before, in ``feature_seq`` order.
    added: list[ExampleHeader]


_c = examples.c
EXAMPLE_COLUMNS = (
    _c.id,
    _c.seq,
    _c.feature_seq,
    _c.added_in,
    _c.removed_in,
    _c.created_at,
    _c.updated_at,
    _c.status,
    _c.split,
    _c.subject_id,
    _c.group,
    _c.metadata,
    _c.outputs,
    _c.inputs,
    _c.vector,
)
HEADER_COLUMNS = (
    _c.id,
    _c.seq,
    _c.feature_seq,
    _c.status,
    _c.split,
    _c.subject_id,
    _c.group,
    _c.content_hash,
    _c.input_hash,
    Label("has_outputs", _c.outputs.is_not(None)),
    _c.short_outputs,
    _c.metadata,
)

ERASED: dict[str, Any] = dict.fromkeys(
    (
        "split",
        "subject_id",
        "group",
        "content_hash",
        "input_hash",
        "short_outputs",
        "metadata",
        "outputs",
        "inputs",
        "vector",
    )
)
"""What erasing writes over a version: id, seq and times remain, all content is gone."""

_WORD_TO_STATUS = {str(status): status for status in Status}


def to_example(row: Sequence[Any]) -> Example:
    """Build a record from a row of `EXAMPLE_COLUMNS`."""
    (
        id_,
        seq,
        feature_seq,
        added_in,
        removed_in,
        created_at,
        updated_at,
        status,
        split,
        subject_id,
        group,
        metadata,
        outputs,
        inputs,
        vector,
    ) = row
    return Example(
        id=id_,
        inputs=inputs,
        outputs=outputs,
        metadata=metadata,
        split=split,
        status=_WORD_TO_STATUS[status],
        subject_id=subject_id,
        group=group,
        vector=vector,
        seq=seq,
        feature_seq=feature_seq,
        added_in=added_in,
        removed_in=removed_in,
        created_at=created_at,
        updated_at=updated_at,
    )


def to_header(row: Sequence[Any]) -> ExampleHeader:
    """Build a header from a row of `HEADER_COLUMNS`."""
    id_, seq, feature_seq, status, *rest = row
    return ExampleHeader(id_, seq, feature_seq, _WORD_TO_STATUS[status], *rest)


def to_row(example: NewExample, pool_id: int) -> dict[str, Any]:
    """Build the columns that depend on the example alone; `InvalidInput` if a text cannot be stored."""
    require_text(example.id, "/id")
    for name, text in (
        ("split", example.split),
        ("subject_id", example.subject_id),
        ("group", example.group),
    ):
        if text is not None:
            require_text(text, f"/{name}")
    return {
        "pool_id": pool_id,
        "id": example.id,
        "status": str(example.status),
        "split": example.split,
        "subject_id": example.subject_id,
        "group": example.group,
        "content_hash": content_hash(example.inputs, example.outputs),
        "input_hash": input_hash(example.inputs),
        "short_outputs": _short(example.outputs),
        "metadata": example.metadata,
        "outputs": example.outputs,
        "inputs": example.inputs,
        "vector": example.vector,
    }


def _short(outputs: Content | None) -> Content | None:
    if not isinstance(outputs, dict):
        return outputs if _is_short(outputs) else None
    short = ((name, value) for name, value in outputs.items() if _is_short(value))
    return dict(islice(short, _SHORT_FIELDS)) or None


def _is_short(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= SHORT_OUTPUTS_CHARS
    return isinstance(value, bool | int | float)
