"""Exact sums of products of features, as whole numbers that never overflow.

For contexts z of d features, weights w and weighted rewards r, both ``sum w z z^T`` and ``sum r z`` are
wanted. They are the upper triangle and the last column of one matrix of shape (d, d + 1), and are kept as
that, packed row by row into a vector of ``d (d + 1) / 2 + d`` numbers. In the units of
`kshot.selectors.bandits.grid` every entry is a multiple of 2**-42, and is held as two limbs: ``low`` in
[0, 2**40) and ``high``, whose value is ``low + high * 2**40``.
"""

from functools import lru_cache

import numpy as np

from kshot.arrays import Float64s, Int64s
from kshot.errors import InvalidParameter
from kshot.selectors.bandits.grid import FEATURE_BITS, WEIGHT_BITS

LIMB_BITS = 40
PRODUCT_BITS = 2 * FEATURE_BITS + WEIGHT_BITS
"""Entries are multiples of 2**-42."""
_MASK = (1 << LIMB_BITS) - 1
_EXACT = 1 << 53
"""Whole numbers below this are exact in float64, and so are their sums in any order."""
_HALF = 20

Limbs = tuple[Int64s, Int64s]
"""``low`` and ``high`` of packed sums."""


def packed_length(dimension: int) -> int:
    """Return how many numbers the packed sums of ``dimension`` features have."""
    return dimension * (dimension + 1) // 2 + dimension


@lru_cache(maxsize=64)
def packed_places(dimension: int) -> tuple[Int64s, Int64s]:
    """Return row and column in the (d, d + 1) matrix of every packed number."""
    rows, columns = np.triu_indices(dimension, 0, dimension + 1)
    return rows.astype(np.int64), columns.astype(np.int64)


@lru_cache(maxsize=64)
def _places_of(dimension: int) -> tuple[Int64s, Int64s]:
    """Return where gram matrix and moment lie in the packed vector."""
    rows, columns = packed_places(dimension)
    place = np.zeros((dimension, dimension + 1), np.int64)
    place[rows, columns] = np.arange(len(rows))
    gram = np.triu(place[:, :dimension])
    return gram + np.triu(gram, 1).T, place[:, dimension].copy()


def unpacked(values: Float64s, dimension: int) -> tuple[Float64s, Float64s]:
    """Return the gram matrix, shape (d, d), and the moment, shape (d,), of packed numbers."""
    gram, moment = _places_of(dimension)
    return values[gram], values[moment]


def exact_products(contexts: Int64s, weights: Int64s, rewards: Int64s) -> Limbs:
    """Return the packed sums of m addends, exactly.

    Parameters
    ----------
    contexts : int64 array, shape (m, d)
        In 2**-16.
    weights : int64 array, shape (m,)
        In 2**-10; may be negative.
    rewards : int64 array, shape (m,)
        Weight times reward, in 2**-26; may be negative.

    Returns
    -------
    low, high : int64 arrays, shape (d (d + 1) / 2 + d,)

    Raises
    ------
    InvalidParameter
        A single product reaches 2**53; on the grid none exceeds 2**51.

    Notes
    -----
    O(m d^2), by matrix products in float64 over blocks of rows so short that no partial sum reaches 2**53:
    whole numbers below that are exact, in whatever order a library adds them. 2,048 rows a block for features
    within -1 and 1 and weights up to 1; 4 rows for the largest that the grid has.
    """
    m, d = contexts.shape
    low = np.zeros((d, d + 1), np.int64)
    high = np.zeros((d, d + 1), np.int64)
    if m and d:
        features = contexts.astype(np.float64)
        reach = np.abs(features).max(axis=1)
        largest = float((reach * np.maximum(reach * np.abs(weights), np.abs(rewards))).max())
        if largest >= _EXACT:
            raise InvalidParameter(f"a product of features and weight is {largest:g} units, allowed < 2**53")
        block = m if largest == 0.0 else max(1, int(_EXACT // largest))
        for start in range(0, m, block):
            rows = slice(start, start + block)
            Z = features[rows]
            right = np.empty((len(Z), d + 1))
            np.multiply(Z, weights[rows, None], out=right[:, :d])
            right[:, d] = rewards[rows]
            total = (Z.T @ right).astype(np.int64)
            low += total & _MASK
            high += total >> LIMB_BITS
    return _carried(low[packed_places(d)], high[packed_places(d)])


def added(a: Limbs, b: Limbs) -> Limbs:
    """Return the sum of two packed sums."""
    return _carried(a[0] + b[0], a[1] + b[1])


def as_floats(limbs: Limbs) -> Float64s:
    """Return packed sums as float64 numbers, rounded once."""
    low, high = limbs
    return np.ldexp(high.astype(np.float64), LIMB_BITS - PRODUCT_BITS) + np.ldexp(
        low.astype(np.float64), -PRODUCT_BITS
    )


def exact_sum(values: Int64s) -> int:
    """Return the sum of integers, exactly, however large it is."""
    mask = (1 << _HALF) - 1
    return (int((values >> _HALF).sum()) << _HALF) + int((values & mask).sum())


def _carried(low: Int64s, high: Int64s) -> Limbs:
    high = high + (low >> LIMB_BITS)
    low = low & _MASK
    low.setflags(write=False)
    high.setflags(write=False)
    return low, high
