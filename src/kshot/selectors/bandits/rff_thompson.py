"""RFF Thompson sampling: every arm as often as it may be the best, by a model that bends."""

from dataclasses import dataclass
from typing import ClassVar

from kshot.selectors.bandits.additive import ArmsState
from kshot.selectors.bandits.base import Choice, PropensityKind, Situation
from kshot.selectors.bandits.fourier import FourierPolicy, require_pairs
from kshot.selectors.bandits.picking import after_penalties
from kshot.selectors.bandits.quadrature import best_arm_probabilities_normal
from kshot.selectors.bandits.registry import POLICIES
from kshot.selectors.base import check_parameters, parameter


@POLICIES.register("rff_thompson")
@dataclass(frozen=True, slots=True)
class RffThompson(FourierPolicy):
    """Serve every arm with the probability that it is the best, by a normal belief about its reward.

    The belief is a ridge regression per arm on random Fourier features of the context, see
    `kshot.selectors.bandits.fourier`; its standard deviation is ``noise`` times the regression's width.
    Probabilities are an integral in one dimension, and nothing is sampled; see
    `kshot.selectors.bandits.quadrature.best_arm_probabilities_normal`.

    References
    ----------
    .. [1] Rahimi, Recht (2007), "Random features for large-scale kernel machines", NIPS.
    .. [2] Agrawal, Goyal (2013), "Thompson sampling for contextual bandits with linear payoffs", ICML.
    """

    contextual: ClassVar[bool] = True

    noise: float = parameter(
        0.3, description="Standard deviation of the belief, in widths of the ridge regression.", gt=0
    )
    components: int = parameter(128, description="Fourier features, an even number.", ge=2, le=512)
    width: float = parameter(
        1.0, description="Distance of contexts over which rewards are alike; the kernel's width.", gt=0
    )
    seed: int = parameter(0, description="Draws the features; states of other seeds do not mix.", ge=0)
    ridge: float = parameter(1.0, description="Ridge penalty of the models, in outcomes.", gt=0)
    prior_reward: float = parameter(
        0.5, description="Expected reward of an arm before any outcome.", ge=0, le=1
    )
    half_life_s: float | None = parameter(
        None, description="Age at which an outcome counts half, in seconds; null forgets nothing.", gt=0
    )

    def __post_init__(self) -> None:
        check_parameters(self)
        require_pairs(self.components)

    def choose(self, state: ArmsState, situation: Situation) -> Choice:
        """Return the probability of every arm."""
        means, widths = self.estimates(state, situation)
        values = after_penalties(means, situation)
        probabilities = best_arm_probabilities_normal(values, self.noise * widths)
        return Choice(probabilities, means, widths, PropensityKind.QUADRATURE)
