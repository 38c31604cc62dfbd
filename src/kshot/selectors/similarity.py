"""Dense retrieval: the candidates nearest to the query."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from kshot.arrays import Candidates, Feature, Picks
from kshot.selectors.ranking import ranked_picks
from kshot.selectors.registry import SELECTORS


@SELECTORS.register("similarity")
@dataclass(frozen=True, slots=True)
class Similarity:
    """Most similar to the query by cosine of sentence vectors.

    Gains and scores are cosine similarities, in [-1, 1].

    References
    ----------
    .. [1] Liu, Shen, Zhang, Dolan, Carin, Chen (2022), "What makes good in-context examples for GPT-3?",
       DeeLIO.
    """

    needs: ClassVar[frozenset[Feature]] = frozenset()
    pool_wide: ClassVar[bool] = False

    def select(self, candidates: Candidates, k: int, rng: np.random.Generator) -> Picks:
        """Return ``min(k, n)`` picks."""
        return ranked_picks(candidates.relevance, k)
