"""Lexical retrieval: the candidates that share rare words with the query."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kshot.arrays import Candidates, Feature, Picks
from kshot.selectors.base import require_part
from kshot.selectors.ranking import ranked_picks, top_k
from kshot.selectors.registry import SELECTORS


@SELECTORS.register("bm25")
@dataclass(frozen=True, slots=True)
class Bm25:
    """Most words in common with the query, rare words counting more (BM25).

    Gains and scores are BM25 scores, unitless. Where fewer than k candidates share a word with the query, the
    most similar others follow with gain and score 0 and are counted in the diagnostics as ``filled``. If none
    does, the order is that of cosine similarity, gains and scores are cosines, and diagnostics say
    ``{"fallback": "similarity"}``.
    """

    needs: ClassVar[frozenset[Feature]] = frozenset({Feature.LEXICAL})
    pool_wide: ClassVar[bool] = False

    def select(self, candidates: Candidates, k: int, rng: np.random.Generator) -> Picks:
        """Return ``min(k, n)`` picks."""
        scores = require_part(candidates.bm25, Feature.LEXICAL)
        if not scores.any():
            return ranked_picks(candidates.relevance, k, {"fallback": "similarity"})
        filled = min(k, len(scores)) - int(np.count_nonzero(scores))
        if filled <= 0:
            return ranked_picks(scores, k)
        matching = np.flatnonzero(scores)
        others = np.flatnonzero(scores == 0)
        indices = np.concatenate(
            [
                matching[top_k(scores[matching], k)],
                others[top_k(candidates.relevance[others], filled)],
            ]
        )
        chosen = scores[indices]
        return Picks(indices, gains=chosen, scores=chosen, diagnostics={"filled": filled})
