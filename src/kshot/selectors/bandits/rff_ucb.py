"""RFF-UCB: LinUCB on random Fourier features, for rewards that no linear model can follow."""

from dataclasses import dataclass
from typing import ClassVar

from kshot.selectors.bandits.additive import ArmsState
from kshot.selectors.bandits.base import Choice, Situation
from kshot.selectors.bandits.fourier import FourierPolicy, require_pairs
from kshot.selectors.bandits.picking import after_penalties, certainly_best
from kshot.selectors.bandits.registry import POLICIES
from kshot.selectors.base import check_parameters, parameter


@POLICIES.register("rff_ucb")
@dataclass(frozen=True, slots=True)
class RffUcb(FourierPolicy):
    """Serve the arm with the largest expected reward plus ``alpha`` times its width, by a model that bends.

    One ridge regression per arm on random Fourier features of the context, see
    `kshot.selectors.bandits.fourier`: near the kernel model of `pak_ucb`, at a cost that does not grow with
    the outcomes, and with states that merge. It earns more than LinUCB only where rewards are not linear in
    the context, and only with a ``width`` near the distances of contexts that differ in what they earn.

    Only one arm has a probability above 0: without a floor, what was logged cannot judge other policies.

    References
    ----------
    .. [1] Rahimi, Recht (2007), "Random features for large-scale kernel machines", NIPS.
    .. [2] Hu, Leung, Farnia (2025), "PAK-UCB contextual bandit: an online learning approach to prompt-aware
       selection of generative models and LLMs", ICML.
    """

    contextual: ClassVar[bool] = True

    alpha: float = parameter(0.5, description="Widths that are added to an expected reward.", ge=0)
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
        """Return probability 1 for one arm; ties go to the arm that sorts first."""
        means, widths = self.estimates(state, situation)
        values = after_penalties(means + self.alpha * widths, situation)
        return Choice(certainly_best(values), means, widths)
