"""The grid on which outcomes are kept, so that their sums are exact whatever the order.

Features, rewards and weights are whole multiples of the units below. Sums of their products are then sums of
whole numbers: adding, merging and retracting commute exactly, and every process that has seen the same
outcomes, in any order and in batches of any size, holds the same bits.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kshot.arrays import Float64s, Int64s, require_finite
from kshot.errors import InvalidParameter

FEATURE_BITS = 16
"""Features are multiples of 2**-16."""
REWARD_BITS = 16
"""Rewards are multiples of 2**-16."""
WEIGHT_BITS = 10
"""Weights are multiples of 2**-10."""
REWARD_SUM_BITS = WEIGHT_BITS + REWARD_BITS
"""Sums of weight times reward are multiples of 2**-26."""
SQUARE_SUM_BITS = REWARD_SUM_BITS + REWARD_BITS
"""Sums of weight times squared reward are multiples of 2**-42."""
FEATURE_LIMIT = 8.0
WEIGHT_LIMIT = 8.0


def grid_features(context: NDArray[Any]) -> Int64s:
    """Return features in units of 2**-16.

    Raises
    ------
    InvalidParameter
        One is not finite, or beyond -8 or 8.
    """
    return _on_grid("context", context, FEATURE_BITS, -FEATURE_LIMIT, FEATURE_LIMIT)


def grid_rewards(rewards: NDArray[Any]) -> Int64s:
    """Return rewards in units of 2**-16.

    Raises
    ------
    InvalidParameter
        One is not finite, or outside 0 to 1.
    """
    return _on_grid("reward", rewards, REWARD_BITS, 0.0, 1.0)


def grid_weights(weights: NDArray[Any]) -> Int64s:
    """Return weights in units of 2**-10.

    Raises
    ------
    InvalidParameter
        One is not finite, or outside 0 to 8.
    """
    return _on_grid("weight", weights, WEIGHT_BITS, 0.0, WEIGHT_LIMIT)


def snapped(context: NDArray[Any]) -> Float64s:
    """Return features rounded to the grid: what is decided on is what is learnt from."""
    return natural(grid_features(context))


def natural(contexts: NDArray[Any]) -> Float64s:
    """Return features on the grid, whole multiples of 2**-16, in natural units."""
    return np.ldexp(np.asarray(contexts).astype(np.float64), -FEATURE_BITS)


def intercept_alone(dimension: int) -> Int64s:
    """Return the context that is 0 but for its intercept, shape (dimension,), in units of 2**-16."""
    context = np.zeros(dimension, np.int64)
    context[-1] = 1 << FEATURE_BITS
    return context


def _on_grid(name: str, values: NDArray[Any], bits: int, low: float, high: float) -> Int64s:
    given = np.asarray(values, np.float64)
    require_finite(name, given)
    outside = (given < low) | (given > high)
    if outside.any():
        raise InvalidParameter(f"{name} is {given[outside].flat[0]:g}, allowed {low:g} to {high:g}")
    return np.rint(np.ldexp(given, bits)).astype(np.int64)
