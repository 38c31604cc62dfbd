"""Sensitivity sampling: a small weighted sample that knows the loss of the whole pool from a few rows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kshot.arrays import Float64s, Int64s, Picks, as_float64, require_shape
from kshot.errors import InvalidParameter
from kshot.selectors.annotation.base import (
    GraphSpec,
    PlanCandidates,
    PlanFeature,
    Report,
    labelled_mask,
    require_budget,
    require_feature,
    silent,
)
from kshot.selectors.annotation.clusters import SAME, cluster, nearest_center
from kshot.selectors.annotation.directions import directions
from kshot.selectors.annotation.least_confidence import doubts
from kshot.selectors.annotation.registry import PLANNERS
from kshot.selectors.base import check_parameters, parameter
from kshot.selectors.ranking import top_k

CENTERS = 0.2
POWER = 2.0
_ROUNDS = 30


def sensitivity(
    vectors: ArrayLike,
    budget: int,
    loss: ArrayLike | Callable[[Int64s], ArrayLike] | None = None,
    seed: int | np.random.Generator = 0,
    *,
    labelled: NDArray[np.bool_ | np.integer] | None = None,
    centers: float = CENTERS,
    power: float = POWER,
    lipschitz: float | None = None,
    report: Report = silent,
) -> Picks:
    """Draw rows with a chance that grows with the loss to expect there.

    The loss is looked up at few rows, the centres of clusters. At any other row e with the nearest centre c,
    it is expected to be at most ``loss(c) + lipschitz |e - c| ** power``, and rows are drawn without
    replacement with chances in proportion to that: where the model is bad, and where nobody looked. The
    weights make up for the chances: weighted sums over the picks estimate means over the pool.

    Parameters
    ----------
    vectors : array, shape (n, d)
        Not 0; each is scaled to length 1.
    budget : int
        Rows wanted, at least 1; all that are unlabelled if there are fewer.
    loss : array, shape (n,), or callable, optional
        How badly a model does at each row, such as its doubt about an answer without demonstrations; at least
        0, and read at the centres only. A callable is asked once, for the centres, with an int64 array of
        their row numbers. Without it the loss counts as the same everywhere, so that distances decide.
    seed : int or Generator
        For the clusters and for the draw.
    labelled : array of bool, shape (n,), or of row numbers, optional
        Rows that do not take part: the weights speak of the unlabelled rows.
    centers : float
        Above 0, at most 1: centres as a share of the budget, rounded up.
    power : float
        At least 1: 2 for k-means.
    lipschitz : float, optional
        At least 0: by how much the loss grows with ``distance ** power``. By default the range of the losses
        at the centres, or their mean where they are all the same, or 1 where that is 0, divided by the 95th
        percentile of ``distance ** power``.
    report : callable
        Told while clusters are formed.

    Returns
    -------
    Picks
        In the order of the draw. ``gains``: losses expected. ``scores``: weights w. The sum over the picks
        of w times anything is an unbiased estimate of its mean over all unlabelled rows (that had a chance
        above 0); divided by the sum of w, it is steadier and a little biased. Diagnostics: ``centers``,
        their row numbers, and ``lipschitz``.

    Raises
    ------
    InvalidShape
        ``vectors`` is no matrix, is not finite or has a row of length zero; ``loss`` does not have one finite
        number for each centre; ``labelled`` names rows that do not exist.
    InvalidParameter
        ``budget`` is below 1, a loss is negative, or a parameter is outside its range.

    Notes
    -----
    O(n k d) for each round of k-means with k centres. A centre is a row: the one nearest to the mean of its
    cluster. Rows with the largest ``log chance + Gumbel noise`` are drawn; the next largest of these numbers,
    kappa, gives the probability ``1 - exp(-chance exp(-kappa))`` by which the weight 1/n is divided. Differs
    from [1]_, which draws with replacement. Rows without any chance come last, in their order.

    References
    ----------
    .. [1] Axiotis et al. (2024), "Data-efficient learning via clustering-based sensitivity sampling:
       foundation models and beyond", ICML.
    .. [2] Kool, van Hoof, Welling (2019), "Stochastic beams and where to find them", ICML, section 4.2.
    """
    Z, _ = directions(vectors, center=False)
    n = len(Z)
    require_budget(budget)
    _require_parameters(centers, power, lipschitz)
    free = np.flatnonzero(~labelled_mask(labelled, n))
    rng = np.random.default_rng(seed)
    if not len(free):
        return Picks(free, np.empty(0), np.empty(0), {"centers": [], "lipschitz": 0.0})
    Z = Z[free]
    k = min(int(np.ceil(centers * min(budget, len(free)))), len(free))
    clusters = cluster(Z, k, np.zeros(len(Z), np.bool_), rng, _ROUNDS, report)
    middle = clusters.nearest_rows(Z)
    at_centers = _losses(loss, free[middle], n)
    number, squared = nearest_center(Z, Z[middle])
    squared[squared < SAME] = 0.0
    reach = squared ** (power / 2)
    if lipschitz is None:
        lipschitz = _lipschitz(at_centers, reach)
    expected = at_centers[number] + lipschitz * reach
    drawn, weights = draw_in_proportion(expected, budget, rng)
    diagnostics = {"centers": free[middle].tolist(), "lipschitz": float(lipschitz)}
    return Picks(free[drawn], expected[drawn], weights, diagnostics)


def draw_in_proportion(expected: Float64s, budget: int, rng: np.random.Generator) -> tuple[Int64s, Float64s]:
    """Draw rows without replacement, each next one in proportion to a number of its own.

    Parameters
    ----------
    expected : float64 array, shape (n,)
        At least 0; where all are 0, all rows have the same chance.
    budget : int
    rng : Generator

    Returns
    -------
    rows : int64 array, shape (min(budget, n),)
        In the order of the draw.
    weights : float64 array, of the same shape
        The weighted sum over the drawn rows estimates the mean over all rows whose chance is above 0.
    """
    n = len(expected)
    drawn = min(budget, n)
    chances = expected / expected.sum() if expected.any() else np.full(n, 1.0 / n)
    logs = np.full(n, -np.inf)
    np.log(chances, out=logs, where=chances > 0)
    keys = logs + rng.gumbel(size=n)
    order = top_k(keys, drawn + 1)
    rows = order[:drawn]
    if drawn == n or np.isinf(keys[order[drawn]]):
        return rows, np.full(drawn, 1.0 / n)
    # Far above the threshold a row is certain to be drawn; the bound only keeps the exponential finite.
    above = np.minimum(logs[rows] - keys[order[drawn]], 99.0)
    return rows, 1.0 / (n * -np.expm1(-np.exp(above)))


def _losses(loss: ArrayLike | Callable[[Int64s], ArrayLike] | None, rows: Int64s, n: int) -> Float64s:
    """Return the losses at some rows, checked, looking at no others."""
    if loss is None:
        return np.zeros(len(rows))
    if callable(loss):
        found = as_float64("loss", loss(rows), (len(rows),))
    else:
        every = np.asarray(loss, np.float64)
        require_shape("loss", every, (n,))
        found = as_float64("loss", every[rows], (len(rows),))
    if (found < 0).any():
        where = int(np.argmax(found < 0))
        raise InvalidParameter(f"the loss at row {rows[where]} is {found[where]:g}, allowed >= 0")
    return found


def _lipschitz(losses: Float64s, reach: Float64s) -> float:
    far = float(np.percentile(reach, 95)) or float(reach.max())
    rise = float(np.ptp(losses)) or float(losses.mean()) or 1.0
    return rise / far if far else 0.0


def _require_parameters(centers: float, power: float, lipschitz: float | None) -> None:
    if not 0 < centers <= 1:
        raise InvalidParameter(f"centers is {centers}, allowed > 0 and <= 1")
    if not 1 <= power < np.inf:
        raise InvalidParameter(f"power is {power}, allowed finite and >= 1")
    if lipschitz is not None and not 0 <= lipschitz < np.inf:
        raise InvalidParameter(f"lipschitz is {lipschitz}, allowed finite and >= 0")


@PLANNERS.register("sensitivity")
@dataclass(frozen=True, slots=True)
class Sensitivity:
    """Draw at random, more often where the model is unsure and where nothing similar is known.

    Looks at the model's confidence in the middle of a few clusters only; without confidences, distance from
    these middles decides. Gains are the losses to expect. Scores are weights: with them, the picks also tell
    the mean of anything over the pool, such as its share of a label. See `sensitivity`.
    """

    needs: ClassVar[frozenset[PlanFeature]] = frozenset({PlanFeature.VECTORS})
    wants: ClassVar[frozenset[PlanFeature]] = frozenset({PlanFeature.CONFIDENCE})
    graph: ClassVar[GraphSpec | None] = None
    nested: ClassVar[bool] = False

    centers: float = parameter(
        CENTERS, description="Rows whose confidence is looked at, as a share of the budget.", gt=0, le=1
    )
    power: float = parameter(POWER, description="How the expected loss grows with the distance.", ge=1)
    lipschitz: float | None = parameter(
        None,
        description="By how much it grows; by default as much as the losses that were seen differ.",
        ge=0,
    )

    def __post_init__(self) -> None:
        check_parameters(self)

    def plan(
        self, candidates: PlanCandidates, budget: int, rng: np.random.Generator, report: Report = silent
    ) -> Picks:
        """Return ``min(budget, unlabelled)`` picks."""
        loss = None
        if candidates.confidence is not None:
            doubt = doubts(candidates.confidence)
            largest = doubt[np.isfinite(doubt)].max(initial=0.0)
            loss = np.minimum(doubt / largest if largest else doubt, 1.0)
        return sensitivity(
            require_feature(candidates.vectors, PlanFeature.VECTORS),
            budget,
            loss,
            rng,
            labelled=candidates.labelled,
            centers=self.centers,
            power=self.power,
            lipschitz=self.lipschitz,
            report=report,
        )
