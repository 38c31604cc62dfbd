"""kshot's policies as players: through the ledger and the exploration that the server uses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.bandits.playing import Told
from benchmarks.bandits.worlds import Array
from kshot.selectors.bandits import Policy, Situation
from kshot.selectors.bandits.feedback import EventKind, LoggedDecision, OutcomeEvent
from kshot.selectors.bandits.grid import grid_features
from kshot.selectors.bandits.ledger import Account, Move, changes
from kshot.selectors.bandits.metric_rules import MetricRule, RewardRules
from kshot.selectors.bandits.propensity import Exploration, distribution

METRIC = "reward"
ALONE = Exploration(floor=0.0, holdout=0.0, nursery_outcomes=0)
"""The policy's own probabilities and nothing else."""
SERVED = Exploration()
"""As the server mixes in by default: floor, hold-out and nursery."""


@dataclass
class Learner:
    """A policy that is fed through decisions' accounts, as the server feeds it.

    Attributes
    ----------
    policy : Policy
    dimension : int
    exploration : Exploration
    default : float or None
        What a decision counts as whose outcome was not told.
    trust : mapping of str to float
        Weights of sources.
    narrows : bool
        Whether the policy is told the contexts of decisions whose outcomes are awaited.
    forgets_source_at : tuple of int and str, or None
        At that step the log is folded anew without that source, and goes on without it.
    saves_every : int or None
        After so many steps each, the state is saved, dropped and restored.
    """

    policy: Policy[Any]
    dimension: int
    exploration: Exploration = SERVED
    default: float | None = None
    trust: Mapping[str, float] = field(default_factory=dict)
    narrows: bool = False
    forgets_source_at: tuple[int, str] | None = None
    saves_every: int | None = None
    largest_state: int = 0

    def __post_init__(self) -> None:
        self.rules = self._rules(self.trust)
        self.state = self.policy.init(self._kept)
        self._log: list[tuple[LoggedDecision, list[OutcomeEvent]]] = []
        self._awaited: dict[int, tuple[str, Any]] = {}

    @property
    def _kept(self) -> int:
        return self.dimension if self.policy.contextual else 0

    def _rules(self, trust: Mapping[str, float]) -> RewardRules:
        rule = MetricRule(default=self.default, window_s=1e9)
        return RewardRules({METRIC: rule}, trust)

    def probabilities(self, step: int, context: Array, arms: list[int]) -> Array:
        """Decide, as the server does."""
        if self.saves_every and step and step % self.saves_every == 0:
            self._restart()
        if self.forgets_source_at is not None and step == self.forgets_source_at[0]:
            self._fold_without(self.forgets_source_at[1])
        names = tuple(arm_name(arm) for arm in arms)
        pending: dict[str, Any] = {}
        for arm, features in self._awaited.values():
            pending.setdefault(arm, []).append(features)
        stacked = {arm: np.stack(rows) for arm, rows in pending.items()}
        situation = Situation(names, context, pending=stacked, now=float(step))
        choice = self.policy.choose(self.state, situation)
        known = self.state.summaries()
        outcomes = [known[arm].n if arm in known else 0 for arm in names]
        return distribution(choice, np.array(outcomes), self.exploration).probabilities

    def learn(self, told: list[Told]) -> None:
        """Fold what the outcomes come to."""
        moves = []
        for one in told:
            decision, event = self._logged(one), _event(one)
            self._log.append((decision, [event]))
            before = Account.opened(decision, self.rules)
            moves.append(Move(decision, before.outcome(), before.after(event).outcome()))
            self._awaited.pop(one.step, None)
        if moves:
            self.state = self.policy.fold(self.state, changes(moves, self._kept))

    def decided(self, step: int, arm: int, context: Array) -> None:
        """Take note of what is awaited."""
        if self.narrows:
            features = grid_features(context) if self.policy.contextual else np.empty(0, np.int64)
            self._awaited[step] = (arm_name(arm), features)

    def _logged(self, one: Told) -> LoggedDecision:
        context = grid_features(one.context) if self.policy.contextual else np.empty(0, np.int64)
        return LoggedDecision(str(one.step), arm_name(one.arm), context, float(one.step))

    def _restart(self) -> None:
        blob = self.state.to_bytes()
        self.largest_state = max(self.largest_state, len(blob))
        self.state = self.policy.restore(blob)
        if self.state.to_bytes() != blob:
            raise AssertionError("a restored state has other bytes than the one that was saved")

    def _fold_without(self, source: str) -> None:
        self.rules = self._rules({**self.trust, source: 0.0})
        moves = []
        for decision, events in self._log:
            account = Account.opened(decision, self.rules)
            before = account.outcome()
            for event in events:
                account = account.after(event)
            moves.append(Move(decision, before, account.outcome()))
        self.state = self.policy.fold(self.policy.init(self._kept), changes(moves, self._kept))


def arm_name(arm: int) -> str:
    """Return what an arm is called."""
    return f"arm-{arm:02}"


def _event(one: Told) -> OutcomeEvent:
    if one.value is None:
        return OutcomeEvent(EventKind.EXPIRE, at=float(one.step))
    return OutcomeEvent(
        EventKind.REWARD, at=float(one.step), metric=METRIC, value=one.value, source=one.source, key="told"
    )
