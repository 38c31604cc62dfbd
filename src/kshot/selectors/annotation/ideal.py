"""IDEAL: the rows from which influence spreads farthest along neighbours."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from kshot.arrays import Picks
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
from kshot.selectors.annotation.cascade import activation_probabilities
from kshot.selectors.annotation.influence import maximise_influence
from kshot.selectors.annotation.neighbour_graph import NeighbourGraph
from kshot.selectors.annotation.neighbour_search import graph_of
from kshot.selectors.annotation.registry import PLANNERS
from kshot.selectors.base import check_parameters, parameter


def ideal(
    vectors: ArrayLike,
    budget: int,
    n_neighbors: int = 10,
    center: bool = True,  # noqa: FBT001, FBT002
    seed: int | np.random.Generator = 0,
    *,
    graph: NeighbourGraph | None = None,
    labelled: NDArray[Any] | None = None,
    report: Report = silent,
) -> Picks:
    """Choose rows from which influence spreads to as many rows as possible.

    Every row may activate its nearest neighbours, each with a probability in proportion to its similarity,
    and those may activate theirs. The row that adds most to the expected number of active rows is next.

    Parameters
    ----------
    vectors : float array, shape (n, d)
        Unit rows, not centred.
    budget : int
        Rows wanted, at least 1; all unlabelled rows if there are fewer.
    n_neighbors : int
        Rows that a row may activate, at least 1; n - 1 if there are no more other rows.
    center : bool
        Compare rows by their direction from the mean of all rows.
    seed : int or Generator
        For the samples that influence is estimated from.
    graph : NeighbourGraph, optional
        Built before; ``n_neighbors`` and ``center`` are then the graph's.
    labelled : bool array of shape (n,), or row numbers, optional
        Rows that are active before the first pick.
    report : callable
        Told of rows searched, if there is no graph, and then of samples drawn.

    Returns
    -------
    Picks
        ``gains``: rows that each pick activates in addition. Diagnostics as in `maximise_influence`, and
        ``graph_recall``.

    Raises
    ------
    InvalidShape
        ``vectors`` is no matrix, is not finite, or has a row of length zero; the graph has other rows.
    InvalidParameter
        ``budget`` or ``n_neighbors`` below 1.

    Notes
    -----
    O(n^2 d) for the graph; then some hundred times the rows that a row activates on average, per row.
    Differs from the published code, which starts with row 0 and compares all rows by ten simulations each,
    so that chance decides between good rows; there is no parity mode, as its picks are a matter of its
    random numbers. Negative similarities activate nobody; where none is positive, all neighbours are as
    likely. Ties go to the lowest index.

    References
    ----------
    .. [1] Zhang et al. (2024), "IDEAL: influence-driven selective annotations empower in-context learners in
       large language models", ICLR.

    Examples
    --------
    >>> corners = [[1, 0, 0.1], [1, 0.1, 0], [1, 0, 0], [0, 1, 0.1], [0.1, 1, 0], [0, 1, 0]]
    >>> picks = ideal(corners, 2, n_neighbors=2)
    >>> sorted(int(index) // 3 for index in picks.indices)
    [0, 1]
    """
    require_budget(budget)
    graph = graph_of(vectors, graph, n_neighbors, center=center, report=report)
    n, k = graph.indices.shape
    edges = activation_probabilities(graph).ravel(), graph.indices.ravel(), np.arange(n + 1) * k
    mask = labelled_mask(labelled, n)
    picks = maximise_influence(csr_array(edges, shape=(n, n)), budget, mask, seed, report)
    return planned(picks.indices, picks.gains, {**picks.diagnostics, "graph_recall": graph.recall})


@PLANNERS.register("ideal")
@dataclass(frozen=True, slots=True)
class Ideal:
    """Rows from which influence spreads farthest: each reaches its neighbours, they reach theirs, and so on.

    Needs no model. See `ideal` for the rule and its source. Gains are the rows that each pick reaches in
    addition; diagnostics give the ``influence`` of all picks with its ``standard_error``, and how near to the
    best possible it is at least (``guarantee``).
    """

    nested: ClassVar[bool] = True
    needs: ClassVar[frozenset[PlanFeature]] = frozenset({PlanFeature.VECTORS, PlanFeature.GRAPH})
    wants: ClassVar[frozenset[PlanFeature]] = frozenset()

    n_neighbors: int = parameter(10, description="Neighbours that every row may influence.", ge=1)
    center: bool = parameter(
        True, description="Compare rows by how they differ from the mean of the pool, not from zero."
    )

    def __post_init__(self) -> None:
        check_parameters(self)

    @property
    def graph(self) -> GraphSpec:
        """Neighbours that are influenced."""
        return GraphSpec(self.n_neighbors, self.center)

    def plan(
        self, candidates: PlanCandidates, budget: int, rng: np.random.Generator, report: Report = silent
    ) -> Picks:
        """Return ``min(budget, unlabelled)`` picks."""
        return ideal(
            require_feature(candidates.vectors, PlanFeature.VECTORS),
            budget,
            seed=rng,
            graph=require_feature(candidates.graph, PlanFeature.GRAPH),
            labelled=candidates.labelled,
            report=report,
        )
