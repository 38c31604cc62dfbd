"""BM25 over a pool's texts."""

import re
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csc_array

from kshot.arrays import Bools, Float64s, Int64s
from kshot.selectors.lexical import Bm25Matrix, Bm25Variant, bm25_contributions

VARIANT = Bm25Variant.LUCENE
K1 = 1.5
B = 0.75
_WORD = re.compile(r"\w+")

LoadTexts = Callable[[Sequence[int]], list[str]]
"""Embed texts of example versions, by seq; an empty text where a version is gone."""


def words(text: str) -> list[str]:
    """Split a text into lower-case words; everything but letters, digits and '_' separates."""
    return _WORD.findall(text.lower())


@dataclass(frozen=True, slots=True)
class LexicalIndex:
    """BM25 (Lucene's variant, k1 = 1.5, b = 0.75) over the rows of a pool that were live. Immutable.

    Attributes
    ----------
    live : bool array, shape (n,)
        The documents that count, for document frequencies and the mean length too.
    matrix : Bm25Matrix
        Of all n rows; those that were not live are empty.
    """

    live: Bools
    matrix: Bm25Matrix

    def scores(self, query: str) -> Float64s:
        """Score every row, shape (n,): 0 where no word is shared; a repeated word counts each time."""
        return self.matrix.scores(words(query))


class LexicalWriter:
    """Remembers each row's words as integers, so that a new index needs no second look at the texts."""

    def __init__(self) -> None:
        self._row_to_ids: dict[int, NDArray[np.int32]] = {}
        self._word_to_id: dict[Hashable, int] = {}

    def unknown(self, rows: Int64s) -> Int64s:
        """Return those of the rows whose text was never given."""
        return np.array([row for row in rows.tolist() if row not in self._row_to_ids], np.int64)

    def put(self, row: int, text: str) -> None:
        """Give the text of a row."""
        vocabulary = self._word_to_id
        ids = [vocabulary.setdefault(word, len(vocabulary)) for word in words(text)]
        self._row_to_ids[row] = np.array(ids, np.int32)

    def build(self, live: Bools) -> LexicalIndex:
        """Index the rows that are live; one whose text is unknown is an empty document.

        O(words of the pool). Call from one thread at a time; the result may be read from any.
        """
        rows = np.flatnonzero(live)
        none = np.empty(0, np.int32)
        documents = [self._row_to_ids.get(row, none) for row in rows.tolist()]
        lengths = np.array([len(document) for document in documents], np.int64)
        ids = np.concatenate([none, *documents])
        # Counted over the live rows alone, then put in the places that these rows have in the pool.
        counts = coo_array(
            (np.ones(len(ids)), (np.repeat(np.arange(len(rows)), lengths), ids)),
            shape=(len(rows), len(self._word_to_id)),
        )
        part = bm25_contributions(counts.tocsc(), variant=VARIANT, k1=K1, b=B)
        placed = csc_array((part.data, rows[part.indices], part.indptr), shape=(len(live), part.shape[1]))
        return LexicalIndex(live, Bm25Matrix(self._word_to_id.copy(), placed))


@dataclass(frozen=True, slots=True)
class _Newest:
    version: int
    index: LexicalIndex
    is_complete: bool
    """False if a live row's text could not be read."""


class LexicalCache:
    """Builds one lexical index at a time, on demand, and keeps the newest."""

    def __init__(self, load_texts: LoadTexts) -> None:
        self._load_texts = load_texts
        self._lock = threading.Lock()
        self._writer = LexicalWriter()
        self._newest: _Newest | None = None

    def newest(self) -> LexicalIndex | None:
        """Return the newest index that is ready."""
        return None if self._newest is None else self._newest.index

    def find(self, version: int, seqs: Int64s, live: Bools) -> LexicalIndex:
        """Return the index of exactly these live rows, waiting for its construction if need be.

        Parameters
        ----------
        version : int
            Of the snapshot that asks; the index of the newest one is kept.
        seqs : int64 array, shape (n,)
            Example version of each row.
        live : bool array, shape (n,)
        """
        found = self._of(version, live)
        if found is not None:
            return found
        with self._lock:
            found = self._of(version, live)
            if found is not None:
                return found
            unknown = self._writer.unknown(np.flatnonzero(live))
            texts = self._load_texts(seqs[unknown].tolist())
            for row, text in zip(unknown.tolist(), texts, strict=True):
                # A version erased since has no text, but the row may live on as another version's.
                if text:
                    self._writer.put(row, text)
            index = self._writer.build(live)
            if self._newest is None or self._newest.version <= version:
                self._newest = _Newest(version, index, is_complete=all(texts))
            return index

    def _of(self, version: int, live: Bools) -> LexicalIndex | None:
        # A row's text never changes, so the same rows have the same index.
        newest = self._newest
        if newest is None or not np.array_equal(newest.index.live, live):
            return None
        return newest.index if newest.is_complete or newest.version == version else None
