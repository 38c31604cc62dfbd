"""Lexical retrieval: the candidates that share rare words with the query."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kshot.arrays import Candidates, Feature, Picks
from kshot.selectors.base import require_part
from kshot.selectors.ranking import ranked_picks
from kshot.selectors.registry import SELECTORS


@SELECTORS.register("bm25")
@dataclass(frozen=True, slots=True)
class Bm25:
    """Most words in common with the query, rare words counting more (BM25).

    Gains and scores are BM25 scores, unitless. If no candidate shares a word with the query, the order is
    that of cosine similarity, gains and scores are cosines, and diagnostics say ``{"fallback":
    "similarity"}``.
    """

    needs: ClassVar[frozenset[Feature]] = frozenset({Feature.LEXICAL})
    pool_wide: ClassVar[bool] = False

    def select(self, candidates: Candidates, k: int, rng: np.random.Generator) -> Picks:
        """Return ``min(k, n)`` picks."""
        scores = require_part(candidates.bm25, Feature.LEXICAL)
        if not scores.any():
            return ranked_picks(candidates.relevance, k, {"fallback": "similarity"})
        return ranked_picks(scores, k)
