"""Determinantal selection: relevant demonstrations that span as many directions as possible."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kshot.arrays import Candidates, Feature, Picks
from kshot.selectors.base import check_parameters, parameter, require_part
from kshot.selectors.determinantal import dpp_map, relevance_kernel_factors
from kshot.selectors.ranking import top_k
from kshot.selectors.registry import SELECTORS


@SELECTORS.register("dpp")
@dataclass(frozen=True, slots=True)
class Dpp:
    """Relevant and diverse as a set: the largest determinant of a relevance-scaled kernel.

    Greedy MAP of exactly ``k`` rows; see `relevance_kernel_factors` and `dpp_map` for the formulas and their
    sources. If the candidates span fewer than ``k`` directions (duplicates, say), the rest is filled by
    similarity with gains 0, counted in the diagnostics as ``filled``. Gains are in nats, scores are cosine
    similarities.
    """

    needs: ClassVar[frozenset[Feature]] = frozenset({Feature.VECTORS})
    pool_wide: ClassVar[bool] = False

    lam: float = parameter(
        0.02,
        description="Relevance that diversity may cost: near 0 plain similarity, large pure diversity.",
        gt=0,
    )

    def __post_init__(self) -> None:
        check_parameters(self)

    def select(self, candidates: Candidates, k: int, rng: np.random.Generator) -> Picks:
        """Return ``min(k, n)`` picks."""
        vectors = require_part(candidates.vectors, Feature.VECTORS)
        factors = relevance_kernel_factors(None, vectors, self.lam, relevance=candidates.relevance)
        spanning = dpp_map(factors=factors, k=k)
        indices, gains = spanning.indices, spanning.gains
        filled = min(k, len(candidates)) - len(indices)
        if filled:
            left = candidates.relevance.copy()
            left[indices] = -np.inf
            indices = np.concatenate([indices, top_k(left, filled)])
            gains = np.concatenate([gains, np.zeros(filled)])
        return Picks(
            indices,
            gains=gains,
            scores=candidates.relevance[indices],
            diagnostics={**spanning.diagnostics, "filled": filled},
        )
