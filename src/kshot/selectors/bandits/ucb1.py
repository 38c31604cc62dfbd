"""UCB1: the arm whose mean may be the largest."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from kshot.arrays import Float64s
from kshot.selectors.bandits.additive import AdditivePolicy, ArmsState
from kshot.selectors.bandits.base import Choice, Situation
from kshot.selectors.bandits.columns import awaited, columns, prior_rewards
from kshot.selectors.bandits.picking import after_penalties, certainly_best
from kshot.selectors.bandits.registry import POLICIES
from kshot.selectors.base import check_parameters, parameter


def ucb1_widths(counts: ArrayLike, t: float, alpha: float = 1.0) -> Float64s:
    """Return how far above its mean an arm may be: ``alpha * sqrt(2 ln t / n)``.

    Parameters
    ----------
    counts : float array, shape (K,)
        Outcomes of every arm, n; where it is 0, the width is infinite.
    t : float
        Outcomes of all arms; below 1 it counts as 1.
    alpha : float
        At least 0; 1 for rewards on [0, 1].

    References
    ----------
    .. [1] Auer, Cesa-Bianchi, Fischer (2002), "Finite-time analysis of the multiarmed bandit problem",
       Machine Learning 47, UCB1.

    Examples
    --------
    >>> (ucb1_widths([10, 5], 15) + [0.6, 0.5]).round(4).tolist()
    [1.3359, 1.5408]
    """
    n = np.asarray(counts, np.float64)
    known = n > 0
    widths = alpha * np.sqrt(2.0 * np.log(max(t, 1.0)) / np.where(known, n, 1.0))
    return np.where(known, widths, np.inf)


@POLICIES.register("ucb1")
@dataclass(frozen=True, slots=True)
class Ucb1(AdditivePolicy):
    """Serve the arm with the largest mean reward plus a width that shrinks with its outcomes.

    An arm without outcomes comes first. The width grows with the outcomes of all arms that may be served, so
    that every arm's index moves with every outcome; outcomes that are awaited narrow it, and those of a prior
    count as outcomes. See `ucb1_widths` for the formula and its source.

    Only one arm has a probability above 0: without a floor, what was logged cannot judge other policies.
    """

    contextual: ClassVar[bool] = False

    alpha: float = parameter(1.0, description="Widths that are added to a mean reward.", ge=0)
    half_life_s: float | None = parameter(
        None, description="Age at which an outcome counts half, in seconds; null forgets nothing.", gt=0
    )

    def __post_init__(self) -> None:
        check_parameters(self)

    def choose(self, state: ArmsState, situation: Situation) -> Choice:
        """Return probability 1 for one arm; ties go to the arm that sorts first."""
        known = columns(state, situation).with_priors(situation)
        means = known.means(prior_rewards(situation))
        counts = known.weight + awaited(situation)
        widths = ucb1_widths(counts, float(known.weight.sum()), self.alpha)
        return Choice(certainly_best(after_penalties(means + widths, situation)), means, widths)
