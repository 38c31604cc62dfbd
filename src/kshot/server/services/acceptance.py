"""From a row of unknown shape to an example that can be stored and served."""

from collections.abc import Mapping, Sequence
from typing import Any

from kshot.arrays import unit_rows
from kshot.errors import DimensionMismatch, FieldError, InvalidInput, InvalidShape
from kshot.records import Example, NewExample, Status, canonical_json, content_hash
from kshot.schemas.annotations import AnswerIn
from kshot.schemas.examples import ExampleIn, ExamplePatch
from kshot.server.services.runtime import PoolRuntime
from kshot.server.validation import refusal, validated

MAX_METADATA_DEPTH = 16
MAX_METADATA_FIELDS = 256
ANNOTATOR, ANNOTATED_AT = "annotator", "annotated_at"
"""Where the metadata says who gave the outputs, and when."""


def new_example(runtime: PoolRuntime, value: Any) -> NewExample:
    """Return the example that a row of an upload describes.

    Raises
    ------
    InvalidInput, DimensionMismatch
        The row cannot be stored, or could never be served; ``errors`` holds pointers into the row.
    """
    row = validated(ExampleIn, value)
    example = NewExample(
        id=row.id or content_hash(row.inputs, row.outputs),
        inputs=row.inputs,
        outputs=row.outputs,
        metadata=row.metadata,
        split=row.split,
        status=row.status or (Status.DRAFT if row.outputs is None else Status.APPROVED),
        subject_id=row.subject_id,
        group=row.group,
        vector=_stored_vector(runtime, row.vector),
    )
    _check(runtime, example)
    return example


def accepted_changes(runtime: PoolRuntime, old: Example, request: ExamplePatch) -> dict[str, Any]:
    """Return the fields that a patch changes, as the store keeps them; null clears a field.

    Raises
    ------
    InvalidInput, DimensionMismatch
        A field cannot be cleared, or the example could not be served afterwards.
    """
    changes = {name: getattr(request, name) for name in request.model_fields_set}
    uncleared = [name for name in ("inputs", "status") if changes.get(name, "set") is None]
    if uncleared:
        raise refusal([FieldError(f"/{name}", "received null, allowed a value") for name in uncleared])
    if changes.get("metadata", {}) is None:
        changes["metadata"] = {}
    if "vector" in changes:
        changes["vector"] = _stored_vector(runtime, request.vector)
    fields = {name: changes.get(name, getattr(old, name)) for name in NewExample.__dataclass_fields__}
    _check(runtime, NewExample(**fields))
    return changes


def annotated(runtime: PoolRuntime, old: NewExample, answer: AnswerIn) -> NewExample:
    """Return the approved example that an answer makes of one; who and when go into its metadata.

    Raises
    ------
    InvalidInput
        The example could not be served with these outputs.
    """
    is_replaced = old.outputs is not None and canonical_json(old.outputs) != canonical_json(answer.outputs)
    metadata = {
        name: value
        for name, value in old.metadata.items()
        # What was said of outputs that are gone goes with them.
        if not (is_replaced and name in {ANNOTATOR, ANNOTATED_AT})
    }
    if answer.annotator is not None:
        metadata[ANNOTATOR] = answer.annotator
    if answer.annotated_at is not None:
        metadata[ANNOTATED_AT] = answer.annotated_at.isoformat()
    if len(metadata) > MAX_METADATA_FIELDS:
        raise refusal([FieldError("/annotator", "leaves no room in the example's metadata")])
    fields = {name: getattr(old, name) for name in NewExample.__dataclass_fields__}
    fields |= {"outputs": answer.outputs, "status": Status.APPROVED, "metadata": metadata}
    example = NewExample(**fields)
    try:
        _check(runtime, example)
    except InvalidInput as error:
        # The inputs were accepted before, so the fault is the answer's.
        first = error.errors[0]
        raise refusal([FieldError("/outputs", first.message, first.code)]) from None
    return example


def unit_vector(runtime: PoolRuntime, vector: Sequence[float]) -> Any:
    """Return a caller's vector scaled to length 1, as float32 array of shape (d,).

    Raises
    ------
    InvalidInput
        The pool embeds texts by itself, or the vector has no direction.
    DimensionMismatch
        The vector has another dimension than the pool.
    """
    spec = runtime.settings.embedder
    if spec.type != "external":
        raise refusal(
            [FieldError("/vector", f"is not allowed: the pool's embedder is {spec.type}, not external")]
        )
    if len(vector) != spec.dimension:
        message = f"received {len(vector)} numbers, allowed {spec.dimension}"
        raise DimensionMismatch(
            f"/vector {message}", errors=[FieldError("/vector", message, DimensionMismatch.code)]
        )
    try:
        return unit_rows([vector])[0]
    except InvalidShape:
        raise refusal([FieldError("/vector", "has length zero, so no direction")]) from None


def _stored_vector(runtime: PoolRuntime, vector: Sequence[float] | None) -> bytes | None:
    if vector is not None:
        stored: bytes = unit_vector(runtime, vector).astype("<f4").tobytes()
        return stored
    if runtime.settings.embedder.type == "external":
        raise refusal([FieldError("/vector", "is missing; the pool's embedder is external", "missing")])
    return None


def _check(runtime: PoolRuntime, example: NewExample) -> None:
    """Refuse what validates as JSON but could never be served."""
    errors = []
    if example.status is Status.APPROVED and example.outputs is None:
        errors.append(FieldError("/outputs", "is missing; only drafts may come without outputs", "missing"))
    if _depth(example.metadata) > MAX_METADATA_DEPTH:
        errors.append(FieldError("/metadata", f"is nested deeper than {MAX_METADATA_DEPTH} levels"))
    if errors:
        raise refusal(errors)
    try:
        text = runtime.templates.embed_text(example.inputs)
        if example.outputs is not None:
            runtime.templates.turn(example.inputs, example.outputs, example.metadata)
    except InvalidInput as error:
        message = f"does not fit the pool's templates: {error.message}"
        raise refusal([FieldError("/inputs", message, error.code)]) from None
    if not text.strip():
        raise refusal([FieldError("/inputs", "gives an empty text to embed")])


def _depth(value: Any, limit: int = MAX_METADATA_DEPTH + 1) -> int:
    if limit == 0 or not isinstance(value, Mapping | list):
        return 0
    parts = value.values() if isinstance(value, Mapping) else value
    return 1 + max((_depth(part, limit - 1) for part in parts), default=0)
