"""From stored decisions and the events about them to what is folded."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from kshot.arrays import Int64s
from kshot.records import DecisionRecord, FeedbackEvent
from kshot.selectors.bandits import Addends
from kshot.selectors.bandits.feedback import LoggedDecision
from kshot.selectors.bandits.ledger import Account, Move, Outcome, Status, changes
from kshot.selectors.bandits.metric_rules import RewardRules
from kshot.server.services.learning.definitions import Definition
from kshot.server.services.learning.events import outcome_event

FROZEN = "frozen"
"""Decisions in this mode are not learnt from."""


class News(NamedTuple):
    """What some events of the log come to."""

    addends: Addends
    settled: frozenset[str]
    """Decisions of which nothing more is awaited: they have an outcome, or were cancelled."""
    moves: list[tuple[DecisionRecord, Outcome, Outcome]]
    """Every change of an outcome, in the order of the log."""
    costs: list[tuple[str, float, int]]
    """Costs that became known: the arm, the cost, and 1; or -1 where one is taken back."""


def features_of(record: DecisionRecord) -> Int64s:
    """Return the features that a decision was made on, in units of 2**-16."""
    return np.frombuffer(record.features, "<i8").astype(np.int64)


def logged_decision(record: DecisionRecord, *, contextual: bool) -> LoggedDecision:
    """Return a stored decision as the ledger reads it."""
    return LoggedDecision(
        id=record.id,
        arm=record.served,
        context=features_of(record) if contextual else np.empty(0, np.int64),
        decided_at=record.decided_at.timestamp(),
        active=record.active,
    )


def account_of(record: DecisionRecord, events: Sequence[FeedbackEvent], rules: RewardRules) -> Account:
    """Return what some events of the log, in their order, say of a decision."""
    account = Account.opened(logged_decision(record, contextual=False), rules)
    for event in events:
        account = account.after(outcome_event(event))
    return account


def is_learnt_from(definition: Definition, record: DecisionRecord) -> bool:
    """Tell whether a decision's outcome is part of the policy's state.

    Not if it was made while the policy was frozen, nor if it was made on other features than the algorithm
    looks at now: nobody knows what those of its query would have been.
    """
    fits = not definition.policy.contextual or record.feature_version == definition.features.version
    return fits and record.mode != FROZEN


def news(
    definition: Definition,
    batch: Sequence[FeedbackEvent],
    records: Mapping[str, DecisionRecord],
    histories: Mapping[str, Sequence[FeedbackEvent]],
) -> News:
    """Return what has to be folded for a batch of events.

    Parameters
    ----------
    definition : Definition
    batch : sequence of FeedbackEvent
        In the order of the log.
    records : mapping of str to DecisionRecord
        The decisions that they are about; events about others change nothing.
    histories : mapping of str to sequence of FeedbackEvent
        Every event of each of those decisions up to the last of the batch, in the order of the log.
    """
    first = batch[0].seq if batch else 0
    costs: list[tuple[str, float, int]] = []
    moved: list[tuple[int, DecisionRecord, Move]] = []
    settled = set()
    contextual = definition.policy.contextual
    for decision_id in dict.fromkeys(event.target_id for event in batch):
        record = records.get(decision_id)
        if record is None:
            continue
        decision = logged_decision(record, contextual=contextual)
        account = Account.opened(decision, definition.rules)
        learnt = is_learnt_from(definition, record)
        outcome = account.outcome()
        for event in histories[decision_id]:
            later = account.after(outcome_event(event))
            if later is not account:
                previous, outcome = outcome, later.outcome()
                if event.seq >= first and learnt:
                    moved.append((event.seq, record, Move(decision, previous, outcome)))
            account = later
        if definition.cost_rules is not None and learnt:
            history = histories[decision_id]
            earlier = [event for event in history if event.seq < first]
            before = _cost(record, earlier, definition.cost_rules)
            after = _cost(record, history, definition.cost_rules)
            if before != after:
                costs += [(*known, sign) for known, sign in ((before, -1), (after, 1)) if known is not None]
        if outcome.known or account.status == "cancelled":
            settled.add(decision_id)
    moved.sort(key=lambda one: one[0])
    return News(
        changes([move for _, _, move in moved], definition.dimension),
        frozenset(settled),
        [(record, move.before, move.after) for _, record, move in moved],
        costs,
    )


def _cost(
    record: DecisionRecord, events: Sequence[FeedbackEvent], rules: RewardRules
) -> tuple[str, float] | None:
    """Return which arm a decision served and what that cost; None where nothing is known, or counts."""
    account = account_of(record, events, rules)
    ((name, rule),) = rules.metrics.items()
    values = account.values.get(name)
    if not values or account.arm is None or account.status is not Status.ACTIVE:
        return None
    share, _ = rule.aggregated(values)
    return account.arm, rule.low + (share if rule.better == "high" else 1.0 - share) * (rule.high - rule.low)
