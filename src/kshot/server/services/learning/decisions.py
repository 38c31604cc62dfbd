"""Decisions after they were made: read, activated, cancelled, overridden, erased."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from kshot.errors import DecisionConflict, Unavailable
from kshot.index.store import Store
from kshot.records import DecisionRecord, NewFeedback
from kshot.schemas.base import Deleted
from kshot.schemas.decisions import DecideRequest, DecisionReply, ServedRequest
from kshot.selectors.bandits.feedback import EventKind
from kshot.selectors.bandits.ledger import Account, Status, Verdict
from kshot.server.services.learning.deciding import Deciding
from kshot.server.services.learning.definitions import FROZEN_AT, Definition
from kshot.server.services.learning.eligibility import known_variant
from kshot.server.services.learning.events import outcome_event
from kshot.server.services.learning.feedback import Judgement
from kshot.server.services.learning.learner import Learner
from kshot.server.services.learning.outcomes import FROZEN, account_of, is_learnt_from
from kshot.server.services.learning.replies import decision_reply
from kshot.server.services.learning.states import PolicyStates

ERASURE = "erasure"
"""Idempotency key of the event that voids a decision for good before it is erased, and outlives it."""
_ATTEMPTS = 20
_ERASED_AT_ONCE = 500


class DecisionService:
    """The routes' view of decisions, and what feedback asks about them."""

    def __init__(self, store: Store, states: PolicyStates, deciding: Deciding) -> None:
        self._store = store
        self._states = states
        self._deciding = deciding

    async def decide(
        self, policy: str, request: DecideRequest, *, selection_id: str | None = None
    ) -> DecisionReply:
        """Choose a variant; see `kshot.server.services.learning.deciding.Deciding.decide`."""
        return await self._deciding.decide(policy, request, selection_id=selection_id)

    async def get(self, decision_id: str) -> DecisionReply:
        """Return a decision and what is known of its outcome."""
        return await asyncio.to_thread(self._reply, decision_id)

    async def activate(self, decision_id: str) -> DecisionReply:
        """Take note that what was decided was shown; a second time changes nothing."""
        return await asyncio.to_thread(self._said, decision_id, EventKind.ACTIVATE)

    async def cancel(self, decision_id: str) -> DecisionReply:
        """Take note that what was decided was never shown: nothing counts, now or later."""
        return await asyncio.to_thread(self._said, decision_id, EventKind.CANCEL)

    async def served(self, decision_id: str, request: ServedRequest) -> DecisionReply:
        """Take note that another variant was shown: its probability is unknown, its outcome counts."""
        return await asyncio.to_thread(self._overridden, decision_id, request.variant)

    async def delete(self, subject_id: str) -> Deleted:
        """Erase every decision about a subject, with all that was learnt from it."""
        return Deleted(deleted=await asyncio.to_thread(self._erase, subject_id))

    def find(self, decision_id: str) -> DecisionRecord:
        """Return a decision; `DecisionNotFound` if there is none. Blocks."""
        return self._store.get_decision(decision_id)

    def of_selection(self, selection_id: str) -> DecisionRecord | None:
        """Return the decision that a selection was made by, if there is one. Blocks."""
        return self._store.decision_of_selection(selection_id)

    def metric_of(self, policy_id: int) -> str:
        """Return the metric that a policy learns from. Blocks."""
        return self._states.find(policy_id).definition.settings.metric

    def judge(self, decision: DecisionRecord, event: NewFeedback) -> Judgement:
        """Say what an event would do, going by what is known of its decision. Blocks."""
        learner = self._states.find(decision.policy_id)
        verdict = self._account(decision, learner).verdict(outcome_event(event))
        if verdict is Verdict.CANCELLED:
            return Judgement(conflict="it was cancelled, so nothing counts any more")
        if verdict.conflict:
            done = "taken back" if event.kind == "retract" else "corrected"
            return Judgement(conflict=f"it has no {event.metric} that could be {done}")
        return Judgement(unlearnt=_unlearnt(verdict, learner.definition, decision))

    def appended(self, policy_id: int) -> None:
        """Take note that the log has news of a policy's decisions."""
        self._states.appended(policy_id)

    def _account(self, record: DecisionRecord, learner: Learner) -> Account:
        events = self._store.feedback_of("decision", [record.id])[record.id]
        return account_of(record, events, learner.definition.rules)

    def _reply(self, decision_id: str) -> DecisionReply:
        record = self._store.get_decision(decision_id)
        learner = self._states.find(record.policy_id)
        return decision_reply(record, learner.definition, account=self._account(record, learner))

    def _said(self, decision_id: str, kind: EventKind) -> DecisionReply:
        record = self._store.get_decision(decision_id)
        learner = self._states.find(record.policy_id)
        account = self._account(record, learner)
        wanted = Status.CANCELLED if kind is EventKind.CANCEL else Status.ACTIVE
        if account.status is not wanted:
            if account.status is Status.CANCELLED:
                raise DecisionConflict(f"decision {decision_id!r} was cancelled, for good")
            self._store.append_feedback([_event(record, kind, kind.value)])
            self._states.appended(record.policy_id)
        return self._reply(decision_id)

    def _overridden(self, decision_id: str, variant: str) -> DecisionReply:
        record = self._store.get_decision(decision_id)
        learner = self._states.find(record.policy_id)
        known_variant(learner.definition, "/variant", variant)
        for _ in range(_ATTEMPTS):
            events = self._store.feedback_of("decision", [record.id])[record.id]
            account = account_of(record, events, learner.definition.rules)
            if account.status is Status.CANCELLED:
                raise DecisionConflict(f"decision {decision_id!r} was cancelled, for good")
            if account.arm == variant:
                return decision_reply(record, learner.definition, account=account)
            # Numbered, so that of two that override at once the later sees the earlier.
            number = sum(event.kind == EventKind.SERVED.value for event in events)
            event = _event(record, EventKind.SERVED, f"served-{number}", variant)
            self._store.append_feedback([event])
            self._states.appended(record.policy_id)
        raise Unavailable(f"decision {decision_id!r} is overridden by too many requests at once")

    def _erase(self, subject_id: str) -> int:
        records = self._store.decisions_of_subject(subject_id)
        by_policy: dict[int, list[DecisionRecord]] = {}
        for record in records:
            by_policy.setdefault(record.policy_id, []).append(record)
        for policy_id, some in by_policy.items():
            self._unlearn(policy_id, some)
        # What was learnt from them is gone from every saved state; now their own rows.
        self._store.wipe_decisions([record.id for record in records], keep_key=ERASURE)
        return len(records)

    def _unlearn(self, policy_id: int, records: Sequence[DecisionRecord]) -> None:
        """Subtract decisions from a policy's state, in the log's order like any news."""
        last = 0
        for start in range(0, len(records), _ERASED_AT_ONCE):
            some = records[start : start + _ERASED_AT_ONCE]
            appended = self._store.append_feedback(
                [_event(record, EventKind.CANCEL, ERASURE) for record in some]
            )
            last = max(last, *(one.event.seq for one in appended))
        for _ in range(_ATTEMPTS):
            record = self._store.get_policy_by_id(policy_id)
            learner = self._states.opened(record)
            frozen_at = learner.definition.frozen_at
            if frozen_at is not None and frozen_at < last:
                # An erasure is learnt even by a policy that learns nothing else.
                config = {**record.config, FROZEN_AT: last}
                record = self._store.update_policy(
                    policy_id, config, expected=record.stamp, learns_anew=False
                )
                learner = self._states.opened(record)
            learner.catch_up()
            # Only with this on disk may what it was subtracted from go: who follows later takes it over.
            if learner.save(now=True) and learner.learnt.upto_seq >= last:
                self._store.drop_policy_states(policy_id, before_seq=last)
                return
        raise Unavailable(f"policy {record.name!r} is changed by too many requests at once")


def _unlearnt(verdict: Verdict, definition: Definition, decision: DecisionRecord) -> str:
    """Say why nothing is learnt from an event that can be; empty if it is."""
    if verdict is Verdict.LATE:
        return "it came after the metric's window: kept, but not learnt from"
    if verdict is Verdict.NOT_LEARNT:
        return "it weighs nothing: kept, but not learnt from"
    if is_learnt_from(definition, decision):
        return ""
    if decision.mode == FROZEN:
        return "the policy was frozen as it decided: kept, but not learnt from"
    return "it was decided on other features than the policy looks at now: kept, but not learnt from"


def _event(record: DecisionRecord, kind: EventKind, key: str, variant: str | None = None) -> NewFeedback:
    now = datetime.now(UTC)
    return NewFeedback(
        target_kind="decision",
        target_id=record.id,
        policy_id=record.policy_id,
        # No metric's feedback can have the same key.
        metric="",
        idempotency_key=key,
        kind=kind.value,
        variant=variant,
        occurred_at=now,
        received_at=now,
    )
