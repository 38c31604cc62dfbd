"""Greedy facility location: over all pairs of rows, or over the edges of a neighbour graph."""

import heapq

import numpy as np
from scipy.sparse import csr_array

from kshot.arrays import Bools, Float64s, Int64s
from kshot.selectors.annotation.base import Report
from kshot.selectors.annotation.neighbour_graph import NeighbourGraph
from kshot.selectors.annotation.neighbour_keys import STEPS

_BLOCK = 1 << 22
"""Similarities held at a time, 32 MB."""


def represent_by_products(
    Z: Float64s, labelled: Bools, budget: int, floor: float, report: Report
) -> tuple[Int64s, Float64s]:
    """Pick rows that raise ``sum_i max(floor, max_s <z_i, z_s>)`` the most, until none raises it.

    Parameters
    ----------
    Z : float64 array, shape (n, d)
        Unit rows.
    labelled : bool array, shape (n,)
        Count as picked.
    budget : int
    floor : float
    report : callable

    Returns
    -------
    indices : int64 array, shape (m,)
    gains : float64 array, shape (m,)

    Notes
    -----
    Similarities are rounded to 24 binary places, so that sums of them are exact in whatever order: what is
    equal stays equal, and gains that are brought up to date are those that are computed afresh.
    """
    free = ~labelled
    wanted = min(budget, int(np.count_nonzero(free)))
    step = max(1, _BLOCK // max(len(Z), 1))
    blocks = [slice(start, start + step) for start in range(0, len(Z), step)]
    nearest = np.full(len(Z), np.rint(floor * STEPS))
    if labelled.any():
        for block in blocks:
            np.maximum(nearest[block], _steps(Z[block], Z[labelled]).max(axis=1), out=nearest[block])
            report(0, wanted)
    gains = np.zeros(len(Z))
    for block in blocks:
        gains += _raised(_steps(Z[block], Z), nearest[block], STEPS)
        report(0, wanted)
    picked: list[int] = []
    raised: list[float] = []
    while len(picked) < wanted:
        best = int(np.where(free, gains, -np.inf).argmax())
        if gains[best] <= 0:
            break
        picked.append(best)
        raised.append(gains[best] / STEPS)
        free[best] = False
        similarity = _steps(Z, Z[best : best + 1])[:, 0]
        changed = np.flatnonzero(similarity > nearest)
        for block in blocks:
            rows = changed[block]
            if not len(rows):
                break
            # What lies between the old and the new similarity is no gain any more.
            gains -= _raised(_steps(Z[rows], Z), nearest[rows], similarity[rows][:, None])
            report(len(picked), wanted)
        nearest[changed] = similarity[changed]
        report(len(picked), wanted)
    return np.array(picked, np.int64), np.array(raised, np.float64)


def _steps(rows: Float64s, others: Float64s) -> Float64s:
    """Return products in whole steps; row by row for a single other, which BLAS is slow at."""
    products: Float64s
    if len(others) == 1:
        products = np.einsum("id,d->i", rows, others[0] * STEPS)[:, None]
    else:
        products = (rows * STEPS) @ others.T
    np.rint(products, out=products)
    return products


def _raised(steps: Float64s, low: Float64s, high: Float64s | float) -> Float64s:
    """Sum, over rows, how far each column lies above ``low``, and no further than ``high``."""
    np.clip(steps, low[:, None], high, out=steps)
    raised: Float64s = steps.sum(axis=0) - low.sum()
    return raised


def represent_by_edges(
    graph: NeighbourGraph, labelled: Bools, budget: int, report: Report
) -> tuple[Int64s, Float64s]:
    """Pick rows that raise ``sum_i max(0, max_s c(i, s))`` the most, until none raises it.

    ``c(i, s)`` is 1 for i itself, the similarity along an edge from i to s, and 0 without one.

    Parameters
    ----------
    graph : NeighbourGraph
        Similarities outside [0, 1] count as 0 or 1.
    labelled : bool array, shape (n,)
        Count as picked.
    budget : int
    report : callable

    Returns
    -------
    indices : int64 array, shape (m,)
    gains : float64 array, shape (m,)
    """
    n, k = graph.indices.shape
    similarities = np.clip(graph.similarities, 0.0, 1.0)
    nearest = np.where(labelled[graph.indices], similarities, 0.0).max(axis=1, initial=0.0).astype(np.float64)
    nearest[labelled] = 1.0
    starts = np.arange(n + 1, dtype=np.int64) * k
    columns = csr_array((similarities.ravel(), graph.indices.ravel(), starts), shape=(n, n)).tocsc()
    offsets, seen_from, seen_as = columns.indptr.tolist(), columns.indices, columns.data.astype(np.float64)

    def gain(row: int) -> float:
        along = slice(offsets[row], offsets[row + 1])
        above = np.maximum(seen_as[along] - nearest[seen_from[along]], 0.0)
        return float(above.sum()) + 1.0 - float(nearest[row])

    above = np.maximum(similarities - nearest[:, None], 0.0)
    bounds = np.bincount(graph.indices.ravel(), above.ravel(), minlength=n) + 1.0 - nearest
    # A little more than the sums, which may round otherwise than `gain` does.
    bounds *= 1.0 + 1e-9
    # Gains only fall, so that a row whose fresh gain is still on top of all old ones is the best.
    heap = [(-bounds[row], row, -1) for row in np.flatnonzero(~labelled).tolist()]
    heapq.heapify(heap)
    wanted = min(budget, len(heap))
    picked: list[int] = []
    gains: list[float] = []
    while len(picked) < wanted:
        minus_gain, row, asked_at = heapq.heappop(heap)
        if asked_at < len(picked):
            heapq.heappush(heap, (-gain(row), row, len(picked)))
            continue
        if minus_gain >= 0:
            break
        picked.append(row)
        gains.append(-minus_gain)
        along = slice(offsets[row], offsets[row + 1])
        nearest[seen_from[along]] = np.maximum(nearest[seen_from[along]], seen_as[along])
        nearest[row] = 1.0
        report(len(picked), wanted)
    return np.array(picked, np.int64), np.array(gains, np.float64)
