"""From the feedback on a decision to its outcome, and from changes of outcomes to what is folded.

An outcome is a function of the events so far, in the order of the log, and a state is the sum over decisions
of what their outcomes contribute. So a state depends on the log alone: not on batches, restarts or on how
often an outcome has changed on the way.

Use it like this::

    account = Account.opened(decision, rules)
    for event in log:                       # in the order of the log
        verdict = account.verdict(event)    # before it is logged: `verdict.conflict` is to be refused
        later = account.after(event)        # an event that conflicts changes nothing here either
        moves.append(Move(decision, account.outcome(), later.outcome()))
        account = later
    addends = changes(moves, dimension)     # fold these; moves that change nothing leave none

`outcome` is the same for all events at once, and `contribution` what an outcome adds on its own. One move per
event keeps the order that policies which forget fold in; others may skip to the last.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, assert_never

import numpy as np

from kshot.arrays import require_shape
from kshot.selectors.bandits.addends import Addends
from kshot.selectors.bandits.feedback import EventKind, LoggedDecision, OutcomeEvent
from kshot.selectors.bandits.grid import REWARD_BITS, WEIGHT_BITS
from kshot.selectors.bandits.metric_rules import LatePolicy, MetricRule, RewardRules, Valued


class Status(StrEnum):
    """Where a decision stands."""

    INACTIVE = "inactive"
    ACTIVE = "active"
    CANCELLED = "cancelled"


class Verdict(StrEnum):
    """What an event does to a decision."""

    COUNTED = "counted"
    """It counts, at once or as soon as the decision is active."""
    LATE = "late"
    """It came after its window, and is logged only."""
    NOT_LEARNT = "not_learnt"
    """The policy does not learn from that metric or source."""
    CANCELLED = "cancelled"
    """The decision was cancelled."""
    NOTHING_IN_FORCE = "nothing_in_force"
    """There is no reward that it could correct or retract."""

    @property
    def conflict(self) -> bool:
        """Whether the event contradicts what is known of the decision."""
        return self in (Verdict.CANCELLED, Verdict.NOTHING_IN_FORCE)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is known of a decision.

    Attributes
    ----------
    arm : str or None
        What was served.
    reward : int
        In [0, 2**16], in units of 2**-16; 0 where ``weight`` is.
    weight : int
        In units of 2**-10; 0: nothing that counts is known.
    status : Status
    """

    arm: str | None
    reward: int
    weight: int
    status: Status

    @property
    def known(self) -> bool:
        """Whether it contributes to a state."""
        return self.weight > 0 and self.arm is not None


@dataclass(frozen=True, slots=True)
class Account:
    """What the events so far say of one decision; immutable.

    Attributes
    ----------
    decision : LoggedDecision
    rules : RewardRules
    arm : str or None
        What was served.
    status : Status
    values : mapping of str to tuple of Valued
        The rewards in force, by metric, in the order of the log; the weights include the source's.
    expired, retracted : frozenset of str
        Metrics whose window has passed; those whose rewards were all retracted once, for which no default
        counts any more.
    """

    decision: LoggedDecision
    rules: RewardRules
    arm: str | None
    status: Status
    values: Mapping[str, tuple[Valued, ...]] = field(default_factory=lambda: MappingProxyType({}))
    expired: frozenset[str] = frozenset()
    retracted: frozenset[str] = frozenset()

    @classmethod
    def opened(cls, decision: LoggedDecision, rules: RewardRules) -> "Account":
        """Return the account of a decision before any event."""
        return cls(decision, rules, decision.arm, Status.ACTIVE if decision.active else Status.INACTIVE)

    def verdict(self, event: OutcomeEvent) -> Verdict:
        """Tell what an event would do; the value itself is the metric's to check."""
        kind = event.kind
        if self.status is Status.CANCELLED:
            harmless = kind in (EventKind.CANCEL, EventKind.EXPIRE)
            return Verdict.COUNTED if harmless else Verdict.CANCELLED
        if kind in (EventKind.REWARD, EventKind.CORRECT, EventKind.RETRACT):
            if not self._learnt(event):
                return Verdict.NOT_LEARNT
            if kind is EventKind.REWARD:
                return Verdict.LATE if self._late(event) else Verdict.COUNTED
            if not any(self._meant(event, metric) for metric in self.values):
                return Verdict.NOTHING_IN_FORCE
        return Verdict.COUNTED

    def after(self, event: OutcomeEvent) -> "Account":
        """Return the account after an event; the same one if the event does not count."""
        if self.status is Status.CANCELLED or self.verdict(event) is not Verdict.COUNTED:
            return self
        match event.kind:
            case EventKind.REWARD:
                later = self._with(event.metric, (*self.values.get(event.metric, ()), self._valued(event)))
            case EventKind.CORRECT:
                later = self._with(event.metric, self._corrected(event))
            case EventKind.RETRACT:
                later = self._without(event)
            case EventKind.CANCEL:
                later = replace(self, status=Status.CANCELLED)
            case EventKind.ACTIVATE:
                later = replace(self, status=Status.ACTIVE)
            case EventKind.EXPIRE:
                later = replace(self, expired=self.expired | self._named(event))
            case EventKind.SERVED:
                later = replace(self, arm=event.arm)
            case _:
                assert_never(event.kind)
        return later

    def outcome(self) -> Outcome:
        """Return what the decision has come to."""
        parts = []
        if self.status is Status.ACTIVE:
            for name, rule in self.rules.metrics.items():
                values = self.values.get(name, ())
                if values:
                    parts.append((*rule.aggregated(values), rule.share))
                elif rule.default is not None and name in self.expired and name not in self.retracted:
                    parts.append((rule.reward(rule.default), 1.0, rule.share))
        if not parts:
            return Outcome(self.arm, 0, 0, self.status)
        shares = math.fsum(share for _, _, share in parts)
        weight = math.fsum(weight * share for _, weight, share in parts) / shares
        reward = math.fsum(reward * share for reward, _, share in parts) / shares
        whole_weight = round(math.ldexp(weight, WEIGHT_BITS))
        whole_reward = round(math.ldexp(min(max(reward, 0.0), 1.0), REWARD_BITS))
        return Outcome(self.arm, whole_reward if whole_weight else 0, whole_weight, self.status)

    def _learnt(self, event: OutcomeEvent) -> bool:
        if event.metric and event.metric not in self.rules.metrics:
            return False
        trusted = self.rules.trust(event.source) > 0
        return trusted and (event.kind is EventKind.RETRACT or event.weight > 0)

    def _late(self, event: OutcomeEvent) -> bool:
        rule: MetricRule = self.rules.metrics[event.metric]
        return rule.late is LatePolicy.LOG_ONLY and event.at - self.decision.decided_at > rule.window_s

    def _named(self, event: OutcomeEvent) -> frozenset[str]:
        """Return the metrics that an event is about."""
        return frozenset((event.metric,) if event.metric else self.rules.metrics)

    def _meant(self, event: OutcomeEvent, metric: str) -> bool:
        """Return whether an event is about a reward of a metric that is in force."""
        if metric not in self._named(event):
            return False
        values = self.values[metric]
        return bool(values) if event.of is None else any(one.key == event.of for one in values)

    def _valued(self, event: OutcomeEvent) -> Valued:
        assert event.value is not None, "OutcomeEvent has checked it"
        return Valued(event.key, event.value, event.weight * self.rules.trust(event.source))

    def _corrected(self, event: OutcomeEvent) -> tuple[Valued, ...]:
        right = self._valued(event)
        if event.of is None:
            return (right,)
        return tuple(
            right._replace(key=one.key) if one.key == event.of else one for one in self.values[event.metric]
        )

    def _with(self, metric: str, values: tuple[Valued, ...]) -> "Account":
        # The most frequent change by far, and `replace` is the dearest way to make it.
        held = {**self.values, metric: values}
        return Account(self.decision, self.rules, self.arm, self.status, held, self.expired, self.retracted)

    def _without(self, event: OutcomeEvent) -> "Account":
        values = dict(self.values)
        gone = set()
        for metric in self.values:
            if self._meant(event, metric):
                values[metric] = tuple(
                    one for one in values[metric] if event.of is not None and one.key != event.of
                )
                if not values[metric]:
                    gone.add(metric)
        return replace(self, values=values, retracted=self.retracted | gone)


class Move(NamedTuple):
    """How the outcome of a decision changed."""

    decision: LoggedDecision
    before: Outcome
    after: Outcome


def outcome(decision: LoggedDecision, events: Iterable[OutcomeEvent], rules: RewardRules) -> Outcome:
    """Return what a decision has come to after some events, in the order of the log."""
    account = Account.opened(decision, rules)
    for event in events:
        account = account.after(event)
    return account.outcome()


def changes(moves: Sequence[Move], dimension: int) -> Addends:
    """Return what has to be folded for some changes of outcomes, in their order.

    Parameters
    ----------
    moves : sequence of Move, length m
    dimension : int
        Features of a context.

    Returns
    -------
    Addends
        At most 2 m: none for a move that changes nothing, one for another reward of the same arm, two where
        another arm turned out to have been served.

    Raises
    ------
    InvalidShape
        A decision's context has another dimension.
    """
    rows: list[tuple[LoggedDecision, str, int, int, int, int]] = []
    for decision, before, after in moves:
        old, new = _sums(before), _sums(after)
        if before.arm == after.arm:
            old, new = (0, 0, 0, 0), tuple(b - a for a, b in zip(old, new, strict=True))
        for arm, sign, sums in ((before.arm, -1, old), (after.arm, 1, new)):
            if arm is not None and any(sums):
                count, weight, reward, square = (sign * one for one in sums)
                rows.append((decision, arm, count, weight, reward, square))
    for decision, *_ in rows:
        require_shape("context", decision.context, (dimension,))
    numbers = np.array([row[2:] for row in rows], np.int64).reshape(-1, 4)
    contexts = [decision.context for decision, *_ in rows]
    return Addends(
        arms=tuple(row[1] for row in rows),
        decisions=tuple(decision.id for decision, *_ in rows),
        contexts=np.array(contexts, np.int64).reshape(len(rows), dimension),
        times=np.array([decision.decided_at for decision, *_ in rows], np.float64),
        counts=numbers[:, 0].copy(),
        weights=numbers[:, 1].copy(),
        rewards=numbers[:, 2].copy(),
        squares=numbers[:, 3].copy(),
    )


def change(decision: LoggedDecision, before: Outcome, after: Outcome) -> Addends | None:
    """Return what has to be folded as an outcome changes, or None where nothing has."""
    addends = changes([Move(decision, before, after)], len(decision.context))
    return addends if len(addends) else None


def contribution(decision: LoggedDecision, known: Outcome) -> Addends | None:
    """Return what an outcome adds to a state, or None where it adds nothing."""
    return change(decision, Outcome(None, 0, 0, Status.INACTIVE), known)


def _sums(known: Outcome) -> tuple[int, ...]:
    """Count, weight, weight times reward, weight times squared reward; zeros where nothing is known."""
    if not known.known:
        return 0, 0, 0, 0
    rewarded = known.weight * known.reward
    return 1, known.weight, rewarded, rewarded * known.reward
