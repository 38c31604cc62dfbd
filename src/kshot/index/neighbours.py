"""The neighbour graph of a large pool: exact while that takes a minute, by clusters of rows beyond."""

import math
from typing import Any

import faiss as faiss_module
import numpy as np

from kshot.arrays import Float32s, Int64s
from kshot.selectors.annotation.base import GraphSpec, Report, silent
from kshot.selectors.annotation.directions import directions
from kshot.selectors.annotation.neighbour_graph import Int32s, NeighbourGraph
from kshot.selectors.annotation.neighbour_search import knn_graph, ranked_neighbours

# The SWIG module's own type hints are incomplete.
faiss: Any = faiss_module

EXACT_ROWS = 50_000
"""Largest pool whose rows are all compared with each other."""
LEAST_RECALL = 0.95
"""Share of the true neighbours that a graph has at least."""
SAMPLED_ROWS = 500
"""Rows whose neighbours are looked for exactly, to measure what the others' search finds."""
_SEED = 0
_ROWS_PER_LIST = 100
_TRAINING_ROWS_PER_LIST = 32
_TRAINING_ROUNDS = 5
_FIRST_PROBES = 4
_MORE_PROBES = 1.25
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
        ``recall`` is that of the sample. Similarities are exact to float32 rounding where not every row was
        compared, and equal rows then need not tie exactly.

    Notes
    -----
    The same vectors give the same graph on the same machine with the same number of threads.
    """
    if len(vectors) <= exact_rows:
        return knn_graph(vectors, spec.n_neighbors, center=spec.center, report=report)
    units, mean = directions(vectors, center=spec.center)
    k = min(spec.n_neighbors, len(units) - 1)
    sample = np.sort(np.random.default_rng(_SEED).permutation(len(units))[:SAMPLED_ROWS])
    near = units.astype(np.float32)
    report(0, len(units))
    true = _exact_neighbours(near, sample, k)
    index = _inverted_lists(near)
    recall = _probe_enough(index, near, sample, true[0], report)
    indices, similarities = np.empty((len(near), k), np.int32), np.empty((len(near), k), np.float32)
    for start in range(0, len(near), _BLOCK_ROWS):
        rows = np.arange(start, min(start + _BLOCK_ROWS, len(near)))
        indices[rows], similarities[rows] = _search(index, near, rows, k)
        report(int(rows[-1]) + 1, len(near))
    return NeighbourGraph(indices, similarities, spec.center, recall, mean)


def _inverted_lists(near: Float32s) -> Any:
    """Divide rows into lists around centroids that a sample of them is clustered to."""
    n, dimension = near.shape
    lists = max(1, n // _ROWS_PER_LIST)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dimension), dimension, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = _SEED
    index.cp.niter = _TRAINING_ROUNDS
    index.cp.spherical = True
    # faiss warns on stderr of fewer rows than it would like; the recall that comes of it is measured.
    index.cp.min_points_per_centroid = 1
    rows = np.random.default_rng(_SEED).permutation(n)[: lists * _TRAINING_ROWS_PER_LIST]
    index.train(np.ascontiguousarray(near[np.sort(rows)]))
    index.add(near)
    return index


def _probe_enough(index: Any, near: Float32s, sample: Int64s, true: Int32s, report: Report) -> float:
    """Let a search look into as few lists as find `LEAST_RECALL` of the true neighbours of the sample."""
    index.nprobe = min(_FIRST_PROBES, index.nlist)
    while True:
        report(0, len(near))
        found, _ = _search(index, near, sample, true.shape[1])
        shared = [np.isin(row, wanted).sum() for row, wanted in zip(found, true, strict=True)]
        recall = float(np.sum(shared)) / max(true.size, 1)
        if recall >= LEAST_RECALL or index.nprobe == index.nlist:
            return recall
        index.nprobe = min(math.ceil(index.nprobe * _MORE_PROBES), index.nlist)


def _search(index: Any, near: Float32s, rows: Int64s, k: int) -> tuple[Int32s, Float32s]:
    """Look for the neighbours of some rows in the lists; exactly, where those lists hold too few rows."""
    cosines, found = index.search(near[rows], k + 1)
    short = (found < 0).any(axis=1)
    if not short.any():
        return ranked_neighbours(found, cosines, rows, k)
    indices, similarities = np.empty((len(rows), k), np.int32), np.empty((len(rows), k), np.float32)
    indices[short], similarities[short] = _exact_neighbours(near, rows[short], k)
    full = ~short
    indices[full], similarities[full] = ranked_neighbours(found[full], cosines[full], rows[full], k)
    return indices, similarities


def _exact_neighbours(near: Float32s, rows: Int64s, k: int) -> tuple[Int32s, Float32s]:
    everything = np.broadcast_to(np.arange(len(near)), (_EXACT_BLOCK_ROWS, len(near)))
    indices, similarities = np.empty((len(rows), k), np.int32), np.empty((len(rows), k), np.float32)
    for start in range(0, len(rows), _EXACT_BLOCK_ROWS):
        block = slice(start, min(start + _EXACT_BLOCK_ROWS, len(rows)))
        found = everything[: block.stop - block.start]
        indices[block], similarities[block] = ranked_neighbours(
            found, near[rows[block]] @ near.T, rows[block], k
        )
    return indices, similarities
