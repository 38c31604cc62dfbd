"""What falls due: defaults at the end of a window, and decisions past their retention."""

import time
from datetime import UTC, datetime, timedelta

from kshot.index.store import Store
from kshot.records import DecisionRecord, NewFeedback
from kshot.selectors.bandits.feedback import EventKind
from kshot.selectors.bandits.ledger import Account, Status
from kshot.server.services.learning.learner import Learner
from kshot.server.services.learning.outcomes import account_of
from kshot.server.services.learning.states import PolicyStates

EXPIRY = "expiry"
"""Idempotency key of the event that ends a decision's window."""
BATCH = 500
"""Decisions that are looked at per policy and round."""
BATCHES = 20
"""At most so many of these."""
GRACE_S = 2.0
"""Decisions are recorded a little after the time they bear."""
PURGE_EVERY_S = 3_600.0


class Sweeper:
    """Ends windows and purges; every process may have one, as what it appends counts once."""

    def __init__(self, store: Store, states: PolicyStates) -> None:
        self._store = store
        self._states = states
        self._id_to_place: dict[int, tuple[datetime, str]] = {}
        self._next_purge = 0.0

    def sweep(self) -> None:
        """Do what is due; called about every second."""
        now = datetime.now(UTC)
        for learner in self._states.all():
            # A start finds all decisions of before; they are looked through little by little.
            for _ in range(BATCHES):
                if not self.expire(learner, now):
                    break
        if time.monotonic() >= self._next_purge:
            self._next_purge = time.monotonic() + PURGE_EVERY_S
            for learner in self._states.all():
                self.purge(learner, now)

    def expire(self, learner: Learner, now: datetime) -> bool:
        """End windows that have passed of decisions without a value; True if there may be more."""
        definition = learner.definition
        metric = definition.settings.metric
        rule = definition.rules.metrics[metric]
        if rule.default is None:
            return False
        before = now - timedelta(seconds=rule.window_s + min(GRACE_S, rule.window_s))
        place = self._id_to_place.get(definition.id)
        if place is not None and place[0] > before:
            # The clock was set back: what is decided from now on comes before where this had got to.
            place = self._id_to_place[definition.id] = (before, "")
        due = self._store.decisions_between(definition.id, place, before, BATCH)
        if not due:
            return False
        events = self._store.feedback_of("decision", [record.id for record in due])
        expired = [
            _expiry(record, now)
            for record in due
            if _lacks_value(metric, account_of(record, events[record.id], definition.rules))
        ]
        self._store.append_feedback(expired)
        if expired:
            self._states.appended(definition.id)
        self._id_to_place[definition.id] = (due[-1].decided_at, due[-1].id)
        return len(due) == BATCH

    def purge(self, learner: Learner, now: datetime) -> tuple[int, int]:
        """Delete decisions and sessions past their time, and return how many of each."""
        definition = learner.definition
        settings = definition.settings
        record = definition.record
        sessions = self._store.purge_sessions(record.id, now - timedelta(seconds=settings.session_ttl_s))
        saved = [one for one in self._store.saved_policy_states(record.id, record.version) if one.is_whole]
        if not saved and learner.learnt.upto_seq:
            return 0, sessions
        # Never before its outcome can be known, nor before even the oldest saved state knows it.
        kept = max(timedelta(days=settings.retention_days), timedelta(seconds=definition.window_s))
        oldest = min((one.upto_seq for one in saved), default=0)
        return self._store.purge_decisions(record.id, now - kept, folded_seq=oldest), sessions


def _lacks_value(metric: str, account: Account) -> bool:
    is_open = account.status is not Status.CANCELLED and metric not in account.expired
    return is_open and not account.values.get(metric)


def _expiry(record: DecisionRecord, now: datetime) -> NewFeedback:
    return NewFeedback(
        target_kind="decision",
        target_id=record.id,
        policy_id=record.policy_id,
        metric="",
        idempotency_key=EXPIRY,
        kind=EventKind.EXPIRE.value,
        occurred_at=now,
        received_at=now,
    )
