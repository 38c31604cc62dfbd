"""Token-level relevance: candidates in which each token of the query finds a match."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike

from kshot.arrays import Candidates, Feature, Float64s, Floats, Int64s, Picks, as_float64
from kshot.errors import InvalidParameter
from kshot.selectors.base import ScoreExactly, check_parameters, parameter, require_part
from kshot.selectors.late_interaction import IDF_DESCRIPTION, bsr_scores, maxsim, require_offsets
from kshot.selectors.ranking import ranked_picks
from kshot.selectors.refinement import ranking_contenders
from kshot.selectors.registry import SELECTORS


def bsr(
    query_tokens: ArrayLike,
    tokens: ArrayLike,
    offsets: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    parity: Literal["none", "icl-coverage"] = "none",
) -> Float64s:
    """Score every row by how well it matches the tokens of a query: BERTScore-recall.

    ``BSR(x, z) = sum_i w_i max_j cos(x_i, z_j) / sum_i w_i``.

    Parameters
    ----------
    query_tokens : float32 array, shape (L, d)
        Unit rows.
    tokens : float32 array, shape (t, d)
        Token vectors of all rows, one after the other; unit rows.
    offsets : integer array, shape (n + 1,)
        Row z owns ``tokens[offsets[z]:offsets[z + 1]]``.
    weights : array, shape (L,), optional
        Importance of each query token, >= 0: 0 for markers such as [CLS] and [SEP], 1 for words, or their
        `inverse_document_frequency`. All alike by default.
    parity : "none" or "icl-coverage"
        "icl-coverage" leaves out the first two tokens of the query and of every row, as the code published
        with [2]_ does: the marker [CLS] and with it the first word piece.

    Returns
    -------
    float64 array, shape (n,)
        In [-1, 1]; zeros if no token is left that has a weight.

    Raises
    ------
    InvalidShape
        As `maxsim`; under parity also for a row without a third token.
    InvalidParameter
        A weight is negative, or ``parity`` unknown.

    Notes
    -----
    Costs and rounding as `maxsim`.

    References
    ----------
    .. [1] Zhang, Kishore, Wu, Weinberger, Artzi (2020), "BERTScore", ICLR, section 3.
    .. [2] Gupta, Gardner, Singh (2023), "Coverage-based example selection for in-context learning",
       Findings of EMNLP.

    Examples
    --------
    >>> bsr([[1, 0], [0, 1]], [[1, 0], [0.6, 0.8], [-1, 0]], offsets=[0, 2, 3], weights=[3, 1]).round(2)
    array([ 0.95, -0.75])
    """
    if parity not in {"none", "icl-coverage"}:
        raise InvalidParameter(f"parity is {parity!r}, allowed none, icl-coverage")
    queries, rows = np.asarray(query_tokens, np.float32), np.asarray(tokens, np.float32)
    starts = np.asarray(offsets, np.int64)
    factors = as_float64("weights", np.ones(len(queries)) if weights is None else weights, (len(queries),))
    if parity == "icl-coverage":
        require_offsets(starts, len(rows))
        lengths = np.diff(starts)
        rows = rows[np.arange(len(rows)) - np.repeat(starts[:-1], lengths) >= 2]
        starts = np.concatenate([[0], np.cumsum(np.maximum(lengths - 2, 0))])
        queries, factors = queries[2:], factors[2:]
    total = factors.sum()
    return bsr_scores(maxsim(queries, rows, starts, factors / (total or 1.0)))


@SELECTORS.register("bsr")
@dataclass(frozen=True, slots=True)
class Bsr:
    """Best match for each token of the query, every demonstration judged by itself (BERTScore-recall).

    Gains and scores are BSR, in [-1, 1]; see `bsr` for the formula and its sources. A query without
    tokens of weight is served by cosine similarity, with diagnostics ``{"fallback": "similarity"}``.
    """

    pool_wide: ClassVar[bool] = True

    idf: bool = parameter(default=False, description=IDF_DESCRIPTION)

    def __post_init__(self) -> None:
        check_parameters(self)

    @property
    def needs(self) -> frozenset[Feature]:
        """Tokens, and how they are weighed."""
        return frozenset({Feature.TOKENS, Feature.IDF} if self.idf else {Feature.TOKENS})

    def refine(self, estimated: Candidates, k: int, score: ScoreExactly) -> tuple[Int64s, Floats]:
        """Look at the best by estimated BSR."""
        return ranking_contenders(
            bsr_scores(require_part(estimated.partial_scores, Feature.TOKENS)), k, score
        )

    def select(self, candidates: Candidates, k: int, rng: np.random.Generator) -> Picks:
        """Return ``min(k, n)`` picks."""
        partial_scores: Floats = require_part(candidates.partial_scores, Feature.TOKENS)
        if not partial_scores.shape[1]:
            return ranked_picks(candidates.relevance, k, {"fallback": "similarity"})
        return ranked_picks(bsr_scores(partial_scores), k)
