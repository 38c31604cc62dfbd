"""UCB-V: the arm whose mean may be the largest, by how much its rewards vary."""

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


def ucb_v_widths(counts: ArrayLike, variances: ArrayLike, t: float, exploration: float = 1.2) -> Float64s:
    """Return how far above its mean an arm may be: ``sqrt(2 v E / n) + 3 E / n``, E = exploration * ln t.

    Parameters
    ----------
    counts : float array, shape (K,)
        Outcomes of every arm, n; where it is 0, the width is infinite.
    variances : float array, shape (K,)
        Of the arms' rewards, which lie in [0, 1].
    t : float
        Outcomes of all arms; below 1 it counts as 1.
    exploration : float
        At least 0.

    References
    ----------
    .. [1] Audibert, Munos, Szepesvari (2009), "Exploration-exploitation tradeoff using variance estimates in
       multi-armed bandits", Theoretical Computer Science 410.

    Examples
    --------
    >>> ucb_v_widths([10, 0], [0.0, 0.0], 15).round(4).tolist()
    [0.9749, inf]
    """
    n = np.asarray(counts, np.float64)
    known = n > 0
    share = exploration * np.log(max(t, 1.0)) / np.where(known, n, 1.0)
    return np.where(known, np.sqrt(2.0 * np.asarray(variances, np.float64) * share) + 3.0 * share, np.inf)


@POLICIES.register("ucb_v")
@dataclass(frozen=True, slots=True)
class UcbV(AdditivePolicy):
    """Serve the arm with the largest mean reward plus a width that follows the variance of its rewards.

    As `ucb1`, and better where some arms' rewards vary little. See `ucb_v_widths` for the formula and its
    source.
    """

    contextual: ClassVar[bool] = False

    exploration: float = parameter(
        1.2, description="How fast widths grow with the logarithm of all outcomes.", ge=0
    )
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
        widths = ucb_v_widths(counts, known.variances(), float(known.weight.sum()), self.exploration)
        return Choice(certainly_best(after_penalties(means + widths, situation)), means, widths)
