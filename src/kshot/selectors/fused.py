"""The default method: standardised relevance signals, added up."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kshot.arrays import Candidates, Feature, Floats, Int64s, Picks
from kshot.selectors.base import ScoreExactly, parameter
from kshot.selectors.fused_relevance import FusedRelevance
from kshot.selectors.late_interaction import IDF_DESCRIPTION
from kshot.selectors.ranking import ranked_picks
from kshot.selectors.refinement import ranking_contenders
from kshot.selectors.registry import SELECTORS


@SELECTORS.register("fused")
@dataclass(frozen=True, slots=True)
class Fused(FusedRelevance):
    """Similar to the query as a whole and in its parts: cosine and token coverage, weighed evenly.

    The weighted sum of up to three signals, cosine similarity, BSR and BM25, each in standard deviations
    from its mean over a fixed sample of the pool. Gains and scores are that sum, in standard deviations. A
    query without tokens of weight has no BSR; the sum then goes without it and diagnostics say ``{"absent":
    ["bsr"]}``. If nothing else has a weight, cosine similarity takes its place (``{"fallback":
    "similarity"}``).
    """

    pool_wide: ClassVar[bool] = False

    idf: bool = parameter(default=False, description=IDF_DESCRIPTION)

    @property
    def needs(self) -> frozenset[Feature]:
        """Moments, and what the signals with a positive weight are computed from."""
        return self.fused_needs | ({Feature.IDF} if self.idf and self.bsr else set())

    def refine(self, estimated: Candidates, k: int, score: ScoreExactly) -> tuple[Int64s, Floats]:
        """Look at the best by the estimated sum."""
        return ranking_contenders(self.fused_scores(estimated).values, k, score)

    def select(self, candidates: Candidates, k: int, rng: np.random.Generator) -> Picks:
        """Return ``min(k, n)`` picks."""
        fused = self.fused_scores(candidates)
        return ranked_picks(fused.values, k, fused.diagnostics)
