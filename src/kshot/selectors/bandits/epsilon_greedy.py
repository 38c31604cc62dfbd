"""Epsilon-greedy: mostly the best, sometimes any."""

from dataclasses import dataclass

import numpy as np

from kshot.arrays import Bools
from kshot.selectors.bandits.additive import AdditivePolicy, ArmsState
from kshot.selectors.bandits.base import ArmPrior, Choice, Situation
from kshot.selectors.bandits.columns import columns, prior_rewards
from kshot.selectors.bandits.picking import after_penalties
from kshot.selectors.bandits.registry import POLICIES
from kshot.selectors.bandits.ridge import ridge_estimates
from kshot.selectors.base import check_parameters, parameter


@POLICIES.register("epsilon_greedy")
@dataclass(frozen=True, slots=True)
class EpsilonGreedy(AdditivePolicy):
    """Serve the arm of the largest expected reward, and any arm with a probability that falls over time.

    With K arms and t outcomes held, any arm is served with probability
    ``max(epsilon_min, min(epsilon, decay * K / t))``, all alike. The rest goes to the best; equally good arms
    share it. Expected rewards are ridge regressions on the context, one per arm, or plain means where the
    policy is not ``contextual``. An arm counts as the best, with an expected reward of 1, until it has
    ``least_outcomes``, those of its prior included.
    """

    contextual: bool = parameter(
        True, description="Whether expected rewards depend on the context; plain means if not."
    )
    epsilon: float = parameter(
        0.1, description="Probability of serving any arm, in the beginning.", ge=0, le=1
    )
    epsilon_min: float = parameter(
        0.02, description="What that probability does not fall below, unless `epsilon` is.", ge=0, le=1
    )
    decay: float = parameter(
        5.0, description="Outcomes per arm after which that probability would fall from 1.", ge=0
    )
    least_outcomes: int = parameter(1, description="Outcomes below which an arm is expected to earn 1.", ge=0)
    ridge: float = parameter(
        1.0, description="Ridge penalty of the linear models, in outcomes of unit length.", gt=0
    )
    prior_reward: float = parameter(
        0.5, description="Expected reward of an arm before any outcome.", ge=0, le=1
    )
    half_life_s: float | None = parameter(
        None, description="Age at which an outcome counts half, in seconds; null forgets nothing.", gt=0
    )

    def __post_init__(self) -> None:
        check_parameters(self)

    def choose(self, state: ArmsState, situation: Situation) -> Choice:
        """Return the probability of every arm."""
        prior = ArmPrior(self.prior_reward)
        if self.contextual:
            means, widths = ridge_estimates(state, situation, self.ridge, prior)
        else:
            known = columns(state, situation).with_priors(situation, prior)
            means = known.means(prior_rewards(situation, prior.reward))
            widths = np.zeros(len(means))
        hopeful = np.where(_unknown(state, situation, prior, self.least_outcomes), 1.0, means)
        values = after_penalties(hopeful, situation)
        best = values == values.max()
        epsilon = self._epsilon(len(values), state.events)
        probabilities = epsilon / len(values) + (1.0 - epsilon) * best / np.count_nonzero(best)
        return Choice(probabilities, means, widths)

    def _epsilon(self, arms: int, outcomes: int) -> float:
        now = self.decay * arms / outcomes if outcomes > 0 else self.epsilon
        return max(min(self.epsilon_min, self.epsilon), min(self.epsilon, now))


def _unknown(state: ArmsState, situation: Situation, prior: ArmPrior, least: int) -> Bools:
    """Tell which arms have fewer outcomes than that."""
    known = [
        (state.arms[arm].n if arm in state.arms else 0) + situation.priors.get(arm, prior).events
        for arm in situation.arms
    ]
    return np.array(known) < least
