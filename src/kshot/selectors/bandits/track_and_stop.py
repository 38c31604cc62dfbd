"""Track-and-stop: an experiment that finds the best arm as soon as can be, and says when it has."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

import numpy as np

from kshot.arrays import Bools, Float64s
from kshot.selectors.bandits.additive import AdditivePolicy, ArmsState
from kshot.selectors.bandits.base import Choice, Situation
from kshot.selectors.bandits.best_arm import (
    allocation,
    anytime_threshold,
    confidence_sequence,
    glr,
    leading,
    smoothed_variance,
    stopping_threshold,
)
from kshot.selectors.bandits.columns import Columns, columns, prior_rewards, read_only, situation_key
from kshot.selectors.bandits.picking import after_penalties
from kshot.selectors.bandits.registry import POLICIES
from kshot.selectors.base import check_parameters, parameter


class Phase(StrEnum):
    """How far an experiment is."""

    NURSERY = "nursery"
    """No arm has enough outcomes: all are served alike."""
    MIXED = "mixed"
    """Some arms have enough; the others are served as often as their number among all arms."""
    BANDIT = "bandit"
    """All arms have enough, and none is known to be the best."""
    STOPPED = "stopped"
    """One arm is the best with the wanted confidence, and it alone is served."""
    STOPPED_NURSERY = "stopped_nursery"
    """One arm is the best of those with enough outcomes, and newer arms get their first."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What an experiment has found.

    Attributes
    ----------
    phase : Phase
    winner : str or None
        The best arm, once that is known.
    statistic, threshold : float or None
        The winner is known once the first exceeds the second; None while fewer than two arms have enough
        outcomes.
    """

    phase: Phase
    winner: str | None
    statistic: float | None
    threshold: float | None


@POLICIES.register("track_and_stop")
@dataclass(frozen=True, slots=True)
class TrackAndStop(AdditivePolicy):
    """Serve arms so that the best is told from the others the soonest, and then serve that alone.

    Every arm is served at random until it has ``least_outcomes``. From then on the shares are those of
    `kshot.selectors.bandits.best_arm.allocation`, until the leader is so far ahead that, with probability
    1 - ``delta`` and however often one looks, it is within ``eps`` of the best; see
    `kshot.selectors.bandits.best_arm.glr` and the two thresholds there. Variances are smoothed: arms that
    have never failed may yet fail. Priors shape the shares, and not the verdict, which rests on outcomes;
    penalties shape both.

    The verdict is always that of the outcomes held: where outcomes come late or are corrected, or arms come
    and go, it may be withdrawn.
    """

    contextual: ClassVar[bool] = False
    half_life_s: ClassVar[float | None] = None

    delta: float = parameter(0.05, description="Probability of a wrong winner.", gt=0, le=0.5)
    eps: float = parameter(
        0.0, description="How far a winner may be behind the best arm's expected reward.", ge=0
    )
    least_outcomes: int = parameter(10, description="Outcomes before an arm is compared.", ge=2)
    least_share: float = parameter(
        0.0, description="What every compared arm is served at least, until one has won; 1 / K at most.", ge=0
    )
    alpha: float = parameter(
        0.05, description="Probability that an arm's interval ever misses its expected reward.", gt=0, le=0.5
    )

    def __post_init__(self) -> None:
        check_parameters(self)

    def standing(self, state: ArmsState, situation: Situation) -> Standing:
        """Return what is known of the arms of a situation."""
        key = ("track_and_stop standing", self, situation_key(state, situation))
        return state.memo.get(key, lambda: self._standing(state, situation))

    def choose(self, state: ArmsState, situation: Situation) -> Choice:
        """Return the shares of the arms; widths are half their `confidence_sequence`."""
        key = ("track_and_stop", self, situation_key(state, situation))
        return state.memo.get(key, lambda: read_only(self._chosen(state, situation)))

    def _standing(self, state: ArmsState, situation: Situation) -> Standing:
        known = columns(state, situation)
        compared = self._compared(known)
        count = int(np.count_nonzero(compared))
        if count == 0:
            return Standing(Phase.NURSERY, None, None, None)
        everyone = count == len(compared)
        if count == 1:
            # One arm among none has nothing to win against.
            return Standing(Phase.BANDIT if everyone else Phase.MIXED, None, None, None)
        values = after_penalties(known.means(prior_rewards(situation)), situation)[compared]
        variances = smoothed_variance(known.weight, known.reward, known.square)[compared]
        weights = known.weight[compared]
        statistic = float(glr(values, variances, weights, self.eps, estimated=True))
        threshold = self._threshold(weights)
        if statistic <= threshold:
            return Standing(Phase.BANDIT if everyone else Phase.MIXED, None, statistic, threshold)
        winner = situation.arms[np.flatnonzero(compared)[leading(values, variances / weights)]]
        phase = Phase.STOPPED if everyone else Phase.STOPPED_NURSERY
        return Standing(phase, winner, statistic, threshold)

    def _chosen(self, state: ArmsState, situation: Situation) -> Choice:
        known = columns(state, situation)
        believed = known.with_priors(situation)
        means = believed.means(prior_rewards(situation))
        variances = smoothed_variance(believed.weight, believed.reward, believed.square)
        _, high = confidence_sequence(believed.weight, 0.0, variances, self.alpha)
        compared = self._compared(known)
        places = np.flatnonzero(compared)
        new = len(means) - len(places)
        probabilities = ~compared / len(means)
        if len(places):
            winner = self.standing(state, situation).winner
            if winner is None:
                values = after_penalties(means, situation)[places]
                shares = self._shares(values, variances[places], believed.weight[places])
            else:
                shares = (places == situation.arms.index(winner)).astype(np.float64)
            probabilities[places] = (1.0 - new / len(means)) * shares
        return Choice(probabilities, means, high)

    def _compared(self, known: Columns) -> Bools:
        enough: Bools = (known.n >= self.least_outcomes) & (known.weight > 0)
        return enough

    def _threshold(self, weights: Float64s) -> float:
        total = float(weights.sum())
        # The second falls and rises again: between its ends it is below the higher of them.
        pairs = np.array([np.partition(weights, 1)[:2].sum(), total])
        anytime = anytime_threshold(pairs, len(weights), self.delta)
        return max(float(stopping_threshold(total, len(weights), self.delta)), float(anytime.max()))

    def _shares(self, values: Float64s, variances: Float64s, weights: Float64s) -> Float64s:
        K = len(values)
        if K == 1:
            return np.ones(1)
        leader = leading(values, variances / weights)
        return allocation(values, variances, self.eps, least=min(self.least_share, 1.0 / K), leader=leader)
