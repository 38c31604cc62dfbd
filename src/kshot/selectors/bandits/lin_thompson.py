"""Linear Thompson sampling: every arm is served as often as it may be the best."""

from dataclasses import dataclass
from typing import ClassVar

from kshot.selectors.bandits.additive import AdditivePolicy, ArmsState
from kshot.selectors.bandits.base import ArmPrior, Choice, PropensityKind, Situation
from kshot.selectors.bandits.picking import after_penalties
from kshot.selectors.bandits.quadrature import best_arm_probabilities_normal
from kshot.selectors.bandits.registry import POLICIES
from kshot.selectors.bandits.ridge import ridge_estimates
from kshot.selectors.base import check_parameters, parameter


@POLICIES.register("lin_thompson")
@dataclass(frozen=True, slots=True)
class LinThompson(AdditivePolicy):
    """Serve every arm with the probability that it is the best, by a normal belief about its reward.

    The belief is a ridge regression on the context, one per arm: coefficients are normal around its solution
    with covariance ``noise ** 2 * A^-1``. Only their product with the context matters, and arms are
    independent, so that the probabilities are an integral in one dimension and nothing is sampled; see
    `kshot.selectors.bandits.quadrature.best_arm_probabilities_normal`.

    References
    ----------
    .. [1] Agrawal, Goyal (2013), "Thompson sampling for contextual bandits with linear payoffs", ICML.
    """

    contextual: ClassVar[bool] = True

    noise: float = parameter(
        0.3, description="Standard deviation of the belief, in widths of the ridge regression.", gt=0
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
        values = after_penalties(means, situation)
        probabilities = best_arm_probabilities_normal(values, self.noise * widths)
        return Choice(probabilities, means, widths, PropensityKind.QUADRATURE)
