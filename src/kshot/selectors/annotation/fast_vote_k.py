"""Fast vote-k: rows that stand for many others, and not for those that a chosen row stands for already."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kshot.arrays import Bools, Picks
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
from kshot.selectors.annotation.neighbour_graph import NeighbourGraph
from kshot.selectors.annotation.neighbour_keys import STEPS
from kshot.selectors.annotation.neighbour_search import graph_of
from kshot.selectors.annotation.registry import PLANNERS
from kshot.selectors.annotation.votes import ReferenceVotes, VoteCount, Votes
from kshot.selectors.base import check_parameters, parameter

Parity: TypeAlias = Literal["none", "reference"]

_BLOCK = 1 << 22
"""Similarities held at a time, 32 MB."""


def fast_vote_k(
    vectors: ArrayLike,
    budget: int,
    n_neighbors: int = 150,
    discount: float = 10.0,
    center: bool = True,  # noqa: FBT001, FBT002
    parity: Parity = "none",
    *,
    graph: NeighbourGraph | None = None,
    labelled: NDArray[Any] | None = None,
    report: Report = silent,
) -> Picks:
    """Choose rows that many rows have among their neighbours, ever less those that chosen rows serve already.

    Every row v votes for its nearest neighbours, as long as it is not chosen itself; its vote counts
    ``discount ** -c`` where it votes for c chosen rows. The row with the largest sum of votes is next.

    Parameters
    ----------
    vectors : float array, shape (n, d)
        Unit rows, not centred.
    budget : int
        Rows wanted, at least 1; all unlabelled rows if there are fewer.
    n_neighbors : int
        Votes of each row, at least 1; n - 1 if there are no more other rows.
    discount : float
        At least 1, where votes are never discounted.
    center : bool
        Compare rows by their direction from the mean of all rows.
    parity : str
        "reference" adds votes up and breaks ties as the published code does.
    graph : NeighbourGraph, optional
        Built before; ``n_neighbors`` and ``center`` are then the graph's.
    labelled : bool array of shape (n,), or row numbers, optional
        Rows that are chosen before the first pick.
    report : callable
        Told of rows searched, if there is no graph, and then of rows chosen.

    Returns
    -------
    Picks
        ``gains``: each pick's sum of votes. Once no unchosen row votes for any other, the rows farthest from
        the chosen ones follow, with gain 0. Diagnostics: ``without_votes``, how many those are, and
        ``graph_recall``.

    Raises
    ------
    InvalidShape
        ``vectors`` is no matrix, is not finite, or has a row of length zero; the graph has other rows.
    InvalidParameter
        ``budget`` or ``n_neighbors`` below 1, ``discount`` below 1 or infinite, or ``parity`` unknown.

    Notes
    -----
    O(n^2 d) for the graph; O(n k) for it to be read, then O(v k + n) per pick, where v rows vote for it: the
    published procedure goes through all edges for every pick. Sums of votes are compared exactly, ties go to
    the lowest index. Under parity ties go to the row with most voters, then to the one voted for first, and
    sums are rounded as they are added up; equal rows are one place where picks may still differ, since the
    published code mistakes such a row for its twin.

    References
    ----------
    .. [1] Su et al. (2023), "Selective annotation makes language models better few-shot learners", ICLR,
       section 2.1.

    Examples
    --------
    >>> corners = [[1, 0, 0.1], [1, 0.1, 0], [1, 0, 0], [0, 1, 0.1], [0.1, 1, 0], [0, 1, 0]]
    >>> fast_vote_k(corners, 2, n_neighbors=2).indices
    array([0, 3])
    """
    require_budget(budget)
    require_votes(discount, parity)
    graph = graph_of(vectors, graph, n_neighbors, center=center, report=report)
    mask = labelled_mask(labelled, len(graph))
    wanted = min(budget, len(mask) - int(np.count_nonzero(mask)))
    votes = count_votes(graph, discount, mask, wanted, parity)
    indices, gains = most_voted(votes, wanted, report)
    rest = wanted - len(indices)
    if rest:
        indices += farthest_rows(
            vectors, votes.chosen, rest, len(indices), center=graph.center, report=report
        )
        gains += [0.0] * rest
    return planned(indices, gains, {"without_votes": rest, "graph_recall": graph.recall})


def require_votes(discount: float, parity: str) -> None:
    """Refuse what votes cannot be counted with.

    Raises
    ------
    InvalidParameter
        ``discount`` is below 1 or not finite, or ``parity`` is unknown.
    """
    if not 1 <= discount < np.inf:
        raise InvalidParameter(f"discount is {discount}, allowed finite numbers >= 1")
    if parity not in {"none", "reference"}:
        raise InvalidParameter(f"parity is {parity!r}, allowed 'none', 'reference'")


def count_votes(
    graph: NeighbourGraph, discount: float, labelled: Bools, picks: int, parity: Parity
) -> VoteCount:
    """Let every row vote that is not labelled; ``picks`` rows will be chosen at most."""
    if parity == "reference":
        return ReferenceVotes(graph, discount, labelled)
    return Votes(graph, discount, labelled, picks)


def most_voted(votes: VoteCount, wanted: int, report: Report) -> tuple[list[int], list[float]]:
    """Choose up to ``wanted`` rows and return them with their votes; fewer once nobody votes any more."""
    indices: list[int] = []
    gains: list[float] = []
    while len(indices) < wanted:
        best = votes.best()
        if best is None:
            break
        row, gain = best
        votes.choose(row)
        indices.append(row)
        gains.append(gain)
        report(len(indices), wanted)
    return indices, gains


def farthest_rows(
    vectors: ArrayLike, chosen: Bools, wanted: int, before: int, *, center: bool, report: Report
) -> list[int]:
    """Choose ``wanted`` rows after ``before`` others, each the least similar to the nearest chosen one.

    O(n c d) for c chosen rows, then O(n d) per row. Ties go to the lowest index.
    """
    units, _ = directions(vectors, center=center)
    rows = np.flatnonzero(~chosen)
    others = units[chosen]
    left = units[rows]
    nearest = np.full(len(rows), -np.inf)
    if len(others):
        step = max(1, _BLOCK // len(others))
        for start in range(0, len(rows), step):
            block = slice(start, start + step)
            # In steps, so that equal rows tie exactly.
            nearest[block] = np.rint(left[block] @ others.T * STEPS).max(axis=1)
            report(before, before + wanted)
    farthest: list[int] = []
    for done in range(1, wanted + 1):
        best = int(np.argmin(nearest))
        farthest.append(int(rows[best]))
        np.maximum(nearest, np.rint(left @ left[best] * STEPS), out=nearest)
        nearest[best] = np.inf
        report(before + done, before + wanted)
    return farthest


@PLANNERS.register("fast_vote_k")
@dataclass(frozen=True, slots=True)
class FastVoteK:
    """Rows that many others resemble, spread out by discounting what chosen rows already stand for.

    Needs no model. See `fast_vote_k` for the rule and its source. Gains are sums of votes; diagnostics say
    how many rows at the end had none (``without_votes``).
    """

    nested: ClassVar[bool] = True
    needs: ClassVar[frozenset[PlanFeature]] = frozenset({PlanFeature.VECTORS, PlanFeature.GRAPH})
    wants: ClassVar[frozenset[PlanFeature]] = frozenset()

    n_neighbors: int = parameter(150, description="Neighbours that every row votes for.", ge=1)
    discount: float = parameter(
        10.0,
        description="A vote counts this many times less for every chosen row that the voter votes for.",
        ge=1,
    )
    center: bool = parameter(
        True, description="Compare rows by how they differ from the mean of the pool, not from zero."
    )

    def __post_init__(self) -> None:
        check_parameters(self)

    @property
    def graph(self) -> GraphSpec:
        """Neighbours that are voted for."""
        return GraphSpec(self.n_neighbors, self.center)

    def plan(
        self, candidates: PlanCandidates, budget: int, rng: np.random.Generator, report: Report = silent
    ) -> Picks:
        """Return ``min(budget, unlabelled)`` picks."""
        return fast_vote_k(
            require_feature(candidates.vectors, PlanFeature.VECTORS),
            budget,
            discount=self.discount,
            graph=require_feature(candidates.graph, PlanFeature.GRAPH),
            labelled=candidates.labelled,
            report=report,
        )
