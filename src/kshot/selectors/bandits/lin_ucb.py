"""LinUCB: the arm that may be the best, by a linear model and how little is known of it."""

from dataclasses import dataclass
from typing import ClassVar

from kshot.selectors.bandits.additive import AdditivePolicy, ArmsState
from kshot.selectors.bandits.base import ArmPrior, Choice, Situation
from kshot.selectors.bandits.hybrid import hybrid_estimates
from kshot.selectors.bandits.picking import after_penalties, certainly_best
from kshot.selectors.bandits.registry import POLICIES
from kshot.selectors.bandits.ridge import ridge_estimates
from kshot.selectors.base import check_parameters, parameter


@POLICIES.register("lin_ucb")
@dataclass(frozen=True, slots=True)
class LinUcb(AdditivePolicy):
    """Serve the arm with the largest expected reward plus ``alpha`` times its width.

    Expected rewards and widths are those of a ridge regression on the context: one per arm, or with
    ``hybrid`` one for all arms on the context and its products with what describes the arm, so that a new
    arm begins with what arms like it have earned; see `kshot.selectors.bandits.hybrid`. Arms share what they
    learn only with ``hybrid``.

    Only one arm has a probability above 0: without a floor, what was logged cannot judge other policies.

    References
    ----------
    .. [1] Li, Chu, Langford, Schapire (2010), "A contextual-bandit approach to personalized news article
       recommendation", WWW.
    """

    contextual: ClassVar[bool] = True

    alpha: float = parameter(0.5, description="Widths that are added to an expected reward.", ge=0)
    hybrid: bool = parameter(
        False, description="Whether one model of context and arm takes the place of one model per arm."
    )
    crossed: int = parameter(
        8,
        description="Features that `hybrid` multiplies with arms' vectors: the first and the intercept.",
        ge=1,
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
        """Return probability 1 for one arm; ties go to the arm that sorts first."""
        prior = ArmPrior(self.prior_reward)
        if self.hybrid:
            means, widths = hybrid_estimates(state, situation, self.ridge, prior, self.crossed)
        else:
            means, widths = ridge_estimates(state, situation, self.ridge, prior)
        values = after_penalties(means + self.alpha * widths, situation)
        return Choice(certainly_best(values), means, widths)
