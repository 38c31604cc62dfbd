"""Facility location: the rows that stand for all others."""

import numpy as np
from numpy.typing import ArrayLike

from kshot.arrays import Picks, as_float64
from kshot.selectors.base import require_count


def facility_location(vectors: ArrayLike, budget: int) -> Picks:
    """Choose the rows to which all rows are most similar, taken together.

    Greedy on ``f(S) = sum_i max(0, max_{s in S} cos(i, s))``, which is monotone and submodular, so the result
    reaches at least 1 - 1/e of the best value.

    Parameters
    ----------
    vectors : float array, shape (n, d)
        Unit rows.
    budget : int
        Rows wanted, at least 1; all n if there are fewer.

    Returns
    -------
    Picks
        ``gains`` (budget,) are increases of f; ``scores`` are the same numbers.

    Notes
    -----
    O(n^2 d) once and O(n^2) per pick, 8 n^2 bytes; for n up to a few thousand. Similarities count to 12
    decimals, so that equal rows tie exactly (BLAS may round them differently). Ties go to the lowest index,
    also when every gain is zero.

    References
    ----------
    .. [1] Nemhauser, Wolsey, Fisher (1978), "An analysis of approximations for maximizing submodular set
       functions", Mathematical Programming 14.
    """
    require_count(budget)
    matrix = as_float64("vectors", vectors, (None, None))
    n = len(matrix)
    similarity = np.maximum(np.round(matrix @ matrix.T, 12), 0.0)
    nearest = np.zeros(n)
    free = np.ones(n, np.bool_)
    indices, gains = [], []
    for _ in range(min(budget, n)):
        gain = np.maximum(similarity, nearest).sum(axis=1) - nearest.sum()
        best = int(np.argmax(np.where(free, gain, -np.inf)))
        indices.append(best)
        gains.append(max(float(gain[best]), 0.0))
        free[best] = False
        nearest = np.maximum(nearest, similarity[best])
    values = np.array(gains, np.float64)
    return Picks(np.array(indices, np.int64), values, values)
