"""Sums over the rows of a column-major matrix, bit for bit those that NumPy computes row by row."""

import numpy as np
from numpy.typing import NDArray

from kshot.arrays import Float64s, Floats

_BLOCK_NUMBERS = 1 << 19
_BLOCK_ROWS = 1024
"""Numbers summed at a time, so that a block stays in the processor's cache, and rows at least."""


def row_sums(matrix: Floats, floor: Floats | None = None) -> Float64s:
    """Sum each row in float64, of ``max(matrix, floor)`` if a floor is given.

    Parameters
    ----------
    matrix : float32 or float64 array, shape (n, L)
        Read fastest in column-major order; else one copy is made.
    floor : float32 or float64 array, shape (L,), optional
        Smallest value that a column counts with.

    Returns
    -------
    float64 array, shape (n,)
        Equal to ``row.astype(float64).sum()`` for each row to the last bit, whatever the memory layout and
        the other rows. Greedy choices among nearly equal rows hang on that bit.

    Notes
    -----
    ``matrix.sum(axis=1)`` adds in an order that depends on the layout: plainly for column-major matrices,
    and pairwise but three times more slowly for row-major ones with short rows. This function does NumPy's
    pairwise additions on whole columns. O(n L) time, O(L) memory beside the result.
    """
    columns = np.asfortranarray(matrix).T
    total = np.empty(columns.shape[1])
    rows = max(_BLOCK_ROWS, _BLOCK_NUMBERS // max(len(columns), 1))
    for start in range(0, len(total), rows):
        block = columns[:, start : start + rows].astype(np.float64)
        if floor is not None:
            np.maximum(block, floor[:, None], out=block)
        total[start : start + rows] = _pairwise(block)
    return total


def _pairwise(columns: Float64s) -> Float64s:
    # NumPy's order for one contiguous row: halves above 128 numbers; below, eight interleaved lanes that are
    # joined as a balanced tree, then the remainder one by one.
    length, n = columns.shape
    if length > 128:
        half = length // 2 - length // 2 % 8
        return _pairwise(columns[:half]) + _pairwise(columns[half:])
    in_lanes = length - length % 8
    total: NDArray[np.float64] = np.zeros(n)
    if in_lanes:
        lanes = columns[:in_lanes].reshape(-1, 8, n).sum(axis=0)
        pairs = lanes[::2] + lanes[1::2]
        quads = pairs[::2] + pairs[1::2]
        total = quads[0] + quads[1]
    for column in columns[in_lanes:]:
        total += column
    return total
