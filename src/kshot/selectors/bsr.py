"""Token-level relevance: candidates in which each token of the query finds a match."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kshot.arrays import Candidates, Feature, Floats, Picks
from kshot.selectors.base import require_part
from kshot.selectors.late_interaction import bsr_scores
from kshot.selectors.ranking import ranked_picks
from kshot.selectors.registry import SELECTORS


@SELECTORS.register("bsr")
@dataclass(frozen=True, slots=True)
class Bsr:
    """Best match for each token of the query, every demonstration judged by itself (BERTScore-recall).

    Gains and scores are BSR, in [-1, 1]; see `bsr_scores` for the formula and its sources. A query without
    tokens of weight is served by cosine similarity, with diagnostics ``{"fallback": "similarity"}``.
    """

    needs: ClassVar[frozenset[Feature]] = frozenset({Feature.TOKENS})
    pool_wide: ClassVar[bool] = True

    def select(self, candidates: Candidates, k: int, rng: np.random.Generator) -> Picks:
        """Return ``min(k, n)`` picks."""
        partial_scores: Floats = require_part(candidates.partial_scores, Feature.TOKENS)
        if not partial_scores.shape[1]:
            return ranked_picks(candidates.relevance, k, {"fallback": "similarity"})
        return ranked_picks(bsr_scores(partial_scores), k)
