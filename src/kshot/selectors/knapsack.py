"""Set coverage within a token budget: long demonstrations have to earn their tokens."""

import numpy as np
from numpy.typing import ArrayLike

from kshot.arrays import Float64s, Floats, Int64s, Picks, require_shape
from kshot.errors import InvalidParameter
from kshot.selectors.base import require_count
from kshot.selectors.late_interaction import bsr_scores
from kshot.selectors.summation import row_sums


def coverage_knapsack(
    partial_scores: ArrayLike, lengths: ArrayLike, max_tokens: int, *, k: int | None = None
) -> Picks:
    """Choose rows that cover as much as possible of the query within a token budget.

    Maximises ``f(S) = sum_i max(0, max_{z in S} partial_scores[z, i])`` under ``sum_{z in S} lengths_z <=
    max_tokens`` by two greedy searches among the rows that still fit, one for the largest gain, one for the
    largest gain per token, and returns the better result. Unlike `coverage_greedy`, it begins no new round
    once nothing improves the coverage: tokens are spent on what adds to it only.

    Parameters
    ----------
    partial_scores : float32 or float64 array, shape (n, L)
        Score of each row for each part of the query; negative ones count as 0. Read fastest in column-major
        order.
    lengths : integer array, shape (n,)
        Prompt tokens of each row, at least 1.
    max_tokens : int
        The budget, at least 0.
    k : int, optional
        Rows at most, at least 1.

    Returns
    -------
    Picks
        ``indices`` in pick order; ``gains``: increase of ``f``; ``scores``: row sums of ``partial_scores``.
        Diagnostics: ``rule``, "gain" or "gain_per_token", whichever search found the result; ``tokens``, what
        it takes; ``coverage``, its ``f``.

    Raises
    ------
    InvalidShape
        Shapes disagree, or a row's sum is not finite.
    InvalidParameter
        A length or ``k`` below 1, or ``max_tokens`` below 0.

    Notes
    -----
    Without ``k``, the result has at least ``(1 - 1/e) / 2`` of the best value within the budget [1]_; either
    search alone may be arbitrarily bad. O(n L) per pick and search. Ties go to the lowest index, between the
    searches to the largest gain.

    References
    ----------
    .. [1] Leskovec, Krause, Guestrin, Faloutsos, VanBriesen, Glance (2007), "Cost-effective outbreak
       detection in networks", KDD, section 3.

    Examples
    --------
    >>> picks = coverage_knapsack([[1.0, 0.9], [0.9, 0.0], [0.0, 0.8]], [100, 20, 20], max_tokens=100)
    >>> picks.indices, picks.diagnostics["rule"]
    (array([0]), 'gain')
    >>> coverage_knapsack([[1.0, 0.9], [0.9, 0.0], [0.0, 0.8]], [100, 20, 20], max_tokens=60).indices
    array([1, 2])
    """
    own = bsr_scores(partial_scores)
    scores = np.maximum(np.asfortranarray(partial_scores), 0)
    tokens = np.asarray(lengths, dtype=np.int64)
    require_shape("lengths", tokens, (len(own),))
    if (tokens < 1).any():
        raise InvalidParameter(f"lengths go down to {tokens.min()}, allowed >= 1")
    if max_tokens < 0:
        raise InvalidParameter(f"max_tokens is {max_tokens}, allowed >= 0")
    if k is not None:
        require_count(k)
    most = len(own) if k is None else k
    by_gain = _greedy(scores, tokens, max_tokens, most, np.ones(len(own)))
    by_rate = _greedy(scores, tokens, max_tokens, most, tokens.astype(np.float64))
    rule, (indices, gains) = "gain", by_gain
    if by_rate[1].sum() > by_gain[1].sum():
        rule, (indices, gains) = "gain_per_token", by_rate
    return Picks(
        indices,
        gains=gains,
        scores=own[indices],
        diagnostics={
            "rule": rule,
            "tokens": int(tokens[indices].sum()),
            "coverage": float(gains.sum()),
        },
    )


def _greedy(
    scores: Floats, tokens: Int64s, max_tokens: int, most: int, cost: Float64s
) -> tuple[Int64s, Float64s]:
    """Add the row with the largest gain per cost while one fits and gains anything."""
    covered = np.zeros(scores.shape[1], dtype=scores.dtype)
    free = np.ones(len(tokens), dtype=np.bool_)
    left = max_tokens
    indices: list[int] = []
    gains: list[float] = []
    while len(indices) < most:
        gain = row_sums(scores, covered) - covered.sum(dtype=np.float64)
        worth = np.where(free & (tokens <= left), gain / cost, -np.inf)
        if not len(worth) or not worth.max() > 0:
            break
        best = int(worth.argmax())
        indices.append(best)
        gains.append(float(gain[best]))
        covered = np.maximum(covered, scores[best])
        free[best] = False
        left -= int(tokens[best])
    return np.array(indices, dtype=np.int64), np.array(gains, dtype=np.float64)
