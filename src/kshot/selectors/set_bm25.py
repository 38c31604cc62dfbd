"""Set-BM25: demonstrations that have the query's rare words and phrases between them."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kshot.arrays import Candidates, Float64s, Picks
from kshot.selectors.lexical import Bm25Matrix, Bm25Variant
from kshot.selectors.registry import SELECTORS
from kshot.selectors.structure_cover import StructureCover, Weighting, covering_picks


def bm25_partial_scores(
    documents: Sequence[Sequence[Hashable]],
    query: Sequence[Hashable],
    *,
    variant: str = Bm25Variant.OKAPI,
    k1: float = 1.5,
    b: float = 0.75,
    eps: float = 0.25,
) -> Float64s:
    """Score each term of a query in each document by its BM25 contribution.

    Parameters
    ----------
    documents : sequence of sequences of terms, n of them
        Words, or structures as `kshot.structures.structures_of` gives them.
    query : sequence of terms, S of them
        One that occurs twice is a column twice.
    variant, k1, b, eps
        As in `bm25_contributions`.

    Returns
    -------
    float64 array, shape (n, S)
        A row's sum is its BM25 score, as `bm25_scores` gives it; 0 where the document lacks the term. Okapi
        contributions of frequent terms may be negative in a tiny collection, Lucene's never are. To be
        covered with `coverage_greedy`, or with `covering_picks`.

    Raises
    ------
    InvalidParameter
        As `bm25_contributions`.

    Notes
    -----
    O(terms of the documents + n S).

    References
    ----------
    .. [1] Gupta, Gardner, Singh (2023), "Coverage-based example selection for in-context learning",
       Findings of EMNLP.

    Examples
    --------
    >>> bm25_partial_scores([["a", "cat"], ["a", "dog"], ["a", "bird"]], ["cat", "dog"]).round(3)
    array([[0.511, 0.   ],
           [0.   , 0.511],
           [0.   , 0.   ]])
    """
    matrix = Bm25Matrix.build(documents, variant=variant, k1=k1, b=b, eps=eps)
    scores: Float64s = np.zeros((len(documents), len(query)), order="F")
    known = [
        (place, matrix.vocabulary[term]) for place, term in enumerate(query) if term in matrix.vocabulary
    ]
    for place, column in known:
        part = slice(matrix.contributions.indptr[column], matrix.contributions.indptr[column + 1])
        scores[matrix.contributions.indices[part], place] = matrix.contributions.data[part]
    return scores


@SELECTORS.register("set_bm25")
@dataclass(frozen=True, slots=True)
class SetBm25(StructureCover):
    """Words and phrases of the query, rare ones counting more, covered by the demonstrations together.

    Greedy coverage of the query's structures, word sequences unless told otherwise, each counting its BM25
    contribution (Lucene's variant, k1 = 1.5, b = 0.75, the structures as terms); see `bm25_partial_scores`
    and `coverage_greedy` for the formulas and their source. Gains are increases of the covered BM25 within a
    round, scores the BM25 of each pick by itself. Where fewer than k candidates share a structure with the
    query, the most similar others follow with gain and score 0 and are counted in the diagnostics as
    ``filled``; where none does, cosine similarity decides, with diagnostics ``{"fallback": "similarity"}``.
    """

    weighting: ClassVar[Weighting] = "bm25"

    def select(self, candidates: Candidates, k: int, rng: np.random.Generator) -> Picks:
        """Return ``min(k, n)`` picks."""
        return covering_picks(self.covered(candidates), candidates.relevance, k)
