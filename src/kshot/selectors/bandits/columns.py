"""The sums of a situation's arms side by side, for policies that do without context."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from kshot.arrays import Float64s, Int64s
from kshot.selectors.bandits.base import ArmPrior, Choice, Situation
from kshot.selectors.bandits.views import LearntState

_Known: TypeAlias = tuple[int, float, float, float]

NO_PRIOR = ArmPrior()
"""Nothing is believed of an arm but that its reward lies between 0 and 1."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What is known of K arms.

    Attributes
    ----------
    n : int64 array, shape (K,)
        Outcomes held.
    weight, reward, square : float64 array, shape (K,)
        Sums of weight, weight times reward, weight times squared reward.
    """

    n: Int64s
    weight: Float64s
    reward: Float64s
    square: Float64s

    def with_priors(self, situation: Situation, own: ArmPrior = NO_PRIOR) -> "Columns":
        """Return the sums with every prior counted as that many outcomes of its reward; ``n`` stays."""
        if not situation.priors and not own.events:
            return self
        priors = [situation.priors.get(arm, own) for arm in situation.arms]
        events = np.array([prior.events for prior in priors])
        rewards = np.array([prior.reward for prior in priors])
        return Columns(
            self.n,
            self.weight + events,
            self.reward + events * rewards,
            self.square + events * rewards * rewards,
        )

    def means(self, unknown: Float64s) -> Float64s:
        """Return weighted mean rewards; ``unknown``, shape (K,), where nothing has weight."""
        known = self.weight > 0
        return np.where(known, self.reward / np.where(known, self.weight, 1.0), unknown)

    def variances(self) -> Float64s:
        """Return weighted variances of rewards, at least 0; 0 where nothing has weight."""
        known = self.weight > 0
        weight = np.where(known, self.weight, 1.0)
        mean = self.reward / weight
        return np.where(known, np.maximum(self.square / weight - mean * mean, 0.0), 0.0)


def columns(state: LearntState, situation: Situation) -> Columns:
    """Return the sums of a situation's arms, as of its moment where outcomes are forgotten.

    Notes
    -----
    O(K) per state, arms and moment. An arm whose outcomes were taken back before they came counts as
    one without any, until they come.
    """
    arms, clock = situation.arms, state.clock(situation.now)

    def found() -> Columns:
        n = np.zeros(len(arms), np.int64)
        sums = np.zeros((3, len(arms)))
        for place, arm in enumerate(arms):
            known = _known(state, arm, clock)
            if known is not None:
                n[place] = known[0]
                sums[:, place] = known[1:]
        weight, reward, square = sums
        # Of a reward on [0, 1] neither sum exceeds the one before; rounding must not make them.
        reward = np.clip(reward, 0.0, weight)
        return Columns(n, weight, reward, np.clip(square, 0.0, reward))

    return state.memo.get(("columns", arms, clock), found)


def _known(state: LearntState, arm: str, clock: float) -> _Known | None:
    record = state.arms.get(arm)
    if record is None:
        return None

    def found() -> _Known:
        view = state.view(arm, clock)
        if view is None or view.n <= 0 or view.weight <= 0:
            return 0, 0.0, 0.0, 0.0
        return view.n, view.weight, view.reward, view.square

    # Kept with the arm's sums, which states share until an outcome of that arm comes.
    return record.memo.get(("columns", clock), found)


def awaited(situation: Situation) -> Float64s:
    """Return how many outcomes of each arm are awaited, shape (K,)."""
    return np.array([float(len(situation.pending.get(arm, ()))) for arm in situation.arms])


def prior_rewards(situation: Situation, own: float = NO_PRIOR.reward) -> Float64s:
    """Return the reward that each arm's prior expects, shape (K,)."""
    given = situation.priors
    return np.array([given[arm].reward if arm in given else own for arm in situation.arms])


def read_only(choice: Choice) -> Choice:
    """Return a choice that may be handed out again and again."""
    for array in (choice.probabilities, choice.means, choice.widths):
        array.setflags(write=False)
    return choice


def situation_key(state: LearntState, situation: Situation) -> Hashable:
    """Return what tells situations apart for a policy without context: all but the context."""
    arms = situation.arms
    return (
        arms,
        state.clock(situation.now),
        None if situation.penalties is None else situation.penalties.tobytes(),
        tuple((arm, prior.reward, prior.events) for arm, prior in sorted(situation.priors.items())),
        tuple((arm, len(pending)) for arm, pending in sorted(situation.pending.items())),
    )
