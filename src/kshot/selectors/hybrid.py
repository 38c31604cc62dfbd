"""Dense and lexical retrieval joined by rank."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kshot.arrays import Candidates, Feature, Float64s, Picks
from kshot.selectors.base import check_parameters, parameter, require_any_weight, require_part
from kshot.selectors.fusion import reciprocal_rank_fusion
from kshot.selectors.ranking import ranked_picks
from kshot.selectors.registry import SELECTORS


@SELECTORS.register("hybrid")
@dataclass(frozen=True, slots=True)
class Hybrid:
    """High in the ranking by similarity, by shared words (BM25), or both.

    Reciprocal rank fusion of the two rankings; see `reciprocal_rank_fusion`. A candidate whose score is
    exactly 0 is not in that ranking: it shares no word with the query, or there is no vector. Gains and
    scores are fused reciprocal ranks.
    """

    needs: ClassVar[frozenset[Feature]] = frozenset({Feature.LEXICAL})
    pool_wide: ClassVar[bool] = False

    rank_constant: float = parameter(
        60.0, description="Added to every rank; the larger, the less the first ranks stand out.", gt=0
    )
    similarity: float = parameter(
        1.0, description="Weight of the ranking by cosine similarity.", ge=0, le=1e6
    )
    bm25: float = parameter(1.0, description="Weight of the ranking by BM25.", ge=0, le=1e6)

    def __post_init__(self) -> None:
        check_parameters(self)
        require_any_weight(self, "similarity", "bm25")

    def select(self, candidates: Candidates, k: int, rng: np.random.Generator) -> Picks:
        """Return ``min(k, n)`` picks."""
        lexical = require_part(candidates.bm25, Feature.LEXICAL)
        fused = reciprocal_rank_fusion(
            [_without_zeros(candidates.relevance), _without_zeros(lexical)],
            weights=[self.similarity, self.bm25],
            rank_constant=self.rank_constant,
        )
        return ranked_picks(fused, k)


def _without_zeros(scores: Float64s) -> Float64s:
    return np.where(scores == 0, -np.inf, scores)
