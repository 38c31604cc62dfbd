"""Maximal marginal relevance: relevant, but unlike what is chosen already."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike

from kshot.arrays import Candidates, Feature, Picks, Signal, as_float64, require_shape
from kshot.errors import InvalidParameter
from kshot.selectors.base import parameter, require_count, require_part
from kshot.selectors.fused_relevance import FusedRelevance, moments_of
from kshot.selectors.registry import SELECTORS


def mmr(relevance: ArrayLike, vectors: ArrayLike, k: int, diversity: float) -> Picks:
    """Choose rows one by one for relevance minus likeness to the rows chosen before.

    The first pick is the most relevant row; each later one maximises
    ``(1 - diversity) * relevance_z - diversity * max_{s chosen} cos(z, s)``.

    Parameters
    ----------
    relevance : array, shape (n,)
        Cosine similarity to the query, in [-1, 1], or another relevance on that scale.
    vectors : array, shape (n, d)
        Unit rows.
    k : int
        Rows wanted, k >= 1.
    diversity : float
        In [0, 1]; one minus the paper's lambda. 0 is plain similarity, 1 takes the farthest row each time.

    Returns
    -------
    Picks
        ``indices``, ``min(k, n)`` of them, in pick order; ``gains``: the maximised expression, in weighted
        cosine, where the first pick has nothing to be like; ``scores``: relevance.

    Raises
    ------
    InvalidShape
        Shapes disagree, or a relevance is not finite.
    InvalidParameter
        ``diversity`` outside [0, 1], or ``k`` below 1.

    Notes
    -----
    O(n k d) time, O(n) memory beside the input: only the largest similarity to any chosen row is kept.
    Products run row by row, so that equal rows tie exactly (BLAS may round them differently); ties go to
    the lowest index.

    References
    ----------
    .. [1] Carbonell, Goldstein (1998), "The use of MMR, diversity-based reranking for reordering documents
       and producing summaries", SIGIR.

    Examples
    --------
    >>> mmr([0.9, 0.8, 0.5], [[1, 0], [1, 0], [0, 1]], k=2, diversity=0.5).indices
    array([0, 2])
    """
    similarity = as_float64("relevance", relevance, (None,))
    rows = np.asarray(vectors)
    n = len(similarity)
    require_shape("vectors", rows, (n, None))
    require_count(k)
    if not 0 <= diversity <= 1:
        raise InvalidParameter(f"diversity is {diversity}, allowed 0 to 1")
    relevant = (1.0 - diversity) * similarity
    likeness = np.full(n, -np.inf)
    free = np.ones(n, dtype=np.bool_)
    indices = np.empty(min(k, n), dtype=np.int64)
    gains = np.empty(len(indices))
    for step in range(len(indices)):
        # With diversity 1 relevance has no weight, but the first row must still be the most relevant one.
        value = relevant - diversity * likeness if step else similarity
        best = int(np.where(free, value, -np.inf).argmax())
        indices[step] = best
        gains[step] = value[best] if step else relevant[best]
        free[best] = False
        likeness = np.maximum(likeness, np.einsum("id,d->i", rows, rows[best], dtype=np.float64))
    return Picks(indices, gains=gains, scores=similarity[indices])


@SELECTORS.register("mmr")
@dataclass(frozen=True, slots=True)
class Mmr(FusedRelevance):
    """Most similar to the query, minus similarity to the demonstrations already chosen.

    Maximal marginal relevance over the shortlist; see `mmr` for the formula and its source. Gains are in
    weighted cosine, scores are the relevance. That is the cosine or, if ``relevance`` says so, the weighed
    sum that `fused` ranks by, brought to the mean and spread of the cosine (`FusedScores.on_scale_of`), so
    that ``diversity`` weighs as much as before.
    """

    pool_wide: ClassVar[bool] = False

    diversity: float = parameter(
        0.1, description="Weight of unlikeness to earlier picks; 0 is plain similarity.", ge=0, le=1
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
        if not self.is_fused:
            return mmr(candidates.relevance, vectors, k, self.diversity)
        fused = self.fused_scores(candidates)
        relevance = fused.on_scale_of(moments_of(candidates, Signal.SIMILARITY))
        return replace(mmr(relevance, vectors, k, self.diversity), diagnostics=fused.diagnostics)
