"""All pairs of rows compared tile by tile, each pair once, and the nearest of every row kept."""

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from math import ceil

import numpy as np

from kshot.arrays import Float32s, Float64s, Int64s
from kshot.selectors.annotation.base import Report
from kshot.selectors.annotation.neighbour_graph import Int32s
from kshot.selectors.annotation.neighbour_keys import keys_of, ranked, steps_of

_TILE_ROWS = 4_096
"""Rows of a tile at most; the products of two tiles take 128 MB."""
_CACHED_BYTES = 1 << 20
_LEAST_SPARE = 64


def nearest_rows(units: Float64s, k: int, report: Report) -> tuple[Int32s, Float32s]:
    """Find the k nearest other rows of every row, exactly.

    Parameters
    ----------
    units : float64 array, shape (n, d)
        Rows of length `SCALE`, or 0.
    k : int
        At least 0 and below n.
    report : callable
        Told of the share of the pairs compared, in rows.

    Returns
    -------
    indices : int32 array, shape (n, k)
        Nearest first; equal similarities in row order.
    similarities : float32 array, shape (n, k)

    Notes
    -----
    O(n^2 d / 2) multiplications, as every product serves two rows. After a few tiles hardly a product is
    above the k-th best so far of either row, so that most cost one comparison for each.
    """
    n = len(units)
    count = ceil(n / _TILE_ROWS)
    edges = [n * tile // max(count, 1) for tile in range(count + 1)]
    tiles = [slice(*ends) for ends in pairwise(edges)]
    pairs = [(one, other) for place, one in enumerate(tiles) for other in tiles[place + 1 :]]
    best = _BestSoFar(n, k)
    for done, tile in enumerate(tiles, 1):
        # BLAS computes half as much where both are the same array.
        rows = units[tile]
        best.begin(tile, rows @ rows.T)
        report(n * done // (len(tiles) + len(pairs)), n)
    for done, (one, other) in enumerate(pairs, len(tiles) + 1):
        best.offer(one, other, units[one] @ units[other].T)
        report(n * done // (len(tiles) + len(pairs)), n)
    return best.ranked()


class _BestSoFar:
    """For each row the keys of its nearest rows so far, and room for more before the worst are dropped."""

    def __init__(self, n: int, k: int) -> None:
        self._k = k
        self._room = k + max(k, _LEAST_SPARE)
        self._keys: Float64s = np.full((n, self._room), np.inf)
        self._filled = np.zeros(n, np.int64)
        self._least = np.full(n, -np.inf)
        """Products below are not among the k largest of the row."""

    def begin(self, tile: slice, products: Float64s) -> None:
        """Take the nearest rows within a tile."""
        kept = min(self._k, len(products) - 1)
        if kept < 1:
            return
        rows = np.arange(tile.start, tile.stop)
        step = max(1, _CACHED_BYTES // products[0].nbytes)

        def choose(start: int) -> None:
            part = slice(start, min(start + step, len(products)))
            keys = keys_of(products[part], rows)
            keys[np.arange(len(keys)), np.arange(part.start, part.stop)] = np.inf
            keys.partition(kept - 1, axis=1)
            self._keep(rows[part], keys[:, :kept])

        # NumPy lets other threads run while it rounds and partitions.
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            list(threads.map(choose, range(0, len(products), step)))

    def offer(self, one: slice, other: slice, products: Float64s) -> None:
        """Compare the rows of one tile with those of another."""
        width = products.shape[1]
        met: list[tuple[Int64s, Int64s, Float64s]] = []
        step = max(1, _CACHED_BYTES // products[0].nbytes)
        least = self._least[other]
        for start in range(0, len(products), step):
            part = products[start : start + step]
            first = one.start + start
            hits = np.flatnonzero(part >= self._least[first : first + len(part), None])
            rows, columns = np.divmod(hits, width)
            self._add(first + rows, other.start + columns, part.ravel()[hits])
            hits = np.flatnonzero(part >= least)
            rows, columns = np.divmod(hits, width)
            met.append((columns, first + rows, part.ravel()[hits]))
        columns, rows, values = (np.concatenate(parts) for parts in zip(*met, strict=True))
        order = np.argsort(columns.astype(np.min_scalar_type(width)), kind="stable")
        self._add(other.start + columns[order], rows[order], values[order])

    def ranked(self) -> tuple[Int32s, Float32s]:
        """Return row numbers and similarities, nearest first."""
        return ranked(self._keys, self._k)

    def _add(self, rows: Int64s, neighbours: Int64s, products: Float64s) -> None:
        """Add neighbours of rows, which ascend and may repeat."""
        if not len(rows):
            return
        keys = keys_of(products, neighbours)
        starts = np.flatnonzero(np.diff(rows, prepend=-1))
        counts = np.diff(starts, append=len(rows))
        present = rows[starts]
        rank = np.arange(len(rows)) - np.repeat(starts, counts)
        is_full = self._filled[present] + counts > self._room
        if is_full.any():
            # As when the nearest rows come last: sorted all at once, however many they are.
            lines = np.repeat(np.cumsum(is_full) - 1, counts)
            those = np.repeat(is_full, counts)
            more = np.full((int(is_full.sum()), int(counts[is_full].max())), np.inf)
            more[lines[those], rank[those]] = keys[those]
            every = np.concatenate([self._keys[present[is_full]], more], axis=1)
            every.partition(self._k - 1, axis=1)
            self._keep(present[is_full], every[:, : self._k])
            keys, rows, rank = keys[~those], rows[~those], rank[~those]
            present, counts = present[~is_full], counts[~is_full]
        self._keys[rows, self._filled[rows] + rank] = keys
        self._filled[present] += counts
        crowded = present[self._filled[present] >= (self._k + self._room) // 2]
        if len(crowded):
            every = self._keys[crowded]
            every.partition(self._k - 1, axis=1)
            self._keep(crowded, every[:, : self._k])

    def _keep(self, rows: Int64s, keys: Float64s) -> None:
        """Set what is known of some rows; all that is not among the k best is forgotten."""
        kept = keys.shape[1]
        self._keys[rows, :kept] = keys
        self._keys[rows, kept:] = np.inf
        self._filled[rows] = kept
        if kept == self._k:
            # What is rounded to the same step still counts.
            self._least[rows] = steps_of(keys.max(axis=1)) - 0.5
