"""k-means: one row for every cluster of alike rows."""

from dataclasses import dataclass
from typing import ClassVar

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
from kshot.selectors.annotation.clusters import FIXED, cluster
from kshot.selectors.annotation.directions import directions
from kshot.selectors.annotation.registry import PLANNERS
from kshot.selectors.base import check_parameters, parameter

MAX_ROUNDS = 100


def k_means(
    vectors: ArrayLike,
    budget: int,
    seed: int | np.random.Generator = 0,
    *,
    labelled: NDArray[np.bool_ | np.integer] | None = None,
    max_rounds: int = MAX_ROUNDS,
    report: Report = silent,
) -> Picks:
    """Put the rows into as many clusters as are wanted, and choose the row nearest to the mean of each.

    Parameters
    ----------
    vectors : array, shape (n, d)
        Not 0; each is scaled to length 1.
    budget : int
        Rows wanted, at least 1; all that are unlabelled if there are fewer.
    seed : int or Generator
        For the rows that clusters start at, which are drawn by k-means++.
    labelled : array of bool, shape (n,), or of row numbers, optional
        Rows that are never picked. Each is the centre of a further cluster and does not move, so that no
        pick goes to where labels are already.
    max_rounds : int
        At least 1: assignments of all rows to clusters.
    report : callable
        Told after every seed and every round.

    Returns
    -------
    Picks
        The pick of the largest cluster first; ``gains``, equal to ``scores``: rows in a pick's cluster.
        Diagnostics: ``rounds``; ``covered``, rows in the clusters of labelled rows.

    Raises
    ------
    InvalidShape
        ``vectors`` is no matrix, is not finite or has a row of length zero; ``labelled`` names rows that do
        not exist.
    InvalidParameter
        ``budget`` or ``max_rounds`` is below 1.

    Notes
    -----
    O(n budget d) for the seeds and for every round; products of a round in float32, means and distances to
    them in float64. Ends when no row moves or the summed squared distance falls by less than 1/10,000. A
    pick is of its own cluster, so that none is picked twice; a cluster that loses all rows starts anew at
    the row farthest from its centre. A smaller plan is not the beginning of a larger one. Equal rows and
    equal clusters: the lowest row first.

    References
    ----------
    .. [1] Lloyd (1982), "Least squares quantization in PCM", IEEE Transactions on Information Theory 28.
    .. [2] Arthur, Vassilvitskii (2007), "k-means++: the advantages of careful seeding", SODA.

    Examples
    --------
    >>> k_means([[1, 0], [0.8, 0.6], [0.6, 0.8], [-1, 0]], 2).indices
    array([1, 3])
    """
    Z, _ = directions(vectors, center=False)
    require_budget(budget)
    if max_rounds < 1:
        raise InvalidParameter(f"max_rounds is {max_rounds}, allowed >= 1")
    given = labelled_mask(labelled, len(Z))
    free = np.flatnonzero(~given)
    if budget >= len(free):
        # Every row is a cluster of its own.
        return planned(free, np.ones(len(free)), {"rounds": 0, "covered": int(np.count_nonzero(given))})
    clusters = cluster(Z, budget, given, np.random.default_rng(seed), max_rounds, report)
    rows = clusters.nearest_rows(Z)
    sizes = np.bincount(clusters.numbers[clusters.numbers != FIXED], minlength=budget)
    order = np.lexsort((rows, -sizes))
    covered = int(np.count_nonzero(clusters.numbers == FIXED))
    return planned(rows[order], sizes[order], {"rounds": clusters.rounds, "covered": covered})


@PLANNERS.register("k_means")
@dataclass(frozen=True, slots=True)
class KMeans:
    """Sort the inputs into as many clusters as the budget allows, and label the middle of each.

    The largest cluster comes first; gains are cluster sizes. Change the budget and all clusters change, so
    plan once for what you can label. See `k_means` for details.
    """

    needs: ClassVar[frozenset[PlanFeature]] = frozenset({PlanFeature.VECTORS})
    wants: ClassVar[frozenset[PlanFeature]] = frozenset()
    graph: ClassVar[GraphSpec | None] = None
    nested: ClassVar[bool] = False

    max_rounds: int = parameter(MAX_ROUNDS, description="Assignments of rows to clusters at most.", ge=1)

    def __post_init__(self) -> None:
        check_parameters(self)

    def plan(
        self, candidates: PlanCandidates, budget: int, rng: np.random.Generator, report: Report = silent
    ) -> Picks:
        """Return ``min(budget, unlabelled)`` picks."""
        vectors = require_feature(candidates.vectors, PlanFeature.VECTORS)
        return k_means(
            vectors, budget, rng, labelled=candidates.labelled, max_rounds=self.max_rounds, report=report
        )
