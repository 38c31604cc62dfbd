"""Relevance as a weighed sum of standardised signals: what `fused` ranks by, and set methods can ask for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kshot.arrays import Candidates, Feature, Float64s, Moments, Signal
from kshot.errors import InvalidInput
from kshot.selectors.base import check_parameters, parameter, require_any_weight, require_part
from kshot.selectors.fusion import standardise
from kshot.selectors.late_interaction import bsr_scores


@dataclass(frozen=True, slots=True)
class FusedScores:
    """The weighed sum of one query.

    Attributes
    ----------
    values : float64 array, shape (n,)
        In standard deviations; larger is more relevant.
    weight : float
        Sum of the weights that took part, above 0.
    diagnostics : mapping
        ``absent``: the signals that this query does not have; ``fallback`` if it has none with a weight.
    """

    values: Float64s
    weight: float
    diagnostics: Mapping[str, Any]

    def on_scale_of(self, moments: Moments) -> Float64s:
        """Express the sum in the unit of one signal, for an objective that weighs that signal.

        Parameters
        ----------
        moments : Moments
            Of the signal. Where it never varies, 1 takes the place of its standard deviation.

        Returns
        -------
        float64 array, shape (n,)
            ``mean + std * values / weight``. It rises with the sum and is the signal itself if that has all
            the weight; signals that agree only in part spread less than the one by itself.
        """
        return moments.mean + (moments.std if moments.std > 0 else 1.0) * (self.values / self.weight)


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedRelevance:
    """Weights of the signals; the base of selectors that rank by their sum, always or when told to.

    ``w1 z(cosine) + w2 z(BSR) + w3 z(BM25)``, where z counts standard deviations from the mean over a fixed
    sample of the pool.
    """

    similarity: float = parameter(
        1.0, description="Weight of the cosine of sentence vectors in the fused relevance.", ge=0, le=1e6
    )
    bsr: float = parameter(
        1.0,
        description="Weight of BSR, the best match of every query token, in the fused relevance.",
        ge=0,
        le=1e6,
    )
    bm25: float = parameter(
        0.0, description="Weight of BM25, the words in common, in the fused relevance.", ge=0, le=1e6
    )

    def __post_init__(self) -> None:
        check_parameters(self)
        if self.is_fused:
            require_any_weight(self, "similarity", "bsr", "bm25")

    @property
    def is_fused(self) -> bool:
        """Whether the sum is used at all; the weights mean nothing otherwise."""
        return True

    @property
    def fused_needs(self) -> frozenset[Feature]:
        """Moments, and what the signals with a positive weight are computed from; nothing if not fused."""
        if not self.is_fused:
            return frozenset()
        needs = {Feature.MOMENTS}
        if self.bsr:
            needs.add(Feature.TOKENS)
        if self.bm25:
            needs.add(Feature.LEXICAL)
        return frozenset(needs)

    def fused_scores(self, candidates: Candidates) -> FusedScores:
        """Add the signals up.

        A query without tokens of weight has no BSR; the sum then goes without it. Where that leaves nothing,
        the cosine takes its place.

        Raises
        ------
        InvalidInput
            A signal with a weight is missing, or its moments are.
        """
        signals: list[tuple[float, Float64s]] = []
        diagnostics: dict[str, Any] = {}
        if self.similarity:
            signals.append((self.similarity, _standard(candidates, Signal.SIMILARITY, candidates.relevance)))
        if self.bsr:
            partial_scores = require_part(candidates.partial_scores, Feature.TOKENS)
            if partial_scores.shape[1]:
                signals.append((self.bsr, _standard(candidates, Signal.BSR, bsr_scores(partial_scores))))
            else:
                diagnostics["absent"] = [Signal.BSR.value]
        if self.bm25:
            bm25 = require_part(candidates.bm25, Feature.LEXICAL)
            signals.append((self.bm25, _standard(candidates, Signal.BM25, bm25)))
        if not signals:
            signals.append((1.0, _standard(candidates, Signal.SIMILARITY, candidates.relevance)))
            diagnostics["fallback"] = Signal.SIMILARITY.value
        values = np.zeros(len(candidates))
        for weight, signal in signals:
            values += weight * signal
        return FusedScores(values, sum(weight for weight, _ in signals), diagnostics)


def moments_of(candidates: Candidates, signal: Signal) -> Moments:
    """Return the moments of a signal.

    Raises
    ------
    InvalidInput
        The candidates come without.
    """
    moments = candidates.moments.get(signal)
    if moments is None:
        raise InvalidInput(f"the method needs the moments of {signal}, and the candidates come without")
    return moments


def _standard(candidates: Candidates, signal: Signal, values: Float64s) -> Float64s:
    return standardise(values, moments_of(candidates, signal))
