"""Gaussian Thompson sampling: every arm is served as often as it may be the best, its noise unknown."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from kshot.arrays import Float64s
from kshot.selectors.bandits.additive import AdditivePolicy, ArmsState
from kshot.selectors.bandits.base import Choice, PropensityKind, Situation
from kshot.selectors.bandits.columns import awaited, columns, read_only, situation_key
from kshot.selectors.bandits.picking import after_penalties
from kshot.selectors.bandits.quadrature import best_arm_probabilities_student
from kshot.selectors.bandits.registry import POLICIES
from kshot.selectors.base import check_parameters, parameter


class NormalGamma(NamedTuple):
    """Beliefs about means and precisions of normal rewards.

    A precision is Gamma distributed with shape ``a`` and rate ``b``; given it, a mean is normal around ``m``
    with ``k`` times that precision. Each is a float or a float64 array of shape (K,).
    """

    m: Float64s | float
    k: Float64s | float
    a: Float64s | float
    b: Float64s | float


def normal_gamma(prior: NormalGamma, weight: Float64s, reward: Float64s, square: Float64s) -> NormalGamma:
    """Return the beliefs after outcomes.

    ``k = k0 + n``, ``m = (k0 m0 + sum r) / k``, ``a = a0 + n / 2``,
    ``b = b0 + (sum r^2 - n rbar^2) / 2 + k0 n (rbar - m0)^2 / (2 k)``.

    Parameters
    ----------
    prior : NormalGamma
        With ``k``, ``a``, ``b`` above 0.
    weight, reward, square : float64 array, shape (K,)
        Sums of weight, weight times reward, weight times squared reward.

    References
    ----------
    .. [1] Murphy (2007), "Conjugate Bayesian analysis of the Gaussian distribution", section 3.
    """
    mean = reward / np.where(weight > 0, weight, 1.0)
    k = prior.k + weight
    spread = np.maximum(square - reward * mean, 0.0)
    shift = prior.k * weight * (mean - prior.m) ** 2 / k
    return NormalGamma(
        (prior.k * prior.m + reward) / k, k, prior.a + weight / 2, prior.b + spread / 2 + shift / 2
    )


@POLICIES.register("gaussian_thompson")
@dataclass(frozen=True, slots=True)
class GaussianThompson(AdditivePolicy):
    """Serve every arm with the probability that it is the best, by a normal belief with unknown noise.

    An arm's mean reward is believed to be ``m + sqrt(b / (a k)) t``, t being Student's with 2 a degrees of
    freedom; see `normal_gamma`. Better than `beta_thompson` where rewards are no successes and failures but
    numbers that vary less. The probabilities are an integral and nothing is sampled. The outcomes of an arm's
    prior count as outcomes; those that are awaited narrow a belief, by ``k``, without moving its mean.
    """

    contextual: ClassVar[bool] = False

    mean: float = parameter(0.5, description="Expected reward of an arm before any outcome.", ge=0, le=1)
    mean_outcomes: float = parameter(1.0, description="How many outcomes that is worth.", gt=0)
    shape: float = parameter(
        1.0, description="Half of the outcomes that the belief about the noise is worth.", ge=0.5
    )
    rate: float = parameter(
        0.05, description="Expected variance of rewards before any outcome, times `shape`.", gt=0
    )
    half_life_s: float | None = parameter(
        None, description="Age at which an outcome counts half, in seconds; null forgets nothing.", gt=0
    )

    def __post_init__(self) -> None:
        check_parameters(self)

    def choose(self, state: ArmsState, situation: Situation) -> Choice:
        """Return the probability of every arm."""
        key = ("gaussian_thompson", self, situation_key(state, situation))
        return state.memo.get(key, lambda: read_only(self._chosen(state, situation)))

    def _chosen(self, state: ArmsState, situation: Situation) -> Choice:
        known = columns(state, situation).with_priors(situation)
        prior = NormalGamma(self.mean, self.mean_outcomes, self.shape, self.rate)
        m, k, a, b = normal_gamma(prior, known.weight, known.reward, known.square)
        means = np.asarray(m, np.float64)
        widths = np.sqrt(b / (a * (k + awaited(situation))))
        values = after_penalties(means, situation)
        probabilities = best_arm_probabilities_student(values, widths, 2.0 * np.asarray(a, np.float64))
        return Choice(probabilities, means, widths, PropensityKind.QUADRATURE)
