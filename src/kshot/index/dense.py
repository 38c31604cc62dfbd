"""Nearest rows by sentence vector: exact while that is fast enough, HNSW beyond.

`DenseIndex` is what a snapshot searches: an immutable pair of a sealed base and an exact tail. While the
pool is small there is no base and every search is one matrix-vector product.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import faiss as faiss_module
import numpy as np

from kshot.arrays import Bools, Float32s, Int64s
from kshot.selectors.ranking import top_k

EXACT_ROWS = 30_000
"""Largest pool that is scanned; at 384 dimensions a scan reads 46 MB, about 2 ms on one core."""
HNSW_LINKS = 32
HNSW_BUILD_DEPTH = 100
HNSW_SEARCH_DEPTH = 192
_SELECTIVE = 0.1


# The SWIG module's own type hints are incomplete.
faiss: Any = faiss_module


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Rows and their cosine similarities, nearest first; equal similarities in row order."""

    rows: Int64s
    similarities: Float32s


class SealedIndex(Protocol):
    """An approximate index over the first ``len(index)`` rows. Immutable, safe from any thread."""

    def __len__(self) -> int: ...

    def search(self, query: Float32s, k: int, eligible: Bools | None) -> Int64s:
        """Return at most ``k`` distinct eligible rows that are near the query, in any order."""
        ...


class HnswIndex:
    """faiss' HNSW graph over float16 copies of the vectors; similarities are recomputed by the caller."""

    def __init__(self, graph: Any) -> None:
        self.graph: Any = graph
        self._rows = int(graph.ntotal)

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
        """Search the graph; an eligibility bitmap is applied inside the walk."""
        depth = max(HNSW_SEARCH_DEPTH, 2 * k)
        parameters = faiss.SearchParametersHNSW(efSearch=depth)
        if eligible is not None:
            # faiss keeps no reference to the bytes: they must outlive the search.
            bits = np.packbits(eligible[: self._rows], bitorder="little")
            selector = faiss.IDSelectorBitmap(self._rows, faiss.swig_ptr(bits))
            parameters = faiss.SearchParametersHNSW(efSearch=depth, sel=selector)
        _, rows = self.graph.search(query[None, :], k, params=parameters)
        found: Int64s = rows[0][rows[0] >= 0].astype(np.int64)
        return found


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
        return f"hnsw ({len(self.base)} rows) + exact tail ({len(self.vectors) - len(self.base)} rows)"

    def similarities(self, query: Float32s, rows: Int64s | None = None) -> Float32s:
        """Cosine similarity of ``rows`` (None: all) to the query. O(rows d)."""
        return self.vectors @ query if rows is None else self.vectors[rows] @ query

    def search(
        self, query: Float32s, k: int, eligible: Bools, eligible_rows: Int64s | None = None
    ) -> Neighbours:
        """Return the ``k`` eligible rows most similar to the query, nearest first.

        Parameters
        ----------
        query : float32 array, shape (d,)
            Unit vector.
        k : int
        eligible : bool array, shape (n,)
        eligible_rows : int64 array, optional
            ``flatnonzero(eligible)`` if the caller has it.

        Notes
        -----
        Exact where the pool is small or few rows are eligible; otherwise the sealed base is searched for
        candidates, whose similarities are then computed exactly.
        """
        rows = np.flatnonzero(eligible) if eligible_rows is None else eligible_rows
        count = len(rows)
        if count == 0:
            return Neighbours(rows, np.empty(0, np.float32))
        if self.base is None or count <= max(k, _SELECTIVE * len(self.vectors)):
            if count < 0.5 * len(self.vectors):
                return self._nearest(query, k, rows)
            similarities = self.vectors @ query
            if count < len(self.vectors):
                similarities = np.where(eligible, similarities, np.float32(-np.inf))
            best = top_k(similarities, min(k, count))
            return Neighbours(best, similarities[best])
        tail = len(self.base)
        near = self.base.search(query, k, None if count == len(self.vectors) else eligible)
        found = np.concatenate([near, rows[np.searchsorted(rows, tail) :]])
        if len(found) < min(k, count):
            return self._nearest(query, k, rows)
        return self._nearest(query, k, np.sort(found))

    def _nearest(self, query: Float32s, k: int, rows: Int64s) -> Neighbours:
        similarities = self.vectors[rows] @ query
        best = top_k(similarities, min(k, len(rows)))
        return Neighbours(rows[best], similarities[best])
