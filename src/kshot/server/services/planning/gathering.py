"""From a request and a snapshot to what a planner is given."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from kshot.arrays import Float64s, Int64s
from kshot.errors import FieldError, InvalidInput
from kshot.index.planning import (
    PlanRows,
    plan_rows,
    row_ids,
    strata_of,
    structures_of_rows,
    tags_of,
    text_in,
)
from kshot.index.snapshot import Snapshot
from kshot.index.store import Store
from kshot.schemas.base import Notice
from kshot.schemas.plans import PlanRequest
from kshot.selectors.annotation import PlanCandidates, Planner
from kshot.selectors.annotation.base import PlanFeature
from kshot.server.services.runtime import PoolRuntime
from kshot.server.validation import refusal
from kshot.structures import structures_of

MOST_TAGS = 5_000
"""Every tag is compared with every other."""
_TEXTS_AT_ONCE = 1_000
_NAMED = 3
_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Task:
    """Which rows a plan is about, and what is known of them without reading any text.

    Attributes
    ----------
    snapshot : Snapshot
    part : PlanRows
    costs : float64 array, shape (m,), or None
        NaN for labelled rows without a cost.
    strata : int64 array, shape (m,), or None
        The stratum of each row, a place in ``stratum_names``.
    stratum_names : list of str or None
    shares : float64 array, or None
        What each stratum is to get; None for its proportion.
    confidence, quality : float64 array, shape (m,), or None
    notices : list of Notice
    """

    snapshot: Snapshot
    part: PlanRows
    costs: Float64s | None = None
    strata: Int64s | None = None
    stratum_names: list[str | None] = field(default_factory=list)
    shares: Float64s | None = None
    confidence: Float64s | None = None
    quality: Float64s | None = None
    notices: list[Notice] = field(default_factory=list)

    @property
    def unlabelled(self) -> int:
        """Rows that can be planned."""
        return int(np.count_nonzero(~self.part.labelled))

    def ids(self, indices: Int64s) -> list[str]:
        """Return the ids of some of the rows."""
        return row_ids(self.snapshot, self.part.rows[indices])

    def candidates(self) -> PlanCandidates:
        """Return what the planner is given, but for the graph and what stands in the texts."""
        dense = self.snapshot.dense
        return PlanCandidates(
            labelled=self.part.labelled,
            vectors=None if dense is None else dense.vectors[self.part.rows],
            confidence=self.confidence,
            quality=self.quality,
        )


def task_of(snapshot: Snapshot, request: PlanRequest, planner: Planner) -> Task:
    """Find the rows of a plan and read their fields.

    Raises
    ------
    InvalidInput
        Nothing is left to label; the planner needs what the request does not name; a cost is missing or
        negative; a wanted stratum has no unlabelled rows.
    """
    part = plan_rows(snapshot, request.filter, request.exclude_splits)
    notices = [
        Notice(code="field_unseen", message=f"no example has the field {name}") for name in part.unseen_fields
    ]
    if part.repeated:
        message = f"{part.repeated} unlabelled examples repeat the inputs of another one, and were left out"
        notices.append(Notice(code="equal_inputs", message=message))
    task = Task(snapshot, part, notices=notices)
    if not task.unlabelled:
        repeated = f", {part.repeated} others repeat the inputs of one of them" if part.repeated else ""
        raise InvalidInput(
            f"nothing is left to label: {len(part.rows)} examples take part, and all have outputs{repeated}; "
            "upload unlabelled ones, or widen `filter` and `exclude_splits`"
        )
    task = replace(
        task,
        confidence=_numbers(task, request.confidence_field, "confidence_field", notices),
        quality=_qualities(task, request.quality_field, notices),
    )
    _require(planner, request, task)
    task = replace(task, costs=_costs(task, request))
    return _with_strata(task, request)


def complete(
    candidates: PlanCandidates,
    task: Task,
    request: PlanRequest,
    planner: Planner,
    store: Store,
    runtime: PoolRuntime,
) -> PlanCandidates:
    """Add what the planner reads from texts and tags.

    Raises
    ------
    MissingDependency
        Structures need a parser that is not installed.
    KshotError
        The embedder does not work.
    """
    asked = planner.needs | planner.wants
    if PlanFeature.STRUCTURES in asked:
        texts = _texts(store, runtime, task.snapshot.seqs[task.part.rows])
        found = structures_of(texts, request.structures)
        candidates = replace(candidates, structures=structures_of_rows(found))
    if PlanFeature.TAGS in asked and request.tag_field is not None:
        tags, names = tags_of(task.snapshot, task.part.rows, request.tag_field)
        candidates = replace(candidates, tags=tags, tag_vectors=_tag_vectors(runtime, names))
    return candidates


def _require(planner: Planner, request: PlanRequest, task: Task) -> None:
    """Refuse a request that does not name what its planner reads."""
    errors = []
    asked_for = request.confidence is not None
    if PlanFeature.CONFIDENCE in planner.needs and request.confidence_field is None and not asked_for:
        message = "is missing; the method goes by confidences, and `confidence` is not given either"
        errors.append(FieldError("/confidence_field", message))
    if asked_for and PlanFeature.CONFIDENCE not in planner.needs | planner.wants:
        errors.append(FieldError("/confidence", "is given, but the method goes by no confidences"))
    elif asked_for and not task.part.labelled.any():
        message = "is given, but no labelled example takes part, of which the scorer's prompts are made"
        errors.append(FieldError("/confidence", message))
    if PlanFeature.TAGS in planner.needs:
        if request.tag_field is None:
            errors.append(FieldError("/tag_field", "is missing; the method goes by tags"))
        else:
            count = len(tags_of(task.snapshot, task.part.rows, request.tag_field)[1])
            if not 1 <= count <= MOST_TAGS:
                message = (
                    f"{request.tag_field} has {count} values in the examples that take part, allowed 1 to "
                    f"{MOST_TAGS}"
                )
                errors.append(FieldError("/tag_field", message))
    if errors:
        raise refusal(errors)


def _numbers(task: Task, field_name: str | None, setting: str, notices: list[Notice]) -> Float64s | None:
    if field_name is None:
        return None
    values = task.snapshot.numbers(field_name)[task.part.rows]
    missing = np.isnan(values) & ~task.part.labelled
    if missing.any():
        message = (
            f"{np.count_nonzero(missing)} of {task.unlabelled} unlabelled examples have no number in "
            f"{field_name}{_but_text(task, missing, field_name)}"
        )
        notices.append(Notice(code=f"{setting}_missing", message=message))
    return values


def _qualities(task: Task, field_name: str | None, notices: list[Notice]) -> Float64s | None:
    """Return qualities above 0; an example without one has the median of the others."""
    values = _numbers(task, field_name, "quality_field", notices)
    if values is None:
        return None
    known = ~np.isnan(values)
    if not known.any():
        return None
    _refuse(task, known & ~(values > 0), values, "/quality_field", "allowed > 0")
    return np.where(known, values, np.median(values[known]))


def _costs(task: Task, request: PlanRequest) -> Float64s | None:
    if request.cost_field is None:
        return None
    costs = task.snapshot.numbers(request.cost_field)[task.part.rows]
    if request.default_cost is not None:
        costs = np.where(np.isnan(costs), request.default_cost, costs)
    open_rows = ~task.part.labelled
    missing = open_rows & np.isnan(costs)
    if missing.any():
        message = (
            f"{np.count_nonzero(missing)} unlabelled examples have no number in {request.cost_field}, "
            f"such as {_named(task, missing)}{_but_text(task, missing, request.cost_field)}; give them one, "
            "or set `default_cost`"
        )
        raise refusal([FieldError("/cost_field", message, "missing")])
    _refuse(task, open_rows & (costs < 0), costs, "/cost_field", "allowed >= 0")
    return costs


def _refuse(task: Task, wrong: Any, values: Float64s, pointer: str, allowed: str) -> None:
    if wrong.any():
        first = int(np.argmax(wrong))
        message = (
            f"{np.count_nonzero(wrong)} examples are out of range, such as {_named(task, wrong)} with "
            f"{values[first]:g}, {allowed}"
        )
        raise refusal([FieldError(pointer, message, "range")])


def _named(task: Task, mask: Any) -> str:
    return ", ".join(map(repr, task.ids(np.flatnonzero(mask)[:_NAMED])))


def _but_text(task: Task, without_number: Any, field_name: str) -> str:
    """Explain missing numbers by the text that stands in their place, if any does."""
    text = text_in(task.snapshot, task.part.rows[without_number], field_name)
    if text is None:
        return ""
    return f"; it holds text, such as {text[:_SHOWN]!r} (a CSV file gives text only, JSON Lines give numbers)"


def _with_strata(task: Task, request: PlanRequest) -> Task:
    if request.strata is None:
        return task
    codes, names = strata_of(task.snapshot, task.part.rows, request.strata.field)
    if names == [None]:
        message = f"no example that takes part has the field {request.strata.field}"
        raise refusal([FieldError("/strata/field", message)])
    shares = None
    if request.strata.shares is not None:
        shares = np.array([request.strata.shares.get(name or "", 0.0) for name in names], np.float64)
        counts = np.bincount(codes[~task.part.labelled], minlength=len(names))
        present = {name for name, count in zip(names, counts, strict=True) if count}
        empty = [name for name in request.strata.shares if name not in present]
        if empty:
            held = ", ".join(repr(name) for name in names if name in present)[:400]
            raise refusal(
                [
                    FieldError(f"/strata/shares/{name}", f"has no unlabelled examples; allowed: {held}")
                    for name in empty
                ]
            )
        if not shares.any():
            raise refusal([FieldError("/strata/shares", "are all 0, allowed at least one above 0")])
    return replace(task, strata=codes, stratum_names=names, shares=shares)


def _texts(store: Store, runtime: PoolRuntime, seqs: Int64s) -> list[str]:
    seq_to_text: dict[int, str] = {}
    for start in range(0, len(seqs), _TEXTS_AT_ONCE):
        some = seqs[start : start + _TEXTS_AT_ONCE].tolist()
        for example in store.get_examples_by_seq(runtime.record.id, some):
            seq_to_text[example.seq] = runtime.templates.embed_text(example.inputs)
    # Empty for an example that was erased meanwhile.
    return [seq_to_text.get(seq, "") for seq in seqs.tolist()]


def _tag_vectors(runtime: PoolRuntime, names: list[str]) -> Any:
    """Embed the names of tags, so that like ones are alike; without a text encoder no two are alike."""
    if runtime.settings.embedder.type == "external" or not names:
        return np.eye(len(names), dtype=np.float32)
    return np.concatenate(
        [
            runtime.embedder.encode(
                [name or " " for name in names[start : start + _TEXTS_AT_ONCE]], token_layer=None
            ).vectors
            for start in range(0, len(names), _TEXTS_AT_ONCE)
        ]
    )
