"""Feedback: checked, appended to the log once, and folded by whoever learns from it."""

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol

from kshot.errors import (
    DecisionConflict,
    FieldError,
    InvalidInput,
    InvalidParameter,
    KshotError,
    SelectionNotFound,
    Unavailable,
)
from kshot.index.store import Store
from kshot.index.store.feedback import Appended
from kshot.records import DecisionRecord, NewFeedback, Selection, canonical_json
from kshot.schemas.base import Notice
from kshot.schemas.feedback import (
    Feedback,
    FeedbackBatch,
    FeedbackBatchReply,
    FeedbackReply,
    RefusedFeedback,
    UtilityList,
)
from kshot.selectors.bandits.metric_rules import MetricRule
from kshot.server.services.examples import ExampleService
from kshot.server.services.learning.metrics import DEFAULT_METRIC, ensure_metric, rule_of
from kshot.server.services.learning.utilities import utility_page
from kshot.server.services.registry import PoolRegistry
from kshot.server.services.selection_log import SelectionLog
from kshot.server.validation import refusal, validated

DEMONSTRATION = "demonstration"
"""The metric under which corrected outputs stand in the log; they have no value."""
AHEAD = timedelta(minutes=5)
"""How far another machine's clock may be ahead before its times are not believed."""
_STEPS = 200


class Judgement(NamedTuple):
    """What an event about a decision would do; empty where it would be learnt from."""

    conflict: str = ""
    """Why it cannot be."""
    unlearnt: str = ""
    """Why it is kept, and nothing is learnt from it."""


class Decisions(Protocol):
    """What feedback asks of whoever keeps decisions and learns from their outcomes."""

    def find(self, decision_id: str) -> DecisionRecord:
        """Return a decision; `DecisionNotFound` if there is none. Blocks."""
        ...

    def of_selection(self, selection_id: str) -> DecisionRecord | None:
        """Return the decision that a selection was made by, if there is one. Blocks."""
        ...

    def metric_of(self, policy_id: int) -> str:
        """Return the metric that a policy learns from. Blocks."""
        ...

    def judge(self, decision: DecisionRecord, event: NewFeedback) -> Judgement:
        """Say what an event would do, going by what is known of its decision. Blocks."""
        ...

    def appended(self, policy_id: int) -> None:
        """Take note that the log has news of a policy's decisions."""
        ...


@dataclass(frozen=True, slots=True)
class _Checked:
    """An item that may be appended, and what is left to do for it."""

    events: list[NewFeedback]
    folded: bool
    parked: bool
    warnings: list[Notice]
    selection: Selection | None


class FeedbackService:
    """The routes' view of outcomes. An acknowledged outcome is on disk, and counts once."""

    def __init__(
        self,
        store: Store,
        registry: PoolRegistry,
        examples: ExampleService,
        selections: SelectionLog,
        decisions: Decisions,
    ) -> None:
        self._store = store
        self._registry = registry
        self._examples = examples
        self._selections = selections
        self._decisions = decisions

    async def add(self, request: Feedback) -> FeedbackReply:
        """Append one outcome."""
        await self._flushed([request])
        checked = await asyncio.to_thread(self._check, request)
        return await self._append(request, checked)

    async def add_batch(self, request: FeedbackBatch) -> FeedbackBatchReply:
        """Append many outcomes; a bad one stops no other."""
        replies: list[FeedbackReply | None] = [None] * len(request.items)
        refused: list[RefusedFeedback] = []
        items: list[tuple[int, Feedback]] = []
        for index, value in enumerate(request.items):
            try:
                items.append((index, validated(Feedback, value)))
            except InvalidInput as error:
                refused.append(RefusedFeedback(index=index, code=error.code, detail=error.message))
        await self._flushed([one for _, one in items])
        for some in _steps(items):
            checked = await asyncio.to_thread(self._check_all, some)
            sound = []
            for (index, item), one in zip(some, checked, strict=True):
                if isinstance(one, KshotError):
                    refused.append(RefusedFeedback(index=index, code=one.code, detail=one.message))
                else:
                    sound.append((index, item, one))
            for index, answer in await self._append_all(sound):
                if isinstance(answer, KshotError):
                    refused.append(RefusedFeedback(index=index, code=answer.code, detail=answer.message))
                else:
                    replies[index] = answer
        taken = [one for one in replies if one is not None]
        return FeedbackBatchReply(
            accepted=sum(not one.duplicate for one in taken),
            duplicates=sum(one.duplicate for one in taken),
            refused=sorted(refused, key=lambda one: one.index),
            data=replies,
        )

    async def utilities(self, pool: str, metric: str, cursor: str | None, limit: int) -> UtilityList:
        """Return one page of what examples were worth, those that hurt most first."""
        runtime = self._registry.get(pool)
        return await asyncio.to_thread(utility_page, self._store, runtime.record.id, metric, cursor, limit)

    async def _flushed(self, requests: Sequence[Feedback]) -> None:
        """Wait until selections that are asked about and not written yet are on disk."""
        waiting = (one.selection_id for one in requests if one.selection_id is not None)
        if any(self._selections.find(selection_id) is not None for selection_id in waiting):
            await self._selections.flushed()

    async def _append_all(
        self, sound: Sequence[tuple[int, Feedback, _Checked]]
    ) -> list[tuple[int, FeedbackReply | KshotError]]:
        """Append all in one transaction; where that fails each on its own, so that the others are kept."""
        together = [one for one in sound if not one[1].dry_run and one[1].demonstration is None]
        events = [event for _, _, checked in together for event in checked.events]
        try:
            appended = iter(await asyncio.to_thread(self._store.append_feedback, events))
        except Unavailable as error:
            return [(index, error) for index, _, _ in sound]
        except KshotError:
            together = []
        answers: list[tuple[int, FeedbackReply | KshotError]] = [
            (index, self._appended(checked, [next(appended) for _ in checked.events]))
            for index, _, checked in together
        ]
        done = {index for index, _ in answers}
        for index, item, checked in sound:
            if index in done:
                continue
            try:
                answers.append((index, await self._append(item, checked)))
            except KshotError as error:
                answers.append((index, error))
        return answers

    def _check_all(self, items: Sequence[tuple[int, Feedback]]) -> list[_Checked | KshotError]:
        checked: list[_Checked | KshotError] = []
        for _, item in items:
            try:
                checked.append(self._check(item))
            except KshotError as error:
                checked.append(error)
        return checked

    def _check(self, request: Feedback) -> _Checked:
        now = datetime.now(UTC)
        warnings = []
        occurred_at = now if request.occurred_at is None else request.occurred_at
        if occurred_at > now + AHEAD:
            warnings.append(
                Notice(code="occurred_later", message="occurred_at is in the future; now is used")
            )
            occurred_at = now
        if request.decision_id is not None:
            decision = self._decisions.find(request.decision_id)
            event, folded = self._of_decision(decision, request, occurred_at, now, warnings)
            return _Checked([event], folded, False, warnings, None)
        return self._check_selection(request, occurred_at, now, warnings)

    def _of_decision(
        self,
        decision: DecisionRecord,
        request: Feedback,
        occurred_at: datetime,
        now: datetime,
        warnings: list[Notice],
    ) -> tuple[NewFeedback, bool]:
        learnt = self._decisions.metric_of(decision.policy_id)
        metric = request.metric or learnt
        self._check_value(metric, request)
        event = _event("decision", decision.id, decision.policy_id, metric, request, occurred_at, now)
        judgement = self._decisions.judge(decision, event)
        if judgement.conflict:
            raise DecisionConflict(f"decision {decision.id!r}: {judgement.conflict}")
        if metric == learnt and judgement.unlearnt:
            warnings.append(Notice(code="not_learnt", message=judgement.unlearnt))
        return event, metric == learnt and not judgement.unlearnt

    def _check_selection(
        self, request: Feedback, occurred_at: datetime, now: datetime, warnings: list[Notice]
    ) -> _Checked:
        assert request.selection_id is not None, "the schema wants one of the two"
        selection_id = request.selection_id
        selection: Selection | None
        try:
            selection = self._store.get_selection(selection_id)
        except SelectionNotFound:
            if request.demonstration is not None:
                raise
            selection = None
            message = "no selection of that id is known yet; it counts once one is"
            warnings.append(Notice(code="selection_unknown", message=message))
        if request.demonstration is not None and (selection is None or selection.query is None):
            reason = "the pool does not keep queries, so there are no inputs for the demonstration"
            raise refusal([FieldError("/demonstration", reason)])
        events, folded = [], False
        if request.demonstration is not None:
            events.append(_event("selection", selection_id, None, DEMONSTRATION, request, occurred_at, now))
        if request.value is not None or request.kind == "retract":
            metric = request.metric or DEFAULT_METRIC
            self._check_value(metric, request)
            events.append(_event("selection", selection_id, None, metric, request, occurred_at, now))
            decision = self._decisions.of_selection(selection_id)
            if decision is not None:
                event, folded = self._of_decision(decision, request, occurred_at, now, warnings)
                events.append(event)
        return _Checked(events, folded, selection is None, warnings, selection)

    def _check_value(self, metric: str, request: Feedback) -> MetricRule:
        rule = (
            ensure_metric(self._store, metric)
            if metric == DEFAULT_METRIC
            else rule_of(self._store.get_metric(metric))
        )
        if request.value is not None:
            if rule.boolean and not isinstance(request.value, bool) and request.value not in (0, 1):
                shown = f"{request.value!r}, allowed true or false"
                raise refusal([FieldError("/value", f"received {shown}")])
            try:
                rule.check(float(request.value))
            except InvalidParameter as error:
                raise refusal([FieldError("/value", f"metric {metric!r}: {error.message}")]) from None
        return rule

    async def _append(self, request: Feedback, checked: _Checked) -> FeedbackReply:
        if request.dry_run:
            return FeedbackReply(
                feedback_id="", folded=checked.folded, parked=checked.parked, warnings=checked.warnings
            )
        example_id = None
        if request.demonstration is not None and checked.selection is not None:
            example_id = await self._draft(checked.selection, request)
        appended = await asyncio.to_thread(self._store.append_feedback, checked.events)
        return self._appended(checked, appended, example_id)

    def _appended(
        self, checked: _Checked, appended: Sequence[Appended], example_id: str | None = None
    ) -> FeedbackReply:
        """Tell who learns from it that the log has news, and the caller what became of it."""
        for one in appended:
            if one.event.policy_id is not None and not one.duplicate:
                self._decisions.appended(one.event.policy_id)
        duplicate = all(one.duplicate for one in appended)
        return FeedbackReply(
            feedback_id=str(appended[-1].event.seq),
            duplicate=duplicate,
            folded=checked.folded and not duplicate,
            parked=checked.parked,
            example_id=example_id,
            warnings=[*checked.warnings, *_differences(checked.events, appended)],
        )

    async def _draft(self, selection: Selection, request: Feedback) -> str:
        """Store a corrected output as a draft example; the same again is no other example."""
        outputs = request.demonstration
        digest = _digest([selection.id, outputs])
        pool = self._store.get_pool_by_id(selection.pool_id).name
        row = {
            "id": f"feedback-{digest}",
            "inputs": selection.query,
            "outputs": outputs,
            "status": "draft",
            "metadata": {
                "selection_id": selection.id,
                **({} if request.source is None else {"annotator": request.source}),
            },
        }
        # What was approved or edited since stays as it is.
        reply = await self._examples.upsert(
            pool, [(1, row)], rejected=[], upto_line=1, wait="none", existing="keep"
        )
        if reply.rejected:
            raise refusal([FieldError("/demonstration", reply.rejected[0].message, reply.rejected[0].code)])
        return reply.ids[0]


def _steps(items: Sequence[tuple[int, Feedback]]) -> Iterator[list[tuple[int, Feedback]]]:
    """Cut a batch so that whatever is said of a target is in the log before more is said of it."""
    step: list[tuple[int, Feedback]] = []
    targets: set[str | None] = set()
    for one in items:
        target = one[1].decision_id or one[1].selection_id
        if len(step) == _STEPS or target in targets:
            yield step
            step, targets = [], set()
        step.append(one)
        targets.add(target)
    if step:
        yield step


def _event(
    target_kind: str,
    target_id: str,
    policy_id: int | None,
    metric: str,
    request: Feedback,
    occurred_at: datetime,
    now: datetime,
) -> NewFeedback:
    value = None if metric == DEMONSTRATION or request.value is None else float(request.value)
    said = [request.kind, value, request.source, request.of, request.weight, request.tags]
    if request.occurred_at is not None:
        said.append(request.occurred_at.isoformat())
    if metric == DEMONSTRATION:
        said.append(request.demonstration)
    return NewFeedback(
        target_kind=target_kind,
        target_id=target_id,
        policy_id=policy_id,
        metric=metric,
        idempotency_key=request.idempotency_key or f"auto-{_digest(said)}",
        kind=request.kind,
        value=value,
        of=request.of,
        weight=request.weight,
        source=request.source,
        tags=dict(request.tags),
        occurred_at=occurred_at,
        received_at=now,
    )


def _differences(asked: Sequence[NewFeedback], appended: Sequence[Appended]) -> list[Notice]:
    """Say where the log holds something else under the key of a duplicate."""
    for event, one in zip(asked, appended, strict=True):
        present = one.event
        if one.duplicate and (present.kind, present.value) != (event.kind, event.value):
            message = (
                f"the log has {present.kind} {present.value} under this key and keeps it; "
                "send kind `correct` with a key of its own to replace it"
            )
            return [Notice(code="value_differs", message=message)]
    return []


def _digest(value: Any) -> str:
    return hashlib.blake2b(canonical_json(value).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
