"""Traffic and reward of a policy's variants, over all time and in periods, and what is out of order."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from kshot.index.store import Store
from kshot.schemas.base import Notice
from kshot.schemas.decisions import ArmPeriod, ArmReport, Period, PolicyReport
from kshot.selectors.bandits import Situation
from kshot.selectors.bandits.alarms import change_alarms, feedback_alarm
from kshot.selectors.bandits.best_arm import confidence_sequence, smoothed_variance
from kshot.selectors.bandits.columns import Columns
from kshot.selectors.bandits.track_and_stop import TrackAndStop
from kshot.server.services.learning.definitions import Definition
from kshot.server.services.learning.drawing import CONTROL_GUARD, control_is_better
from kshot.server.services.learning.history import MOST, Told, told
from kshot.server.services.learning.learner import Learnt
from kshot.server.services.learning.states import PolicyStates

LATELY = 0.1
"""The last part of the outcomes, which is compared with those before."""


class ReportService:
    """Tells how a policy does."""

    def __init__(self, store: Store, states: PolicyStates) -> None:
        self._store = store
        self._states = states

    async def report(self, policy: str, periods: int) -> PolicyReport:
        """Report on a policy; `PolicyNotFound` if there is none."""
        return await asyncio.to_thread(self._report, policy, periods)

    def _report(self, policy: str, periods: int) -> PolicyReport:
        learner = self._states.get(policy)
        definition = learner.definition
        history = told(self._store, definition.id, definition.rules)
        served = self._store.decision_counts(definition.id)
        by_arm = {name: [one for one in history if one.served == name] for name in definition.variants}
        arms = [
            _arm(definition, name, by_arm[name], served.get(name, 0), sum(served.values()))
            for name in definition.variants
        ]
        held = [one.reward for one in history if one.record.hold_out and one.reward is not None]
        decided = [
            one.reward
            for one in history
            if not one.record.hold_out and one.reward is not None and one.record.mode == "online"
        ]
        return PolicyReport(
            policy=policy,
            arms=arms,
            periods=periods_of(history, list(definition.variants), periods),
            hold_out_mean=_mean(held),
            policy_mean=_mean(decided),
            winner=_winner(definition, learner.learnt.state),
            alarms=[*guard_alarm(learner.learnt), *alarms_of(definition, by_arm, len(history))],
        )


def periods_of(history: Sequence[Told], variants: Sequence[str], count: int) -> list[Period]:
    """Cut the time from the first decision to the last into periods of equal length."""
    if not history:
        return []
    first = history[0].record.decided_at
    length = max((history[-1].record.decided_at - first) / count, timedelta(microseconds=1))
    cells: list[list[Told]] = [[] for _ in range(count)]
    for one in history:
        cells[min(int((one.record.decided_at - first) / length), count - 1)].append(one)
    return [
        Period(
            start=first + index * length,
            end=first + (index + 1) * length,
            arms=[_arm_period(name, cell) for name in variants],
        )
        for index, cell in enumerate(cells)
    ]


def guard_alarm(learnt: Learnt) -> list[Notice]:
    """Say that the control is served to all, and how that ends."""
    if not control_is_better(learnt.yardstick):
        return []
    message = (
        f"the control {learnt.yardstick.control!r} does better than the policy, so it is served to all; with "
        "another control, or none, the policy chooses again"
    )
    return [Notice(code=CONTROL_GUARD, message=message)]


def alarms_of(definition: Definition, by_arm: dict[str, list[Told]], decisions: int) -> list[Notice]:
    """Say what is out of order."""
    alarms = []
    if decisions >= MOST:
        alarms.append(Notice(code="newest_only", message=f"only the newest {MOST} decisions are looked at"))
    shown = {name: some for name, some in by_arm.items() if some}
    raised, _ = feedback_alarm(*_answered(definition, shown))
    if raised:
        message = (
            "variants differ in how often an outcome comes back, so their means cannot be compared as they "
            "are; give the metric a default"
        )
        alarms.append(Notice(code="feedback_rates_differ", message=message))
    for name in _changed(shown):
        message = (
            f"the reward of {name!r} has changed of late; with a half-life the policy forgets what was before"
        )
        alarms.append(Notice(code="reward_changed", message=message))
    control = definition.settings.control
    if control is not None and definition.variants[control].stored.status == "retired":
        alarms.append(Notice(code="control_retired", message=f"the control {control!r} is retired"))
    return alarms


def _arm(definition: Definition, name: str, some: Sequence[Told], served: int, decisions: int) -> ArmReport:
    variant = definition.variants[name]
    rewards = [one.reward for one in some if one.reward is not None]
    low, high = _interval(rewards)
    return ArmReport(
        variant=name,
        status=variant.stored.status,
        decisions=served,
        share=served / decisions if decisions else 0.0,
        outcomes=len(rewards),
        feedback_rate=len(rewards) / len(some) if some else None,
        mean=_mean(rewards),
        low=low,
        high=high,
        cost=variant.settings.cost,
    )


def _arm_period(name: str, cell: Sequence[Told]) -> ArmPeriod:
    some = [one for one in cell if one.served == name]
    rewards = [one.reward for one in some if one.reward is not None]
    low, high = _interval(rewards)
    return ArmPeriod(
        variant=name,
        decisions=len(some),
        share=len(some) / len(cell) if cell else 0.0,
        outcomes=len(rewards),
        mean=_mean(rewards),
        low=low,
        high=high,
    )


def _interval(rewards: Sequence[float]) -> tuple[float | None, float | None]:
    """Return bounds that hold however often they are looked at, cut to where rewards can be."""
    if not rewards:
        return None, None
    n, total = len(rewards), float(sum(rewards))
    variance = smoothed_variance(n, total, float(np.square(rewards).sum()))
    low, high = confidence_sequence(n, total / n, variance)
    return max(float(low), 0.0), min(float(high), 1.0)


def _mean(rewards: Sequence[float]) -> float | None:
    return float(np.mean(rewards)) if rewards else None


def _answered(
    definition: Definition, shown: Mapping[str, Sequence[Told]]
) -> tuple[dict[str, int], dict[str, int]]:
    """Count the decisions whose outcome cannot come any more, and those of them that have one."""
    closed = datetime.now(UTC) - timedelta(seconds=definition.window_s)
    name_to_past = {
        name: [one for one in some if one.record.decided_at < closed] for name, some in shown.items()
    }
    return (
        {name: len(past) for name, past in name_to_past.items()},
        {name: sum(one.reward is not None for one in past) for name, past in name_to_past.items()},
    )


def _changed(shown: Mapping[str, Sequence[Told]]) -> list[str]:
    """Return the variants whose last outcomes differ from those before by more than chance."""
    rewards = [[one.reward for one in some if one.reward is not None] for some in shown.values()]
    cuts = [len(known) - max(1, int(LATELY * len(known))) for known in rewards]
    late = _columns([known[cut:] for known, cut in zip(rewards, cuts, strict=True)])
    before = _columns([known[: max(cut, 0)] for known, cut in zip(rewards, cuts, strict=True)])
    changed = change_alarms(late, before).changed
    return [name for name, is_so in zip(shown, changed.tolist(), strict=True) if is_so]


def _columns(rewards: Sequence[Sequence[float]]) -> Columns:
    counts = np.array([len(known) for known in rewards], np.int64)
    return Columns(
        n=counts,
        weight=counts.astype(np.float64),
        reward=np.array([np.sum(known) for known in rewards], np.float64),
        square=np.array([np.sum(np.square(known)) for known in rewards], np.float64),
    )


def _winner(definition: Definition, state: object) -> str | None:
    policy = definition.policy
    active = tuple(sorted(name for name, one in definition.variants.items() if one.is_active))
    if not isinstance(policy, TrackAndStop) or not active:
        return None
    return policy.standing(state, Situation(active, np.ones(1))).winner  # type: ignore[arg-type]  # its own state
