"""Uniformly random demonstrations, the baseline that every other method has to beat."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kshot.arrays import Candidates, Feature, Picks
from kshot.selectors.base import require_count
from kshot.selectors.registry import SELECTORS


@SELECTORS.register("random")
@dataclass(frozen=True, slots=True)
class Uniform:
    """Uniformly random demonstrations, without regard to the query: a baseline.

    Every set of ``k`` rows, in every order, is equally likely. Nothing is maximised, so gains are 0; scores
    are cosine similarities.
    """

    needs: ClassVar[frozenset[Feature]] = frozenset()
    pool_wide: ClassVar[bool] = True

    def select(self, candidates: Candidates, k: int, rng: np.random.Generator) -> Picks:
        """Return ``min(k, n)`` picks."""
        require_count(k)
        n = len(candidates)
        indices = rng.choice(n, size=min(k, n), replace=False) if n else np.empty(0, dtype=np.int64)
        return Picks(indices, gains=np.zeros(len(indices)), scores=candidates.relevance[indices])
