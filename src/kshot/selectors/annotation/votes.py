"""The state of a vote-k plan: who still votes for whom, and how much each vote counts."""

from fractions import Fraction
from math import ceil, fsum, log
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kshot.arrays import Bools, Float64s, Int64s
from kshot.selectors.annotation.neighbour_graph import NeighbourGraph

_FAINTEST = 1e-15
"""Share of a fresh vote below which votes are not discounted further."""
_ROUNDING = 1e-12
"""Relative difference of two sums that rounding can explain."""
_BLOCK_EDGES = 1 << 22
_ONE = np.int32(1)
"""Of the counts' own type, without which NumPy takes ten times as long."""


class VoteCount(Protocol):
    """Counts votes while rows are chosen. Mutable; for one plan."""

    chosen: Bools
    """Rows that no longer vote and cannot be chosen, shape (n,)."""

    def best(self, rows: Int64s | None = None) -> tuple[int, float] | None:
        """Return the row to choose and what its votes amount to; None if nobody votes for any row.

        ``rows`` are the rows to choose among, None for all; equal rows are told apart by their order there.
        """
        ...

    def choose(self, row: int, *, discount: bool = True) -> None:
        """Take a row: it stops voting, and with ``discount`` other votes of its voters count less."""
        ...


class Votes:
    """Votes by level: for each row, how many of its voters vote for 0, 1, 2, ... chosen rows.

    Levels are integers, so sums of votes are compared exactly, whatever the order in which they came about.

    Parameters
    ----------
    graph : NeighbourGraph
        Every row votes for its neighbours.
    discount : float
        At least 1: a vote of a row that votes for c chosen rows counts ``discount ** -c``.
    labelled : bool array, shape (n,)
        Chosen from the start.
    picks : int
        Rows that will be chosen at most.

    Notes
    -----
    O(n k) time once, O(n levels) memory; levels beyond the one that counts 1e-15 of a fresh vote are counted
    as that. A pick costs O(v k) where v rows vote for the row, and O(n) for finding it.
    """

    def __init__(self, graph: NeighbourGraph, discount: float, labelled: Bools, picks: int) -> None:
        n, k = graph.indices.shape
        levels = 1
        if discount > 1:
            faint = ceil(-log(_FAINTEST) / log(discount) - 1e-9)
            levels += min(faint, k, int(np.count_nonzero(labelled)) + picks)
        self.chosen = labelled.copy()
        self._neighbours = graph.indices
        self._offsets, self._voters = graph.voters()
        self._level = np.zeros(n, np.int32)
        self._counts = np.zeros((n, levels), np.int32)
        self._flat = self._counts.reshape(-1)
        self._touched = np.zeros(n, np.bool_)
        ratio = Fraction(discount)
        # All levels brought to the denominator of the last: sums of these are exact.
        self._scale = [
            ratio.numerator ** (levels - 1 - level) * ratio.denominator**level for level in range(levels)
        ]
        self._weights: Float64s = np.array([float(discount) ** -level for level in range(levels)])
        step = max(1, _BLOCK_EDGES // max(k, 1))
        for rows in (slice(start, start + step) for start in range(0, n, step)):
            level = np.minimum(labelled[graph.indices[rows]].sum(axis=1), levels - 1)
            self._level[rows] = level
            voting = ~labelled[rows]
            np.add.at(
                self._flat, self._places(graph.indices[rows][voting].astype(np.int64), level[voting]), _ONE
            )
        self._sums: Float64s = np.where(labelled, -np.inf, self._counts @ self._weights)

    def best(self, rows: Int64s | None = None) -> tuple[int, float] | None:
        """See `VoteCount.best`; of all rows, equal ones by row number."""
        sums = self._sums if rows is None else self._sums[rows]
        top = float(sums.max(initial=0.0))
        if top <= 0:
            return None
        contenders = np.flatnonzero(sums >= top * (1 - _ROUNDING))
        if rows is not None:
            contenders = rows[contenders]
        counts = self._counts[contenders]
        row = int(contenders[0])
        if (counts != counts[0]).any():
            distinct, first = np.unique(counts, axis=0, return_index=True)
            values = [sum(map(int.__mul__, levels, self._scale)) for levels in distinct.tolist()]
            best = max(values)
            row = int(contenders[min(first[i] for i, value in enumerate(values) if value == best)])
        return row, fsum(self._counts[row] * self._weights)

    def choose(self, row: int, *, discount: bool = True) -> None:
        """See `VoteCount.choose`."""
        self.chosen[row] = True
        self._sums[row] = -np.inf
        own = self._neighbours[row]
        self._counts[own, self._level[row]] -= 1
        self._touched[own] = True
        if discount:
            voters = self._voters[self._offsets[row] : self._offsets[row + 1]]
            voters = voters[~self.chosen[voters] & (self._level[voters] < len(self._weights) - 1)]
            votes = self._neighbours[voters].astype(np.int64)
            places = self._places(votes, self._level[voters])
            np.subtract.at(self._flat, places, _ONE)
            places += 1
            np.add.at(self._flat, places, _ONE)
            self._level[voters] += 1
            self._touched[votes.ravel()] = True
        touched = np.flatnonzero(self._touched)
        self._touched[touched] = False
        touched = touched[~self.chosen[touched]]
        self._sums[touched] = self._counts[touched] @ self._weights

    def _places(self, votes: Int64s, level: NDArray[np.integer]) -> Int64s:
        """Return where votes of rows at these levels are counted in the flat table."""
        return (votes * len(self._weights) + level[:, None]).ravel()


class ReferenceVotes:
    """Votes as the published code counts them: floating-point sums in the order of the voters.

    Of equal rows the one with the most voters comes first, chosen ones included; then the one that the first
    of its votes, counted from row 0, each from the farthest neighbour to the nearest, came to first.

    Notes
    -----
    Every sum is computed anew for every pick, O(n k): for comparisons, not for large pools.
    """

    def __init__(self, graph: NeighbourGraph, discount: float, labelled: Bools) -> None:
        n = len(graph)
        self.chosen = labelled.copy()
        self._neighbours = graph.indices
        self._offsets, self._voters = graph.voters()
        self._level = np.zeros(n, np.int64)
        self._level += labelled[graph.indices].sum(axis=1)
        # By Python's power: NumPy's may differ in the last digit.
        self._weights = np.array([float(discount) ** -level for level in range(graph.n_neighbors + 1)])
        met, first = np.unique(graph.indices[:, ::-1], return_index=True)
        order = met[np.lexsort((first, -np.diff(self._offsets)[met]))]
        self._order: Int64s = order.astype(np.int64)

    def best(self, rows: Int64s | None = None) -> tuple[int, float] | None:
        """See `VoteCount.best`; of all rows, equal ones as the class says."""
        rows = self._order if rows is None else rows
        rows = rows[~self.chosen[rows]]
        weights = np.where(self.chosen, 0.0, self._weights[self._level])
        # One after the other in the order given, which is that of the voters.
        sums = np.bincount(
            self._neighbours.ravel(),
            np.repeat(weights, self._neighbours.shape[1]),
            minlength=len(self.chosen),
        )[rows]
        if not sums.any():
            return None
        best = int(np.argmax(sums))
        return int(rows[best]), float(sums[best])

    def choose(self, row: int, *, discount: bool = True) -> None:
        """See `VoteCount.choose`."""
        self.chosen[row] = True
        if discount:
            self._level[self._voters[self._offsets[row] : self._offsets[row + 1]]] += 1
