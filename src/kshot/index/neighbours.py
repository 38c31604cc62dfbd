"""The neighbour graph of a large pool: exact while that takes a minute, by clusters of rows beyond."""

from collections.abc import Iterator
from math import ceil
from typing import Any

import faiss as faiss_module
import numpy as np

from kshot.arrays import Float32s, Int64s
from kshot.index.fast_scan import FastScanIndex
from kshot.selectors.annotation.base import GraphSpec, Report, silent
from kshot.selectors.annotation.directions import directions
from kshot.selectors.annotation.neighbour_graph import Int32s, NeighbourGraph
from kshot.selectors.annotation.neighbour_search import knn_graph, ranked_neighbours

# The SWIG module's own type hints are incomplete.
faiss: Any = faiss_module

EXACT_ROWS = 50_000
"""Largest pool whose rows are all compared with each other."""
LEAST_RECALL = 0.95
"""Share of the true neighbours that a graph has at least, two standard errors of its estimate aside."""
SAMPLED_ROWS = 2_000
"""Rows whose neighbours are looked for exactly, to measure what the others' search finds."""
_SEED = 0
_ROWS_PER_LIST = 150
_TRAINING_ROWS_PER_LIST = 32
_TRAINING_ROUNDS = 5
_FIRST_PROBES = 8
_MORE_PROBES = 1.25
_FIRST_KEPT = 2
_ROUNDING = 1e-6
"""Difference of two float32 sums of the same products."""
_BLOCK_ROWS = 2_048
_EXACT_BLOCK_ROWS = 32


def build_graph(
    vectors: Float32s, spec: GraphSpec, report: Report = silent, *, exact_rows: int = EXACT_ROWS
) -> NeighbourGraph:
    """Find the nearest other rows of every row.

    Up to ``exact_rows`` that is `knn_graph`. Beyond, rows are divided into lists of rows that lie close
    together, and each row is compared with the rows of the lists nearest to it: of as many lists as it takes
    to find `LEAST_RECALL` of the true neighbours of a sample of rows.

    Parameters
    ----------
    vectors : float32 array, shape (n, d)
        Unit rows, not centred.
    spec : GraphSpec
    report : callable
        Told of rows done, every few seconds at least.

    Returns
    -------
    NeighbourGraph
        ``recall`` is that of the sample. Where not every row was compared, similarities are exact to float32
        rounding, and of more equally similar rows than wanted any may be among the neighbours.

    Notes
    -----
    The same vectors give the same graph on the same machine with the same number of threads.
    """
    if len(vectors) <= exact_rows:
        return knn_graph(vectors, spec.n_neighbors, center=spec.center, report=report)
    units, mean = directions(vectors, center=spec.center)
    near = units.astype(np.float32)
    del units
    n, k = len(near), min(spec.n_neighbors, len(near) - 1)
    order = np.random.default_rng(_SEED).permutation(n)
    sampled = min(SAMPLED_ROWS, n // 4 + 1)
    # Not of the rows that the lists are made for: those find more than others.
    sample, others = np.sort(order[:sampled]), order[sampled:]
    report(0, n)
    lists = _Lists(near, others)
    true = np.concatenate([cosines for _, cosines in _exactly(near, sample, k, report)])
    recall = lists.probe_enough(sample, true, report)
    indices, similarities = np.empty((n, k), np.int32), np.empty((n, k), np.float32)
    for start in range(0, n, _BLOCK_ROWS):
        rows = np.arange(start, min(start + _BLOCK_ROWS, n))
        indices[rows], similarities[rows] = lists.search(rows, k)
        report(start + len(rows), n)
    return NeighbourGraph(indices, similarities, spec.center, recall, mean)


class _Lists:
    """Rows divided into lists around centroids that some of the training rows are clustered to.

    Where the dimension allows it, lists hold 4-bit codes of pairs of dimensions, a sixteenth of the vectors,
    and more rows than wanted are kept of a scan, whose vectors then decide.
    """

    def __init__(self, near: Float32s, training: Int64s) -> None:
        n, dimension = near.shape
        count = max(1, n // _ROWS_PER_LIST)
        centroids = faiss.IndexFlatIP(dimension)
        self._near = near
        self._is_coded = FastScanIndex.fits(dimension)
        if self._is_coded:
            lists = faiss.IndexIVFPQFastScan(
                centroids, dimension, count, dimension // 2, 4, faiss.METRIC_INNER_PRODUCT
            )
            self._index: Any = faiss.IndexRefineFlat(lists)
            self._index.k_factor = _FIRST_KEPT
        else:
            lists = faiss.IndexIVFFlat(centroids, dimension, count, faiss.METRIC_INNER_PRODUCT)
            self._index = lists
        lists.cp.seed = _SEED
        lists.cp.niter = _TRAINING_ROUNDS
        lists.cp.spherical = True
        # faiss would warn of few rows; the recall that comes of it is measured.
        lists.cp.min_points_per_centroid = 1
        rows = np.sort(training[: count * _TRAINING_ROWS_PER_LIST])
        self._index.train(np.ascontiguousarray(near[rows]))
        self._index.add(near)
        self._lists: Any = lists
        lists.nprobe = min(_FIRST_PROBES, lists.nlist)

    def probe_enough(self, sample: Int64s, true: Float32s, report: Report) -> float:
        """Let a search look at as much as it takes to find `LEAST_RECALL` of the sample's true neighbours.

        A neighbour as similar as the last true one, which ``true`` ends with, is as good as that.
        """
        k = true.shape[1]
        while True:
            report(0, len(self._near))
            _, found = self.search(sample, k)
            shares = (found >= true[:, -1:] - _ROUNDING).mean(axis=1)
            recall = float(np.mean(shares))
            doubt = 2 * float(np.std(shares)) / len(shares) ** 0.5
            if recall - doubt >= LEAST_RECALL or not self._look_further(k):
                return recall

    def _look_further(self, k: int) -> bool:
        if self._lists.nprobe < self._lists.nlist:
            self._lists.nprobe = min(ceil(self._lists.nprobe * _MORE_PROBES), self._lists.nlist)
            return True
        if self._is_coded and self._index.k_factor * k < len(self._near):
            self._index.k_factor *= 2
            return True
        return False

    def search(self, rows: Int64s, k: int) -> tuple[Int32s, Float32s]:
        """Look for the neighbours of some rows; exactly, where too few rows are in the lists looked at."""
        cosines, found = self._index.search(self._near[rows], k + 1)
        short = (found < 0).any(axis=1)
        if not short.any():
            return ranked_neighbours(found, cosines, rows, k)
        indices, similarities = np.empty((len(rows), k), np.int32), np.empty((len(rows), k), np.float32)
        full = ~short
        indices[full], similarities[full] = ranked_neighbours(found[full], cosines[full], rows[full], k)
        blocks = list(_exactly(self._near, rows[short], k, silent))
        indices[short] = np.concatenate([block for block, _ in blocks])
        similarities[short] = np.concatenate([block for _, block in blocks])
        return indices, similarities


def _exactly(near: Float32s, rows: Int64s, k: int, report: Report) -> Iterator[tuple[Int32s, Float32s]]:
    """Compare some rows with all others, block by block."""
    everything = np.broadcast_to(np.arange(len(near)), (_EXACT_BLOCK_ROWS, len(near)))
    for start in range(0, len(rows), _EXACT_BLOCK_ROWS):
        report(0, len(near))
        block = rows[start : start + _EXACT_BLOCK_ROWS]
        yield ranked_neighbours(everything[: len(block)], near[block] @ near.T, block, k)
