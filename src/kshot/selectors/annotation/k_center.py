"""Farthest first: no row is left far from every labelled one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kshot.arrays import Bools, Float64s, Int64s, Picks
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
from kshot.selectors.annotation.clusters import SAME
from kshot.selectors.annotation.directions import directions
from kshot.selectors.annotation.registry import PLANNERS
from kshot.selectors.base import check_parameters

_WIDEST = 2.0
"""Largest distance of two unit rows."""
_ROUNDING = 1e-12
"""More than two products of unit rows can differ by the order in which they are summed."""
_BLOCK = 1 << 22
"""Numbers held at a time, 32 MB."""


def k_center(
    vectors: ArrayLike,
    budget: int,
    *,
    labelled: NDArray[np.bool_ | np.integer] | None = None,
    report: Report = silent,
) -> Picks:
    """Choose, again and again, the row that is farthest from every row chosen so far.

    The largest distance of any row to its nearest chosen one, the radius, is at most twice the smallest that
    as many rows can reach. Outliers come early: this asks for the strange before the typical.

    Parameters
    ----------
    vectors : array, shape (n, d)
        Not 0; each is scaled to length 1. Distances are Euclidean, in [0, 2].
    budget : int
        Rows wanted, at least 1; all that are unlabelled if there are fewer.
    labelled : array of bool, shape (n,), or of row numbers, optional
        Rows that count as chosen before the first pick, and are never picked.
    report : callable
        Told after every pick.

    Returns
    -------
    Picks
        ``gains``: by how much each pick brings the radius down, which is 2 without any; ``scores``: the
        radius before the pick, which is its distance to the nearest row chosen before, never rising.
        Diagnostics: ``radius`` of the whole plan.

    Raises
    ------
    InvalidShape
        ``vectors`` is no matrix, is not finite or has a row of length zero; ``labelled`` names rows that do
        not exist.
    InvalidParameter
        ``budget`` is below 1.

    Notes
    -----
    O(n d) for every labelled row, many at a time, and for every pick; O(n d) memory in float64. Without
    labelled rows, the first pick is the row nearest to the mean. Identical rows are taken in their order,
    last of all. Ties go to the lowest index, exactly so for equal rows: distances are summed row by row.

    References
    ----------
    .. [1] Gonzalez (1985), "Clustering to minimize the maximum intercluster distance", Theoretical Computer
       Science 38.
    .. [2] Sener, Savarese (2018), "Active learning for convolutional neural networks: a core-set approach",
       ICLR.

    Examples
    --------
    >>> picks = k_center([[1, 0], [0.8, 0.6], [0.6, 0.8], [-0.8, 0.6]], 2)
    >>> picks.indices
    array([2, 3])
    >>> round(picks.diagnostics["radius"], 3)
    0.894
    """
    Z, _ = directions(vectors, center=False)
    require_budget(budget)
    given = labelled_mask(labelled, len(Z))
    indices, radii = farthest_first(Z, np.flatnonzero(given), ~given, budget, report)
    return Picks(indices, radii[:-1] - radii[1:], radii[:-1], {"radius": float(radii[-1])})


def farthest_first(
    Z: Float64s, chosen: Int64s, free: Bools, count: int, report: Report = silent
) -> tuple[Int64s, Float64s]:
    """Go on farthest first from the rows that are chosen.

    Parameters
    ----------
    Z : float64 array, shape (n, d)
        Unit rows.
    chosen : int64 array
        Row numbers.
    free : bool array, shape (n,)
        Rows that may be picked.
    count : int
        Rows wanted.

    Returns
    -------
    indices : int64 array, shape (min(count, free rows),)
    radii : float64 array, one longer
        Largest distance of a row to the nearest chosen row, before each pick and in the end.
    """
    own = np.einsum("id,id->i", Z, Z)
    wanted = min(count, int(np.count_nonzero(free)))
    nearest = _nearest(Z, own, chosen, lambda: report(0, wanted))
    free = free.copy()
    indices = np.empty(wanted, np.int64)
    squared_radii = np.empty(wanted + 1)
    for t in range(wanted):
        # Of the unit rows, the nearest to the mean has the largest product with it.
        value = nearest if len(chosen) or t else 2.0 * np.einsum("id,d->i", Z, Z.mean(axis=0)) - own
        best = int(np.where(free, value, -np.inf).argmax())
        indices[t], squared_radii[t] = best, nearest[best]
        free[best] = False
        squared = own + own[best] - 2.0 * np.einsum("id,d->i", Z, Z[best])
        squared[squared < SAME] = 0.0
        squared[best] = 0.0
        np.minimum(nearest, squared, out=nearest)
        report(t + 1, wanted)
    squared_radii[wanted] = nearest.max(initial=0.0)
    return indices, np.sqrt(squared_radii)


def _nearest(Z: Float64s, own: Float64s, chosen: Int64s, tick: Callable[[], None]) -> Float64s:
    """Return the squared distance of every row to the nearest chosen one; the largest possible if none is.

    BLAS, whose sums depend on a row's place, only tells which chosen rows may be the nearest.
    """
    nearest: Float64s = np.full(len(Z), _WIDEST**2)
    others = np.unique(Z[chosen], axis=0)
    lengths = np.einsum("id,id->i", others, others)
    step = max(1, _BLOCK // max(len(others), 1))
    pairs = max(1, _BLOCK // max(Z.shape[1], 1))
    for start in range(0, len(Z) if len(chosen) else 0, step):
        products = Z[start : start + step] @ others.T
        rows, columns = np.nonzero(products >= products.max(axis=1, keepdims=True) - _ROUNDING)
        rows += start
        for first in range(0, len(rows), pairs):
            row, column = rows[first : first + pairs], columns[first : first + pairs]
            along = np.einsum("id,id->i", Z[row], others[column])
            np.minimum.at(nearest, row, own[row] + lengths[column] - 2.0 * along)
        tick()
    nearest[nearest < SAME] = 0.0
    nearest[chosen] = 0.0
    return nearest


@PLANNERS.register("k_center")
@dataclass(frozen=True, slots=True)
class KCenter:
    """Leave no input far from a labelled one: always label next what is farthest from all labels.

    Outliers come first, so look at what it picks from a noisy pool. Scores are distances to the nearest
    label; gains, by how much the largest of them falls; diagnostics give the ``radius`` that is left. See
    `k_center` for details and sources.
    """

    needs: ClassVar[frozenset[PlanFeature]] = frozenset({PlanFeature.VECTORS})
    wants: ClassVar[frozenset[PlanFeature]] = frozenset()
    graph: ClassVar[GraphSpec | None] = None
    nested: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_parameters(self)

    def plan(
        self, candidates: PlanCandidates, budget: int, rng: np.random.Generator, report: Report = silent
    ) -> Picks:
        """Return ``min(budget, unlabelled)`` picks."""
        vectors = require_feature(candidates.vectors, PlanFeature.VECTORS)
        return k_center(vectors, budget, labelled=candidates.labelled, report=report)
