"""BM25 over a pool's texts."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csc_array

from kshot.arrays import Bools, Float64s, Int64s
from kshot.index.text_cache import LoadTexts, TextCache
from kshot.selectors.lexical import Bm25Matrix, Bm25Variant, bm25_contributions
from kshot.structures import words

VARIANT = Bm25Variant.LUCENE
K1 = 1.5
B = 0.75


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

    def put(self, rows: Sequence[int], texts: Sequence[str]) -> None:
        """Give the texts of rows."""
        vocabulary = self._word_to_id
        for row, text in zip(rows, texts, strict=True):
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


class LexicalCache(TextCache[LexicalIndex]):
    """Builds one lexical index at a time, on demand, and keeps the newest."""

    def __init__(self, load_texts: LoadTexts) -> None:
        super().__init__(load_texts, LexicalWriter())
