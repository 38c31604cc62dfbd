"""Joining relevance signals of different units into one score."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from kshot.arrays import Float64s, Moments, as_float64, require_shape
from kshot.errors import InvalidParameter, InvalidShape


def reciprocal_rank_fusion(
    rankings: Sequence[ArrayLike], *, weights: Sequence[float] | None = None, rank_constant: float = 60.0
) -> Float64s:
    """Fuse several scorings of the same rows by their ranks alone.

    ``fused(z) = sum_m weights_m / (rank_constant + rank_m(z))``, ranks counting from 1.

    Parameters
    ----------
    rankings : sequence of arrays, each of shape (n,)
        Scores, larger is better; units may differ. ``-inf`` says that the ranking does not hold the row,
        which then gets nothing from it.
    weights : sequence of float, optional
        One weight >= 0 per ranking; all 1 by default.
    rank_constant : float
        Above 0; the larger, the less the first ranks stand out.

    Returns
    -------
    float64 array, shape (n,)
        In (0, sum(weights) / (1 + rank_constant)], or 0 for a row that no ranking holds.

    Raises
    ------
    InvalidShape
        A ranking has another length than the first, or holds NaN.
    InvalidParameter
        A weight is negative, their number differs from that of the rankings, there is no ranking, or
        ``rank_constant`` is not above 0.

    Notes
    -----
    O(m n log n). Within one ranking, equal scores are ranked by row number.

    References
    ----------
    .. [1] Cormack, Clarke, Buettcher (2009), "Reciprocal rank fusion outperforms Condorcet and individual
       rank learning methods", SIGIR.
    """
    scorings = [np.asarray(ranking, dtype=np.float64) for ranking in rankings]
    factors = [1.0] * len(scorings) if weights is None else list(weights)
    if not scorings or len(factors) != len(scorings):
        raise InvalidParameter(f"{len(factors)} weights for {len(scorings)} rankings, allowed one each")
    if any(not weight >= 0 for weight in factors):
        raise InvalidParameter(f"weights are {factors}, allowed >= 0")
    if not rank_constant > 0:
        raise InvalidParameter(f"rank_constant is {rank_constant}, allowed > 0")
    n = len(scorings[0])
    fused = np.zeros(n)
    for scores, weight in zip(scorings, factors, strict=True):
        require_shape("ranking", scores, (n,))
        if np.isnan(scores).any():
            raise InvalidShape("a ranking holds NaN, which has no rank")
        held = np.argsort(-scores, kind="stable")[: np.count_nonzero(scores > -np.inf)]
        fused[held] += weight / (rank_constant + np.arange(1, len(held) + 1))
    return fused


def standardise(values: ArrayLike, moments: Moments) -> Float64s:
    """Express a signal in standard deviations from its mean over the pool.

    Parameters
    ----------
    values : array, shape (n,)
        One signal, finite.
    moments : Moments
        Of the same signal for the same query. A fixed sample of the pool is meant: moments of the candidates
        would depend on how many there are.

    Returns
    -------
    float64 array, shape (n,)
        ``(values - mean) / std``; zeros where ``std`` is 0, since a signal that never varies tells nothing.
    """
    signal = as_float64("values", values, (None,))
    if not moments.std > 0:
        return np.zeros_like(signal)
    return (signal - moments.mean) / moments.std
