"""k-means: rows in clusters around their means, some of the centres fixed."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from kshot.arrays import Bools, Float64s, Floats, Int64s
from kshot.selectors.annotation.base import Report

FIXED = -1
"""Cluster number of the rows whose nearest centre is a fixed one."""
_SETTLED = 1e-4
"""Share of the spread that a round must take off for another round to follow."""
_BLOCK = 1 << 22
"""Products held at a time."""
SAME = 1e-13
"""Squared distance below which unit rows are the same: float32 does not tell them apart."""


@dataclass(frozen=True, slots=True)
class Clusters:
    """Which cluster every row is in.

    Attributes
    ----------
    centers : float64 array, shape (k, d)
        Mean of every cluster.
    numbers : int64 array, shape (n,)
        From 0 to k - 1, or `FIXED`; no cluster is empty.
    rounds : int
        Assignments made.
    """

    centers: Float64s
    numbers: Int64s
    rounds: int

    def nearest_rows(self, Z: Float64s) -> Int64s:
        """Return, for each cluster, the row of it that is nearest to its centre; of equals the first."""
        members = np.flatnonzero(self.numbers != FIXED)
        apart = np.empty(len(members))
        for start in range(0, len(members), 4096):
            rows = members[start : start + 4096]
            away = Z[rows] - self.centers[self.numbers[rows]]
            apart[start : start + 4096] = np.einsum("id,id->i", away, away)
        order = np.lexsort((members, apart, self.numbers[members]))
        _, first = np.unique(self.numbers[members][order], return_index=True)
        return members[order][first]


def cluster(
    Z: Float64s, k: int, fixed: Bools, rng: np.random.Generator, max_rounds: int, report: Report
) -> Clusters:
    """Cluster unit rows by Lloyd's rounds from k-means++ seeds.

    Parameters
    ----------
    Z : float64 array, shape (n, d)
        Unit rows.
    k : int
        Clusters, from 1 to the number of rows that are not fixed.
    fixed : bool array, shape (n,)
        Rows that are centres which do not move, beside the k that do. They are in no cluster.
    rng : Generator
        Draws the seeds.
    max_rounds : int
        Assignments at most.
    report : callable
        Told of seeds and rounds done.

    Returns
    -------
    Clusters
        A cluster that loses all its rows starts anew at the row that is farthest from its centre.
    """
    rows = Z.astype(np.float32)
    to_fixed = nearest_center(rows, rows[fixed])[1] if fixed.any() else np.full(len(Z), np.inf)
    to_fixed[fixed] = 0.0
    steps = k + max_rounds
    centers = Z[_seeds(Z, k, fixed, to_fixed, rng, report, steps)]
    numbers = np.full(len(Z), FIXED, np.int64)
    spread = 0.0
    rounds = 0
    while rounds < max_rounds:
        assigned, apart = nearest_center(rows, centers.astype(np.float32))
        assigned[to_fixed <= apart] = FIXED
        apart = np.minimum(apart, to_fixed)
        _fill_empty(assigned, apart, k, fixed)
        settled = np.array_equal(assigned, numbers)
        settled |= rounds > 0 and spread - apart.sum() <= _SETTLED * spread
        rounds += 1
        numbers, spread = assigned, float(apart.sum())
        centers = _means(Z, numbers, k)
        report(k + rounds, steps)
        if settled:
            break
    return Clusters(centers, numbers, rounds)


def nearest_center(Z: Floats, centers: Floats) -> tuple[Int64s, Float64s]:
    """Return, for each unit row, the nearest centre, of equals the first, and its squared distance."""
    numbers = np.empty(len(Z), np.int64)
    squared = np.empty(len(Z))
    half = np.einsum("kd,kd->k", centers, centers) / 2
    step = max(1, _BLOCK // len(centers))
    for start in range(0, len(Z), step):
        block = slice(start, start + step)
        closeness = Z[block] @ centers.T
        closeness -= half
        numbers[block] = closeness.argmax(axis=1)
        squared[block] = 1.0 - 2.0 * closeness.max(axis=1)
    return numbers, np.maximum(squared, 0.0)


def _seeds(
    Z: Float64s,
    k: int,
    fixed: Bools,
    to_fixed: Float64s,
    rng: np.random.Generator,
    report: Report,
    steps: int,
) -> Int64s:
    """Draw rows with a chance that grows with the squared distance to all centres there are (k-means++)."""
    chosen = np.empty(k, np.int64)
    free = ~fixed
    own = np.einsum("id,id->i", Z, Z)
    apart = np.where(np.isinf(to_fixed), 1.0, to_fixed)
    for t in range(k):
        chances = np.cumsum(np.where(free & (apart > SAME), apart, 0.0))
        if chances[-1] > 0:
            row = int(np.searchsorted(chances, rng.random() * chances[-1], side="right"))
        else:
            row = int(free.argmax())
        chosen[t] = row
        free[row] = False
        squared = np.maximum(own + own[row] - 2.0 * np.einsum("id,d->i", Z, Z[row]), 0.0)
        apart = np.minimum(apart, squared) if t or fixed.any() else squared
        report(t + 1, steps)
    return chosen


def _fill_empty(numbers: Int64s, apart: Float64s, k: int, fixed: Bools) -> None:
    """Move into each empty cluster the row farthest from its centre, but no cluster's only one."""
    sizes = np.bincount(numbers[numbers != FIXED], minlength=k)
    for empty in np.flatnonzero(sizes == 0).tolist():
        movable = ~fixed & ((numbers == FIXED) | (sizes[numbers] > 1))
        row = int(np.where(movable, apart, -1.0).argmax())
        if numbers[row] != FIXED:
            sizes[numbers[row]] -= 1
        numbers[row], apart[row], sizes[empty] = empty, 0.0, 1


def _means(Z: Float64s, numbers: Int64s, k: int) -> Float64s:
    members = np.flatnonzero(numbers != FIXED)
    ones = np.ones(len(members))
    belongs = csr_array((ones, (numbers[members], members)), shape=(k, len(Z)))
    sums: Float64s = np.asarray(belongs @ Z)
    return sums / np.bincount(numbers[members], minlength=k)[:, None]
