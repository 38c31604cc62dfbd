"""Fitting picks into a token budget."""

from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from kshot.arrays import Int64s, as_float64, require_shape
from kshot.errors import InvalidParameter


class PackingPolicy(StrEnum):
    """What gives way when the picks are longer than the budget."""

    PREFIX_STOP = "prefix_stop"
    """Keep picks in pick order up to the first that does not fit. The default."""
    PREFIX_SKIP = "prefix_skip"
    """Keep picks in pick order, passing over each that does not fit; for pools with a few huge rows."""
    RANK_PREFIX = "rank_prefix"
    """Keep the most relevant picks whose running total stays *below* the budget (Ye et al. 2023)."""
    DROP_FARTHEST = "drop_farthest"
    """Order by rising relevance, then drop from the start, far from the query, until the rest fits."""
    KNAPSACK = "knapsack"
    """Keep what adds up to the most relevance, judged by relevance per token; for picks of unequal length."""


def pack(policy: str, lengths: ArrayLike, budget: int, *, relevance: ArrayLike | None = None) -> Int64s:
    """Choose which picks to keep so that their lengths add up to no more than a budget.

    Parameters
    ----------
    policy : PackingPolicy or its value
    lengths : integer array, shape (k,)
        Tokens of each pick with its template and separator, >= 0, in pick order.
    budget : int
        Tokens left for demonstrations, that is after query, system prompt and answer; >= 0.
    relevance : array, shape (k,), optional
        For ``rank_prefix``, ``drop_farthest`` and ``knapsack``; without it earlier picks count as more
        relevant: the last of them 1, the one before 2, and so on.

    Returns
    -------
    int64 array, shape (m,)
        Positions kept, rising, so still in pick order; m may be 0.

    Raises
    ------
    InvalidParameter
        The policy is unknown, or the budget or a length is negative.
    InvalidShape
        ``relevance`` has another length than ``lengths`` or is not finite.

    Notes
    -----
    O(k log k). Of equally relevant picks, ``rank_prefix`` prefers the earlier one, while ``drop_farthest``
    drops the earlier one first, as it stands farther from the query when ties keep pick order.
    ``knapsack`` takes picks by falling relevance per token, or by falling relevance if that adds up to more,
    passing over what does not fit: at least half of the best sum. A pick whose relevance is not above 0 is
    kept if it fits beside the others.

    Examples
    --------
    >>> pack("prefix_stop", [40, 90, 10], 100), pack("prefix_skip", [40, 90, 10], 100)
    (array([0]), array([0, 2]))
    """
    if policy not in tuple(PackingPolicy):
        raise InvalidParameter(f"policy is {policy!r}, allowed {', '.join(PackingPolicy)}")
    tokens = np.asarray(lengths, dtype=np.int64)
    require_shape("lengths", tokens, (None,))
    if (tokens < 0).any():
        raise InvalidParameter(f"lengths go down to {tokens.min()}, allowed >= 0")
    if budget < 0:
        raise InvalidParameter(f"budget is {budget}, allowed >= 0")
    k = len(tokens)
    falling = np.arange(k, 0, -1) if relevance is None else as_float64("relevance", relevance, (k,))
    match PackingPolicy(policy):
        case PackingPolicy.PREFIX_STOP:
            return np.arange(np.searchsorted(np.cumsum(tokens), budget, side="right"))
        case PackingPolicy.PREFIX_SKIP:
            return _first_fitting(tokens, budget, np.arange(k))
        case PackingPolicy.RANK_PREFIX:
            ranked = np.argsort(-falling, kind="stable")
            return np.sort(ranked[: np.searchsorted(np.cumsum(tokens[ranked]), budget, side="left")])
        case PackingPolicy.DROP_FARTHEST:
            outwards = np.argsort(falling, kind="stable")[::-1]
            return np.sort(outwards[: np.searchsorted(np.cumsum(tokens[outwards]), budget, side="right")])
        case PackingPolicy.KNAPSACK:
            return _knapsack(tokens, budget, falling)


def _first_fitting(tokens: Int64s, budget: int, order: Int64s) -> Int64s:
    """Go through the picks in ``order`` and keep each that fits beside those kept before."""
    kept = []
    left = budget
    for position in order.tolist():
        if tokens[position] <= left:
            kept.append(position)
            left -= int(tokens[position])
    return np.sort(np.array(kept, dtype=np.int64))


def _knapsack(tokens: Int64s, budget: int, relevance: ArrayLike) -> Int64s:
    worth = np.maximum(np.asarray(relevance, dtype=np.float64), 0.0)
    # A pick of no length costs nothing: before all others, whatever it is worth.
    rate = np.divide(worth, tokens, out=np.full(len(tokens), np.inf), where=tokens > 0)
    by_rate, by_worth = (
        _first_fitting(tokens, budget, np.argsort(-key, kind="stable")) for key in (rate, worth)
    )
    return by_worth if worth[by_worth].sum() > worth[by_rate].sum() else by_rate
