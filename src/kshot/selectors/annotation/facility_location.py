"""Facility location: the rows that stand for all others."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kshot.arrays import Picks
from kshot.errors import InvalidParameter, InvalidShape
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
from kshot.selectors.annotation.k_center import farthest_first
from kshot.selectors.annotation.neighbour_graph import NeighbourGraph
from kshot.selectors.annotation.neighbour_search import knn_graph
from kshot.selectors.annotation.registry import PLANNERS
from kshot.selectors.annotation.representation import represent_by_edges, represent_by_products
from kshot.selectors.base import check_parameters, parameter

EXACT_ROWS = 5_000
"""Rows of which every pair is compared. Of 9,951 rows, 100 neighbours reached 0.995 to 1.002 of the value of
all pairs at 18 to 300 picks, in a quarter of the time."""
N_NEIGHBORS = 100


def facility_location(
    vectors: ArrayLike,
    budget: int,
    *,
    labelled: NDArray[np.bool_ | np.integer] | None = None,
    floor: float = 0.0,
    n_neighbors: int = N_NEIGHBORS,
    exact_rows: int = EXACT_ROWS,
    graph: NeighbourGraph | None = None,
    report: Report = silent,
) -> Picks:
    """Choose the rows to which all rows are most similar, taken together.

    Greedy on ``f(S) = sum_i max(floor, max_{s in S} cos(i, s))``, which is monotone and submodular, so that
    the result reaches at least 1 - 1/e of the best value. Where there are more than ``exact_rows`` rows, only
    the similarities of a row to itself and its nearest neighbours count, all others as 0.

    Parameters
    ----------
    vectors : float array, shape (n, d)
        Not 0; each is scaled to length 1.
    budget : int
        Rows wanted, at least 1; all that are unlabelled if there are fewer.
    labelled : array of bool, shape (n,), or of row numbers, optional
        Rows that count as chosen before the first pick, and are never picked.
    floor : float
        In [-1, 0]: what a row contributes that nothing chosen is more similar to. At -1 opposite rows are
        told from unrelated ones, as first published; 0 where neighbours alone count.
    n_neighbors : int
        At least 1: neighbours that count beyond ``exact_rows``.
    exact_rows : int
        Rows up to which every pair counts.
    graph : NeighbourGraph, optional
        Of these rows, not centred. Used, all its neighbours, beyond ``exact_rows``; built where it is
        missing.
    report : callable
        Told at least after every pick.

    Returns
    -------
    Picks
        ``gains``, equal to ``scores``: by how much each pick raises f, never rising. Diagnostics: ``value``,
        f in the end less what the labelled rows reach alone; ``filled``, the rows that no longer raise it,
        which come last, farthest first; ``exact``, whether every pair counted.

    Raises
    ------
    InvalidShape
        ``vectors`` is no matrix, is not finite or has a row of length zero; ``labelled`` names rows that do
        not exist; the graph has another number of rows.
    InvalidParameter
        ``budget`` or ``n_neighbors`` below 1, ``floor`` outside its range, or the graph is centred.

    Notes
    -----
    All pairs: no n-by-n matrix is kept. Every pair is compared once, and whenever a pick is the nearest so
    far for some rows, these rows with all others again: O(n^2 d log(budget)) in all for picks that come in
    random order. Computing gains afresh only where they may still be the largest takes as many comparisons,
    since the first picks change nearly all gains. Similarities count to 24 binary places, so that sums are
    exact. Neighbours: O(n n_neighbors + budget log n) after the graph, lazily, as gains only fall. Ties go to
    the lowest index.

    References
    ----------
    .. [1] Nemhauser, Wolsey, Fisher (1978), "An analysis of approximations for maximizing submodular set
       functions", Mathematical Programming 14.
    .. [2] Minoux (1978), "Accelerated greedy algorithms for maximizing submodular set functions",
       Optimization Techniques.

    Examples
    --------
    >>> picks = facility_location([[1, 0], [0.8, 0.6], [0.6, 0.8], [-1, 0]], 2)
    >>> picks.indices
    array([1, 3])
    >>> [round(gain, 2) for gain in picks.gains.tolist()]
    [2.76, 1.0]
    """
    units, _ = directions(vectors, center=False)
    n = len(units)
    require_budget(budget)
    given = labelled_mask(labelled, n)
    exact = n <= exact_rows
    if not -1 <= floor <= 0:
        raise InvalidParameter(f"floor is {floor}, allowed -1 to 0")
    if exact:
        indices, gains = represent_by_products(units, given, budget, floor, report)
    else:
        if floor:
            raise InvalidParameter(f"floor is {floor}, allowed 0 for more than {exact_rows} rows")
        if graph is None:
            graph = knn_graph(units, n_neighbors, center=False, report=report)
        _require_graph(graph, n)
        indices, gains = represent_by_edges(graph, given, budget, report)
    diagnostics = {"value": float(gains.sum()), "filled": 0, "exact": exact}
    given[indices] = True
    wanted = min(budget - len(indices), int(np.count_nonzero(~given)))
    if wanted:
        filled, _ = farthest_first(units, np.flatnonzero(given), ~given, wanted)
        indices, gains = np.concatenate([indices, filled]), np.concatenate([gains, np.zeros(wanted)])
        diagnostics["filled"] = wanted
    return planned(indices, gains, diagnostics)


def _require_graph(graph: NeighbourGraph, n: int) -> None:
    if len(graph) != n:
        raise InvalidShape(f"the graph has {len(graph)} rows, wanted {n}")
    if graph.center:
        raise InvalidParameter("the graph is centred, allowed is one of the rows as they are")


@PLANNERS.register("facility_location")
@dataclass(frozen=True, slots=True)
class FacilityLocation:
    """Label typical inputs first: those that, taken together, are most similar to everything else.

    The first picks stand for the crowds, later ones for what is left; outliers come late. Gains are what a
    pick adds to the similarity of every row to its nearest pick, summed over all rows. See
    `facility_location`.
    """

    needs: ClassVar[frozenset[PlanFeature]] = frozenset({PlanFeature.VECTORS})
    wants: ClassVar[frozenset[PlanFeature]] = frozenset({PlanFeature.GRAPH})
    nested: ClassVar[bool] = True

    n_neighbors: int = parameter(
        N_NEIGHBORS, description="Neighbours of every row that count, where not all pairs do.", ge=1
    )
    exact_rows: int = parameter(
        EXACT_ROWS, description="Rows up to which every pair is compared; no graph is used then.", ge=0
    )

    def __post_init__(self) -> None:
        check_parameters(self)

    @property
    def graph(self) -> GraphSpec:
        """Used beyond ``exact_rows`` rows."""
        return GraphSpec(self.n_neighbors, center=False, above_rows=self.exact_rows)

    def plan(
        self, candidates: PlanCandidates, budget: int, rng: np.random.Generator, report: Report = silent
    ) -> Picks:
        """Return ``min(budget, unlabelled)`` picks."""
        return facility_location(
            require_feature(candidates.vectors, PlanFeature.VECTORS),
            budget,
            labelled=candidates.labelled,
            n_neighbors=self.n_neighbors,
            exact_rows=self.exact_rows,
            graph=candidates.graph,
            report=report,
        )
