"""Determinantal selection: relevant demonstrations that span as many directions as possible."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from kshot.arrays import Candidates, Feature, Picks, Signal
from kshot.selectors.base import parameter, require_part
from kshot.selectors.determinantal import dpp_map, relevance_kernel_factors
from kshot.selectors.fused_relevance import FusedRelevance, moments_of
from kshot.selectors.ranking import top_k
from kshot.selectors.registry import SELECTORS


@SELECTORS.register("dpp")
@dataclass(frozen=True, slots=True)
class Dpp(FusedRelevance):
    """Relevant and diverse as a set: the largest determinant of a relevance-scaled kernel.

    Greedy MAP of exactly ``k`` rows; see `relevance_kernel_factors` and `dpp_map` for the formulas and their
    sources. If the candidates span fewer than ``k`` directions (duplicates, say), the rest is filled by
    relevance with gains 0, counted in the diagnostics as ``filled``. Gains are in nats, scores are the
    relevance. That is the cosine or, if ``relevance`` says so, the weighed sum that `fused` ranks by, brought
    to the mean and spread of the cosine (`FusedScores.on_scale_of`): a row's quality is then ``exp`` of that
    sum, and ``lam`` trades it against diversity as before.
    """

    pool_wide: ClassVar[bool] = False

    lam: float = parameter(
        0.02,
        description="Relevance that diversity may cost: near 0 plain similarity, large pure diversity.",
        gt=0,
    )
    relevance: Literal["similarity", "fused"] = parameter(
        "similarity", description="What counts as relevant: the cosine, or the fused relevance."
    )

    @property
    def is_fused(self) -> bool:
        """Whether ``relevance`` is the weighed sum."""
        return self.relevance == "fused"

    @property
    def needs(self) -> frozenset[Feature]:
        """Vectors, and what the relevance is computed from."""
        return self.fused_needs | {Feature.VECTORS}

    def select(self, candidates: Candidates, k: int, rng: np.random.Generator) -> Picks:
        """Return ``min(k, n)`` picks."""
        vectors = require_part(candidates.vectors, Feature.VECTORS)
        relevance = candidates.relevance
        diagnostics: dict[str, Any] = {}
        if self.is_fused:
            fused = self.fused_scores(candidates)
            relevance = fused.on_scale_of(moments_of(candidates, Signal.SIMILARITY))
            diagnostics |= fused.diagnostics
        factors = relevance_kernel_factors(None, vectors, self.lam, relevance=relevance)
        spanning = dpp_map(factors=factors, k=k)
        indices, gains = spanning.indices, spanning.gains
        filled = min(k, len(candidates)) - len(indices)
        if filled:
            left = relevance.copy()
            left[indices] = -np.inf
            indices = np.concatenate([indices, top_k(left, filled)])
            gains = np.concatenate([gains, np.zeros(filled)])
        diagnostics |= {**spanning.diagnostics, "filled": filled}
        return Picks(indices, gains=gains, scores=relevance[indices], diagnostics=diagnostics)
