"""Token-level coverage: demonstrations that match the tokens of the query between them."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kshot.arrays import Candidates, Feature, Floats, Picks
from kshot.selectors.base import check_parameters, parameter, require_part
from kshot.selectors.coverage import coverage_greedy
from kshot.selectors.ranking import ranked_picks
from kshot.selectors.registry import SELECTORS


@SELECTORS.register("set_bsr")
@dataclass(frozen=True, slots=True)
class SetBsr:
    """Best match for each token of the query, the demonstrations covering it together.

    Greedy coverage; see `coverage_greedy` for the objective, its guarantee and its source. Gains are
    increases of the covered BSR within a round, scores the BSR of each pick by itself. A query without
    tokens of weight is served by cosine similarity, with diagnostics ``{"fallback": "similarity"}``.
    """

    needs: ClassVar[frozenset[Feature]] = frozenset({Feature.TOKENS})
    pool_wide: ClassVar[bool] = True

    add_cand_score: float | None = parameter(
        None,
        description="Also count a candidate's own BSR, divided by this number; absent: coverage alone.",
        gt=0,
    )

    def __post_init__(self) -> None:
        check_parameters(self)

    def select(self, candidates: Candidates, k: int, rng: np.random.Generator) -> Picks:
        """Return ``min(k, n)`` picks."""
        partial_scores: Floats = require_part(candidates.partial_scores, Feature.TOKENS)
        if not partial_scores.shape[1]:
            return ranked_picks(candidates.relevance, k, {"fallback": "similarity"})
        return coverage_greedy(partial_scores, k, add_cand_score=self.add_cand_score)
