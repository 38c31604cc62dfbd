"""Token-level coverage: demonstrations that match the tokens of the query between them."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from kshot.arrays import Candidates, Feature, Float64s, Floats, Int64s, Picks, Signal
from kshot.errors import FieldError, InvalidParameter
from kshot.selectors.base import ScoreExactly, parameter, require_part
from kshot.selectors.certificate import certified_steps
from kshot.selectors.coverage import coverage_greedy
from kshot.selectors.fused_relevance import FusedRelevance, moments_of
from kshot.selectors.late_interaction import IDF_DESCRIPTION
from kshot.selectors.ranking import ranked_picks
from kshot.selectors.refinement import coverage_contenders
from kshot.selectors.registry import SELECTORS


@SELECTORS.register("set_bsr")
@dataclass(frozen=True, slots=True)
class SetBsr(FusedRelevance):
    """Best match for each token of the query, the demonstrations covering it together.

    Greedy coverage; see `coverage_greedy` for the objective, its guarantee and its source. Gains are
    increases of the covered BSR within a round, scores the BSR of each pick by itself. A query without
    tokens of weight is served by cosine similarity, with diagnostics ``{"fallback": "similarity"}``.

    The own score that ``add_cand_score`` divides is the BSR or, if ``relevance`` says so, the weighed sum
    that `fused` ranks by, brought to the mean and spread of BSR (`FusedScores.on_scale_of`).

    Diagnostics ``certified_steps``: how many picks, from the first on, are proven to be those of the greedy
    over every row that may be chosen; all of them where no row was left out.
    """

    pool_wide: ClassVar[bool] = True

    add_cand_score: float | None = parameter(
        None,
        description="Also count a candidate's own score, divided by this number; absent: coverage alone.",
        ge=1e-6,
    )
    relevance: Literal["bsr", "fused"] = parameter(
        "bsr", description="The own score that is counted: the BSR, or the fused relevance."
    )

    idf: bool = parameter(default=False, description=IDF_DESCRIPTION)

    def __post_init__(self) -> None:
        FusedRelevance.__post_init__(self)
        if self.is_fused and self.add_cand_score is None:
            message = "received 'fused' without add_cand_score, which alone makes it count"
            raise InvalidParameter(f"relevance: {message}", errors=[FieldError("/method/relevance", message)])

    @property
    def is_fused(self) -> bool:
        """Whether ``relevance`` is the weighed sum."""
        return self.relevance == "fused"

    @property
    def needs(self) -> frozenset[Feature]:
        """Tokens, how they are weighed, and what the own score is computed from."""
        return self.fused_needs | ({Feature.TOKENS, Feature.IDF} if self.idf else {Feature.TOKENS})

    def refine(self, estimated: Candidates, k: int, score: ScoreExactly) -> tuple[Int64s, Floats]:
        """Look at what a greedy coverage of the estimates comes upon."""
        return coverage_contenders(
            require_part(estimated.partial_scores, Feature.TOKENS),
            k,
            score,
            add_cand_score=self.add_cand_score,
            relevance=self._own(estimated),
        )

    def covered(self, candidates: Candidates) -> Floats:
        """Return the scores by token."""
        return require_part(candidates.partial_scores, Feature.TOKENS)

    def select(self, candidates: Candidates, k: int, rng: np.random.Generator) -> Picks:
        """Return ``min(k, n)`` picks."""
        partial_scores: Floats = require_part(candidates.partial_scores, Feature.TOKENS)
        if not partial_scores.shape[1]:
            return ranked_picks(candidates.relevance, k, {"fallback": "similarity"})
        own = self._own(candidates)
        picks = coverage_greedy(partial_scores, k, add_cand_score=self.add_cand_score, relevance=own)
        if candidates.complete:
            certified = len(picks)
        elif candidates.outside is None or own is not None:
            certified = 0
        else:
            proven = certified_steps(
                partial_scores, picks, candidates.outside, add_cand_score=self.add_cand_score
            )
            certified = int(np.count_nonzero(proven))
        return replace(picks, diagnostics={**picks.diagnostics, "certified_steps": certified})

    def _own(self, candidates: Candidates) -> Float64s | None:
        """Return the score of each row by itself, where that is not its BSR."""
        if not self.is_fused:
            return None
        return self.fused_scores(candidates).on_scale_of(moments_of(candidates, Signal.BSR))
