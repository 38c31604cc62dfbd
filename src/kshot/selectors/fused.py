"""The default method: standardised relevance signals, added up."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kshot.arrays import Candidates, Feature, Float64s, Floats, Picks, Signal
from kshot.errors import InvalidInput
from kshot.selectors.base import check_parameters, parameter, require_any_weight, require_part
from kshot.selectors.fusion import standardise
from kshot.selectors.late_interaction import bsr_scores
from kshot.selectors.ranking import ranked_picks
from kshot.selectors.registry import SELECTORS


@SELECTORS.register("fused")
@dataclass(frozen=True, slots=True)
class Fused:
    """Similar to the query as a whole and in its parts: cosine and token coverage, weighed evenly.

    The weighted sum of up to three signals, cosine similarity, BSR and BM25, each in standard deviations
    from its mean over a fixed sample of the pool. Gains and scores are that sum, in standard deviations. A
    query without tokens of weight has no BSR; the sum then goes without it and diagnostics say ``{"absent":
    ["bsr"]}``.
    """

    pool_wide: ClassVar[bool] = False

    similarity: float = parameter(1.0, description="Weight of the cosine of sentence vectors.", ge=0)
    bsr: float = parameter(1.0, description="Weight of BSR, the best match of every query token.", ge=0)
    bm25: float = parameter(0.0, description="Weight of BM25, the words in common.", ge=0)

    def __post_init__(self) -> None:
        check_parameters(self)
        require_any_weight(self, "similarity", "bsr", "bm25")

    @property
    def needs(self) -> frozenset[Feature]:
        """Moments, and what the signals with a positive weight are computed from."""
        needs = {Feature.MOMENTS}
        if self.bsr:
            needs.add(Feature.TOKENS)
        if self.bm25:
            needs.add(Feature.LEXICAL)
        return frozenset(needs)

    def select(self, candidates: Candidates, k: int, rng: np.random.Generator) -> Picks:
        """Return ``min(k, n)`` picks."""
        signals: dict[Signal, Float64s] = {}
        absent: list[str] = []
        if self.similarity:
            signals[Signal.SIMILARITY] = self.similarity * _standard(
                candidates, Signal.SIMILARITY, candidates.relevance
            )
        if self.bsr:
            partial_scores: Floats = require_part(candidates.partial_scores, Feature.TOKENS)
            if partial_scores.shape[1]:
                signals[Signal.BSR] = self.bsr * _standard(candidates, Signal.BSR, bsr_scores(partial_scores))
            else:
                absent.append(Signal.BSR.value)
        if self.bm25:
            bm25 = require_part(candidates.bm25, Feature.LEXICAL)
            signals[Signal.BM25] = self.bm25 * _standard(candidates, Signal.BM25, bm25)
        total = np.zeros(len(candidates))
        for signal in signals.values():
            total += signal
        return ranked_picks(total, k, {"absent": absent} if absent else {})


def _standard(candidates: Candidates, signal: Signal, values: Float64s) -> Float64s:
    moments = candidates.moments.get(signal)
    if moments is None:
        raise InvalidInput(f"the method needs the moments of {signal}, and the candidates come without")
    return standardise(values, moments)
