"""Dispersion: rows that are unlike each other on average."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kshot.arrays import Picks
from kshot.errors import InvalidParameter
from kshot.selectors.annotation.base import (
    GraphSpec,
    PlanCandidates,
    PlanFeature,
    Report,
    labelled_mask,
    planned,
    require_budget,
    require_feature,
    silent,
)
from kshot.selectors.annotation.directions import directions
from kshot.selectors.annotation.registry import PLANNERS
from kshot.selectors.base import check_parameters, parameter


def max_sum_dispersion(
    vectors: ArrayLike,
    budget: int,
    *,
    labelled: NDArray[np.bool_ | np.integer] | None = None,
    start: Literal["mean", "random"] = "mean",
    seed: int | np.random.Generator = 0,
    report: Report = silent,
) -> Picks:
    """Choose, again and again, the row with the smallest sum of cosines to all rows chosen so far.

    Greedy on the dispersion ``sum over pairs of chosen rows of (1 - cos)``. A sum, not a minimum: a row close
    to one chosen row may be picked if it is far from all others; `k_center` never does that.

    Parameters
    ----------
    vectors : array, shape (n, d)
        Not 0; each is scaled to length 1.
    budget : int
        Rows wanted, at least 1; all that are unlabelled if there are fewer.
    labelled : array of bool, shape (n,), or of row numbers, optional
        Rows that count as chosen before the first pick, and are never picked.
    start : str
        The first pick where nothing is labelled: "mean", the row nearest to the mean of all; or "random", a
        row drawn uniformly, as first published.
    seed : int or Generator
        For ``start="random"``.
    report : callable
        Told after every pick.

    Returns
    -------
    Picks
        ``gains``, equal to ``scores``: by how much each pick raises the dispersion, labelled rows included.

    Raises
    ------
    InvalidShape
        ``vectors`` is no matrix, is not finite or has a row of length zero; ``labelled`` names rows that do
        not exist.
    InvalidParameter
        ``budget`` is below 1, or ``start`` is unknown.

    Notes
    -----
    O(n d) for every pick: a sum of cosines is one product with the sum of the chosen rows. Products are
    summed row by row, so that equal rows tie exactly; ties go to the lowest index.

    References
    ----------
    .. [1] Ravi, Rosenkrantz, Tayi (1994), "Heuristic and special case algorithms for dispersion problems",
       Operations Research 42.
    .. [2] Su et al. (2023), "Selective annotation makes language models better few-shot learners", ICLR;
       its baseline of diversity.

    Examples
    --------
    >>> max_sum_dispersion([[1, 0], [0.8, 0.6], [0.6, 0.8], [-0.8, 0.6]], 3).indices
    array([2, 3, 0])
    """
    Z, _ = directions(vectors, center=False)
    require_budget(budget)
    if start not in {"mean", "random"}:
        raise InvalidParameter(f"start is {start!r}, allowed mean, random")
    given = labelled_mask(labelled, len(Z))
    free = ~given
    wanted = min(budget, int(np.count_nonzero(free)))
    chosen = int(np.count_nonzero(given))
    toward = Z[given].sum(axis=0)
    indices = np.empty(wanted, np.int64)
    gains = np.empty(wanted)
    for t in range(wanted):
        together = np.einsum("id,d->i", Z, toward)
        if chosen + t:
            best = int(np.where(free, together, np.inf).argmin())
        elif start == "mean":
            # Of the unit rows, the nearest to the mean has the largest product with it.
            best = int(np.where(free, np.einsum("id,d->i", Z, Z.mean(axis=0)), -np.inf).argmax())
        else:
            best = int(np.random.default_rng(seed).integers(len(Z)))
        indices[t], gains[t] = best, chosen + t - together[best]
        free[best] = False
        toward += Z[best]
        report(t + 1, wanted)
    return planned(indices, gains)


@PLANNERS.register("max_sum_dispersion")
@dataclass(frozen=True, slots=True)
class MaxSumDispersion:
    """Label inputs that differ from each other on average, regardless of how typical they are.

    The next pick has the smallest sum of cosines to all before it, so the picks gather at opposite edges of
    the pool. Gains are what a pick adds to the sum of ``1 - cos`` over all pairs. See `max_sum_dispersion`.
    """

    needs: ClassVar[frozenset[PlanFeature]] = frozenset({PlanFeature.VECTORS})
    wants: ClassVar[frozenset[PlanFeature]] = frozenset()
    graph: ClassVar[GraphSpec | None] = None
    nested: ClassVar[bool] = True

    start: Literal["mean", "random"] = parameter(
        "mean",
        description="First pick if nothing is labelled: the row nearest to the mean, or any by the seed.",
    )

    def __post_init__(self) -> None:
        check_parameters(self)

    def plan(
        self, candidates: PlanCandidates, budget: int, rng: np.random.Generator, report: Report = silent
    ) -> Picks:
        """Return ``min(budget, unlabelled)`` picks."""
        vectors = require_feature(candidates.vectors, PlanFeature.VECTORS)
        return max_sum_dispersion(
            vectors, budget, labelled=candidates.labelled, start=self.start, seed=rng, report=report
        )
