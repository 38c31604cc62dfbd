"""SquareCB: the further an arm is behind the best, the less it is served."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kshot.arrays import Float64s
from kshot.selectors.bandits.additive import AdditivePolicy, ArmsState
from kshot.selectors.bandits.base import ArmPrior, Choice, Situation
from kshot.selectors.bandits.picking import after_penalties
from kshot.selectors.bandits.registry import POLICIES
from kshot.selectors.bandits.ridge import ridge_estimates
from kshot.selectors.base import check_parameters, parameter


def inverse_gap_weights(values: Float64s, gamma: float) -> Float64s:
    """Return probabilities that fall with the gap to the best value.

    ``1 / (K + gamma * (best - value))`` for every arm but the best, and the rest for that.

    Parameters
    ----------
    values : float64 array, shape (K,)
        K >= 1.
    gamma : float
        At least 0, which gives every arm the same.

    Returns
    -------
    float64 array, shape (K,)
        Above 0, at most 1 / K but for the best, which is the first of equal ones; sum to 1.

    References
    ----------
    .. [1] Foster, Rakhlin (2020), "Beyond UCB: optimal and efficient contextual bandits with regression
       oracles", ICML, Algorithm 1.

    Examples
    --------
    >>> inverse_gap_weights(np.array([0.7, 0.6, 0.3]), 10.0).round(6).tolist()
    [0.607143, 0.25, 0.142857]
    """
    best = int(np.argmax(values))
    probabilities: Float64s = 1.0 / (len(values) + gamma * (values[best] - values))
    probabilities[best] = 0.0
    probabilities[best] = 1.0 - probabilities.sum()
    return probabilities


@POLICIES.register("square_cb")
@dataclass(frozen=True, slots=True)
class SquareCb(AdditivePolicy):
    """Serve every arm the less, the further its expected reward is behind the best; never none of it.

    Expected rewards are ridge regressions on the context, one per arm, cut to 0 to 1. The gaps weigh more
    with every outcome held: ``gamma * outcomes ** exponent``. Probabilities are in closed form and none is 0
    unless arms are eliminated, so that what was logged can judge other policies. See `inverse_gap_weights`
    for the formula and its source.
    """

    contextual: ClassVar[bool] = True

    gamma: float = parameter(
        10.0, description="How much a gap in expected reward counts after the first outcome.", ge=0
    )
    exponent: float = parameter(
        0.5, description="How that grows with the number of outcomes; 0 for never.", ge=0, le=1
    )
    elimination: float | None = parameter(
        None,
        description="Arms get nothing that so many widths up are below another as many widths down.",
        ge=0,
    )
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
        means, widths = ridge_estimates(state, situation, self.ridge, ArmPrior(self.prior_reward))
        values = after_penalties(np.clip(means, 0.0, 1.0), situation)
        plausible = np.ones(len(values), np.bool_)
        if self.elimination is not None:
            reach = self.elimination * widths
            plausible = values + reach >= (values - reach).max()
        probabilities = np.zeros(len(values))
        gamma = self.gamma * float(max(state.events, 0)) ** self.exponent
        probabilities[plausible] = inverse_gap_weights(values[plausible], gamma)
        return Choice(probabilities, means, widths)
