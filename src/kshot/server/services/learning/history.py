"""Decisions of a policy with what became of them, newest first up to a limit, in the order of time."""

from dataclasses import dataclass
from datetime import UTC, datetime
from math import ldexp

from kshot.index.store import Store
from kshot.records import DecisionRecord
from kshot.selectors.bandits.grid import REWARD_BITS
from kshot.selectors.bandits.ledger import Outcome
from kshot.selectors.bandits.metric_rules import RewardRules
from kshot.server.services.learning.drawing import CONTROL_GUARD
from kshot.server.services.learning.outcomes import account_of

MOST = 50_000
"""Decisions looked at, the newest."""
_BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Told:
    """A decision and its outcome."""

    record: DecisionRecord
    outcome: Outcome

    @property
    def reward(self) -> float | None:
        """In [0, 1]; None while nothing that counts is known."""
        return ldexp(self.outcome.reward, -REWARD_BITS) if self.outcome.known else None

    @property
    def served(self) -> str:
        """What was shown in the end."""
        return self.record.served if self.outcome.arm is None else self.outcome.arm

    @property
    def propensity(self) -> float | None:
        """With which it was shown; None where nothing was drawn that others could be judged by.

        Nobody knows it where something else was shown after all. What a session keeps was drawn once, by the
        context of its first decision, and the control's guard shuts all others out: counted as certain, such
        decisions would credit others with what the policy chose.
        """
        detail = self.record.detail or {}
        guarded = any(warning["code"] == CONTROL_GUARD for warning in detail.get("warnings", ()))
        if self.served != self.record.served or detail.get("sticky") or guarded:
            return None
        return self.record.propensity


def told(
    store: Store,
    policy_id: int,
    rules: RewardRules,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[Told]:
    """Return the newest 50,000 decisions made from one time until before another, the oldest first."""
    records = store.recent_decisions(policy_id, since or _BEGINNING, MOST)
    if until is not None:
        records = [record for record in records if record.decided_at < until]
    events = store.feedback_of("decision", [record.id for record in records])
    return [
        Told(record, account_of(record, events[record.id], rules).outcome())
        for record in sorted(records, key=lambda one: (one.decided_at, one.id))
    ]
