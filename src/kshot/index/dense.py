"""Nearest rows by sentence vector: exact while that is fast enough, over a sealed index beyond.

`DenseIndex` is what a snapshot searches: an immutable pair of a sealed base and an exact tail. While the
pool is small there is no base and every search is one matrix-vector product.
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import faiss as faiss_module
import numpy as np

from kshot.arrays import Bools, Float32s, Int64s
from kshot.selectors.ranking import top_k

EXACT_ROWS = 10_000
"""Largest pool that is scanned; at 384 dimensions a scan reads 15 MB, about 0.7 ms on one core."""
HNSW_LINKS = 32
HNSW_BUILD_DEPTH = 100
HNSW_SEARCH_DEPTH = 192
_ROWS_PER_STEP = 10
"""Rows that are scanned in the time of one step of a walk through the graph."""


# The SWIG module's own type hints are incomplete.
faiss: Any = faiss_module


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Rows and their cosine similarities, nearest first; equal similarities in row order."""

    rows: Int64s
    similarities: Float32s


class SealedIndex(Protocol):
    """An approximate index over the first ``len(index)`` rows. Immutable, safe from any thread."""

    @property
    def name(self) -> str:
        """What it is, in one or two words."""
        ...

    def __len__(self) -> int: ...

    def search(self, query: Float32s, k: int, eligible: Bools | None) -> Int64s:
        """Return eligible rows (None: all are), distinct, in any order, with the ``k`` nearest among them.

        Fewer than ``k`` mean that the search met no more: the caller then scans.
        """
        ...


def walk_depth(k: int, share: float) -> int:
    """Return how many nearest rows a search has to see in order to find ``k`` eligible ones among them.

    Parameters
    ----------
    k : int
    share : float
        Eligible rows of all, in (0, 1].
    """
    return math.ceil(max(HNSW_SEARCH_DEPTH, 2 * k) / share)


class HnswIndex:
    """faiss' HNSW graph over float16 copies of the vectors; similarities are recomputed by the caller.

    A filter is applied to what the walk returns and not within it: a walk that ends after a fixed number of
    rows, eligible or not, answers with far rows where the near ones are not eligible, and nobody can tell.
    """

    name = "hnsw"

    def __init__(self, index: Any) -> None:
        self.index: Any = index
        self._rows = int(index.ntotal)

    @classmethod
    def build(cls, vectors: Float32s) -> "HnswIndex":
        """Insert every vector into a new graph; O(n log n), about a millisecond per row and core."""
        dimension = vectors.shape[1]
        graph = faiss.IndexHNSWSQ(
            dimension, faiss.ScalarQuantizer.QT_fp16, HNSW_LINKS, faiss.METRIC_INNER_PRODUCT
        )
        graph.hnsw.efConstruction = HNSW_BUILD_DEPTH
        graph.train(vectors[:1])
        graph.add(vectors)
        return cls(graph)

    def __len__(self) -> int:
        return self._rows

    def search(self, query: Float32s, k: int, eligible: Bools | None) -> Int64s:
        """Walk the graph, the deeper the fewer rows are eligible. See `SealedIndex.search`."""
        share = 1.0 if eligible is None else np.count_nonzero(eligible[: self._rows]) / max(self._rows, 1)
        if not share:
            return np.empty(0, np.int64)
        depth = min(walk_depth(k, share), self._rows)
        parameters = faiss.SearchParametersHNSW(efSearch=depth)
        _, found = self.index.search(query[None, :], k if eligible is None else depth, params=parameters)
        rows: Int64s = found[0][found[0] >= 0].astype(np.int64)
        return rows[:k] if eligible is None else rows[eligible[rows]][:k]


@dataclass(frozen=True, slots=True)
class DenseIndex:
    """Sentence vectors of every row, with an optional sealed base over the first rows.

    Attributes
    ----------
    vectors : float32 array, shape (n, d)
        Unit rows.
    base : SealedIndex or None
        Over ``vectors[:len(base)]``; the rows behind it are scanned.
    """

    vectors: Float32s
    base: SealedIndex | None = None

    @property
    def kind(self) -> str:
        """What answers a search, in words."""
        if self.base is None:
            return "exact"
        covered = len(self.base)
        return f"{self.base.name} ({covered} rows) + exact tail ({len(self.vectors) - covered} rows)"

    def similarities(self, query: Float32s, rows: Int64s | None = None) -> Float32s:
        """Cosine similarity of ``rows`` (None: all) to the query. O(rows d)."""
        return self.vectors @ query if rows is None else self.vectors[rows] @ query

    def search(
        self, query: Float32s, k: int, eligible: Bools, eligible_rows: Int64s | None = None
    ) -> Neighbours:
        """Return the ``k`` eligible rows most similar to the query, nearest first; all of them if fewer are.

        Parameters
        ----------
        query : float32 array, shape (d,)
            Unit vector.
        k : int
            0 or less gives none.
        eligible : bool array, shape (n,)
        eligible_rows : int64 array, optional
            ``flatnonzero(eligible)`` if the caller has it.

        Notes
        -----
        Exact where that is no slower than the sealed base; otherwise the base is searched for candidates,
        whose similarities are then computed exactly. Equal similarities come in row order; those of equal
        vectors may differ by float32 rounding.
        """
        rows = np.flatnonzero(eligible) if eligible_rows is None else eligible_rows
        n, count = len(self.vectors), len(rows)
        k = min(k, count)
        if k < 1:
            return Neighbours(np.empty(0, np.int64), np.empty(0, np.float32))
        if self.base is not None and count > _ROWS_PER_STEP * walk_depth(k, count / n):
            near = self.base.search(query, k, None if count == n else eligible)
            tail = int(np.searchsorted(rows, len(self.base)))
            if len(near) >= min(k, tail):
                return self._nearest(query, k, np.sort(np.concatenate([near, rows[tail:]])))
        if count < 0.5 * n:
            return self._nearest(query, k, rows)
        similarities = self.vectors @ query
        best = top_k(similarities if count == n else np.where(eligible, similarities, -np.inf), k)
        return Neighbours(best, similarities[best])

    def _nearest(self, query: Float32s, k: int, rows: Int64s) -> Neighbours:
        similarities = self.vectors[rows] @ query
        best = top_k(similarities, k)
        return Neighbours(rows[best], similarities[best])
