"""BM25 over a pool's texts, by bm25s."""

import re
from collections import Counter
from dataclasses import dataclass

import bm25s
import numpy as np
from bm25s.tokenization import Tokenized
from numpy.typing import NDArray

from kshot.arrays import Bools, Float64s

METHOD = "lucene"
K1 = 1.5
B = 0.75
_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Split a text into lower-case words; everything but letters, digits and '_' separates."""
    return _WORD.findall(text.lower())


@dataclass(frozen=True, slots=True)
class LexicalIndex:
    """BM25 (Lucene's variant, k1 = 1.5, b = 0.75) over the first ``rows`` rows of a pool. Immutable."""

    rows: int
    _engine: bm25s.BM25 | None
    _word_to_id: dict[str, int]
    _live: Bools

    def scores(self, query: str) -> Float64s:
        """Score every row; 0 where no word is shared or the row was not live. A repeated word counts twice."""
        result = np.zeros(self.rows, np.float64)
        if self._engine is None:
            return result
        ids = [self._word_to_id[word] for word in words(query) if word in self._word_to_id]
        if ids:
            result[self._live] = self._engine.get_scores_from_ids(ids)
        return result


class LexicalWriter:
    """Remembers each row's words as integers, so that a new index needs no second look at the texts."""

    def __init__(self) -> None:
        self._row_to_ids: list[NDArray[np.int32]] = []
        self._word_to_id: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._row_to_ids)

    def append(self, text: str) -> None:
        """Add one row."""
        vocabulary = self._word_to_id
        ids = [vocabulary.setdefault(word, len(vocabulary)) for word in words(text)]
        self._row_to_ids.append(np.array(ids, np.int32))

    def build(self, live: Bools) -> LexicalIndex:
        """Index the rows that are live; document frequencies and lengths count those alone.

        O(words of the pool). Call from one thread at a time; the result may be read from any.
        """
        rows = len(live)
        documents = [self._row_to_ids[row].tolist() for row in np.flatnonzero(live)]
        used = Counter(one for document in documents for one in document)
        if not used:
            return LexicalIndex(rows, None, {}, live)
        engine = bm25s.BM25(method=METHOD, k1=K1, b=B)
        vocabulary = {word: number for word, number in self._word_to_id.items() if number in used}
        dense = {number: place for place, number in enumerate(sorted(used))}
        engine.index(
            Tokenized(
                ids=[[dense[one] for one in document] for document in documents],
                vocab={word: dense[number] for word, number in vocabulary.items()},
            ),
            create_empty_token=False,
            show_progress=False,
        )
        return LexicalIndex(rows, engine, {word: dense[number] for word, number in vocabulary.items()}, live)
