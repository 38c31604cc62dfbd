"""Which arm is the best, as fast and as surely as can be told: how to spread trials, and when to stop."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from kshot.arrays import Float64s, as_float64
from kshot.errors import InvalidParameter

LEAST_SQUARED_GAP = 1e-6
"""Squared gaps below this count as this: no allocation tells such arms apart."""
LEAST_VARIANCE = 1e-12
_TIE = 1e-10


class Interval(NamedTuple):
    """Bounds of a mean, each a float or an array of one shape."""

    low: Float64s
    high: Float64s


def smoothed_variance(weight: ArrayLike, reward: ArrayLike, square: ArrayLike) -> Float64s:
    """Return variances of rewards on [0, 1] as if one more reward had been 0 and one more 1.

    For successes and failures that is ``q (1 - q)`` with ``q = (s + 1) / (n + 2)``. Never 0: ten successes in
    ten trials are no proof of certainty.

    Parameters
    ----------
    weight, reward, square : float array, any one shape
        Sums of weight, weight times reward, weight times squared reward.
    """
    n = np.asarray(weight, np.float64) + 2.0
    mean = (np.asarray(reward, np.float64) + 1.0) / n
    spread = (np.asarray(square, np.float64) + 1.0) / n - mean * mean
    variances: Float64s = np.maximum(spread, LEAST_VARIANCE)
    return variances


def leading(means: ArrayLike, spreads: ArrayLike) -> int:
    """Return the arm with the largest mean; of those within 1e-10, the least spread, then the first."""
    m, s = np.asarray(means, np.float64), np.asarray(spreads, np.float64)
    tied = np.flatnonzero(m >= m.max() - _TIE)
    return int(tied[np.argmin(s[tied])])


def allocation(
    means: ArrayLike, variances: ArrayLike, eps: float = 0.0, *, least: float = 0.0, leader: int | None = None
) -> Float64s:
    """Return the shares of trials that tell the best arm from all others the soonest.

    Maximises over the simplex, with the leader L and gaps ``g_i = mean_L - mean_i + eps``::

        min over i of g_i^2 / (2 (v_L / w_L + v_i / w_i))

    Parameters
    ----------
    means, variances : float array, shape (K,)
        K >= 2; variances below 1e-12 count as that, squared gaps below 1e-6 as that.
    eps : float
        At least 0: an arm within this of the best is as good.
    least : float
        Share that every arm gets at the least, in [0, 1 / K]; the rest is spread as above.
    leader : int, optional
        By default the arm with the largest mean; of equal ones that of the smallest variance, then the first.

    Returns
    -------
    float64 array, shape (K,)
        Sum to 1.

    Raises
    ------
    InvalidShape
        The shapes differ, or a number is not finite.
    InvalidParameter
        Fewer than two arms; a variance or ``eps`` below 0; ``least`` outside its range.

    Notes
    -----
    At the optimum all challengers are equally hard to tell from the leader. One unknown r is left, for which
    ``x_i = w_i / w_L = (v_i / v_L) r / (g_i^2 - r)`` and ``sum of (v_L / v_i) x_i^2 = 1``. The left side
    increases in r, and each of its terms alone bounds r from above: O(K) for every step of Brent's method,
    some ten. Of two arms, each gets its share of the standard deviations (Neyman).

    References
    ----------
    .. [1] Garivier, Kaufmann (2016), "Optimal best arm identification with fixed confidence", COLT.

    Examples
    --------
    >>> allocation([0.7, 0.5], [0.21, 0.25]).round(5).tolist()
    [0.47822, 0.52178]
    """
    m = as_float64("means", means, (None,))
    K = len(m)
    v = as_float64("variances", variances, (K,))
    if K < 2:
        raise InvalidParameter(f"there are {K} arms, allowed at least 2")
    if v.min() < 0 or eps < 0:
        raise InvalidParameter(f"the least variance is {v.min():g} and eps {eps:g}, allowed >= 0")
    if not 0 <= least <= 1 / K:
        raise InvalidParameter(f"least is {least:g}, allowed 0 to 1 / {K}")
    v = np.maximum(v, LEAST_VARIANCE)
    best = leading(m, v) if leader is None else leader
    others = np.arange(K) != best
    squared = np.maximum((m[best] - m[others] + eps) ** 2, LEAST_SQUARED_GAP)
    ratios = v[others] / v[best]
    # In units of the least squared gap, so that tolerances mean the same everywhere.
    unit = squared.min()
    gaps = squared / unit

    def excess(r: float) -> float:
        return float(np.sum(ratios * (r / (gaps - r)) ** 2)) - 1.0

    high = float(np.min(gaps / (1.0 + np.sqrt(ratios))))
    low = float(np.min(gaps / (1.0 + np.sqrt((K - 1) * ratios))))
    # Rounding may leave either end on the wrong side, by rounding only.
    r = low if excess(low) >= 0 else high if excess(high) <= 0 else brentq(excess, low, high, xtol=1e-15)
    x = ratios * r / (gaps - r)
    weights = np.empty(K)
    weights[best] = 1.0 / (1.0 + x.sum())
    weights[others] = x * weights[best]
    shares: Float64s = (1.0 - K * least) * weights / weights.sum() + least
    return shares


def glr(
    means: ArrayLike,
    variances: ArrayLike,
    counts: ArrayLike,
    eps: float = 0.0,
    *,
    estimated: bool = False,
) -> Float64s:
    """Return how clearly the leader is ahead of its closest challenger: the generalised likelihood ratio.

    ``Z = min over i of g_i^2 / (2 (v_L / n_L + v_i / n_i))`` with ``g_i = mean_L - mean_i + eps``.

    Parameters
    ----------
    means, variances : float array, shape (..., K)
        K >= 2; variances below 1e-12 count as that. `smoothed_variance` gives variances that can be trusted.
    counts : float array, shape (..., K)
        Outcomes, above 0.
    eps : float
        At least 0: an arm within this of the best is as good.
    estimated : bool
        Whether the variances come from the same outcomes. Of few outcomes a large gap and a small variance
        come together by chance: Z is then reduced to what is as rare with known variances.

    Returns
    -------
    float64 array, shape (...,)
        At least 0; to be compared with `stopping_threshold` and `anytime_threshold`.

    Notes
    -----
    The leader is as in `leading`, with ``v / n`` as the spread: of equal means, the better known. Estimated
    variances make ``2 Z`` the square of a Student's t, of ``nu = n_L + n_i - 2`` degrees of freedom, rather
    than that of a normal number, ``((8 nu + 1) / (8 nu + 3))^2 nu ln(1 + 2 Z / (nu + 2))`` by Wallace.

    References
    ----------
    .. [1] Kaufmann, Koolen (2021), "Mixture martingales revisited with applications to sequential tests and
       confidence intervals", Journal of Machine Learning Research 22.
    .. [2] Wallace (1959), "Bounds on normal approximations to Student's and the chi-square distributions",
       Annals of Mathematical Statistics 30.

    Examples
    --------
    >>> round(float(glr([0.7, 0.5], [0.21, 0.25], [200, 200])), 6)
    8.695652
    """
    m = np.asarray(means, np.float64)
    n = np.asarray(counts, np.float64)
    spreads = np.maximum(np.asarray(variances, np.float64), LEAST_VARIANCE) / n
    tied = m >= m.max(axis=-1, keepdims=True) - _TIE
    leader = np.argmin(np.where(tied, spreads, np.inf), axis=-1)[..., None]
    gaps = np.take_along_axis(m, leader, -1) - m + eps
    ratios = gaps * gaps / (2.0 * (np.take_along_axis(spreads, leader, -1) + spreads))
    if estimated:
        nu = np.maximum(np.take_along_axis(n, leader, -1) + n - 2.0, 1.0)
        ratios = 0.5 * nu * ((8 * nu + 1) / (8 * nu + 3)) ** 2 * np.log1p(2.0 * ratios / (nu + 2.0))
    np.put_along_axis(ratios, leader, np.inf, -1)
    least: Float64s = ratios.min(axis=-1)
    return least


def stopping_threshold(total: ArrayLike, arms: int, delta: float = 0.05) -> Float64s:
    """Return the value of `glr` above which the leader counts as the best, with confidence 1 - delta.

    ``ln((K - 1) (1 + ln N) / delta)``, with a union over the challengers. A customary threshold without a
    proof: one of two equal arms passes it more often than delta if one looks after every outcome, which is
    what `anytime_threshold` is for.

    Parameters
    ----------
    total : float array
        Outcomes of all arms, N; below 1 it counts as 1.
    arms : int
        K >= 2.
    delta : float
        In (0, 1).

    Raises
    ------
    InvalidParameter
        ``arms`` or ``delta`` is outside its range.

    Examples
    --------
    >>> round(float(stopping_threshold(400, 2)), 6)
    4.940422
    """
    _require_experiment(arms, delta)
    N = np.maximum(np.asarray(total, np.float64), 1.0)
    return np.log((arms - 1) * (1.0 + np.log(N)) / delta)


def anytime_threshold(total: ArrayLike, arms: int, delta: float = 0.05) -> Float64s:
    """Return the value of `glr` that a wrong leader ever passes with probability delta at most.

    ``(1 + 1 / (N r^2)) / 2 * ln((1 + N r^2) / d^2)`` with ``d = delta / (K - 1)`` and r as in
    `confidence_sequence`, of which it is the reverse: the lowest near 100 outcomes.

    Parameters
    ----------
    total : float array
        Outcomes of the leader and a challenger, N, above 0.
    arms : int
        K >= 2.
    delta : float
        In (0, 0.6).

    Raises
    ------
    InvalidParameter
        ``arms`` or ``delta`` is outside its range.

    References
    ----------
    .. [1] Robbins (1970), "Statistical methods related to the law of the iterated logarithm", Annals of
       Mathematical Statistics 41.

    Examples
    --------
    >>> anytime_threshold([20, 100, 400], 2).round(3).tolist()
    [5.497, 4.607, 4.926]
    """
    _require_experiment(arms, delta)
    share = delta / (arms - 1)
    grown = np.asarray(total, np.float64) * _tuning(delta)
    threshold: Float64s = 0.5 * (1.0 + 1.0 / grown) * np.log((1.0 + grown) / (share * share))
    return threshold


def confidence_sequence(n: ArrayLike, mean: ArrayLike, variance: ArrayLike, alpha: float = 0.05) -> Interval:
    """Return bounds of a mean that hold at all times at once: one may look after every outcome.

    Half the width is ``sqrt((n v r^2 + 1) / (n r)^2 * ln((n v r^2 + 1) / alpha^2))`` with
    ``r^2 = (-2 ln alpha + ln(-2 ln alpha) + 1) / 100``: the narrowest near 100 outcomes.

    Parameters
    ----------
    n : float array
        Outcomes; where there are none the bounds are infinite.
    mean, variance : float array of the same shape
    alpha : float
        Probability that a bound ever fails, in (0, 0.6).

    Raises
    ------
    InvalidParameter
        ``alpha`` is outside its range.

    Notes
    -----
    Valid as n grows, for the variance is estimated: from some 30 outcomes on with `smoothed_variance`. Bounds
    may lie outside of [0, 1].

    References
    ----------
    .. [1] Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas (2024), "Time-uniform central limit theory and
       asymptotic confidence sequences", Annals of Statistics 52.

    Examples
    --------
    >>> low, high = confidence_sequence(100, 0.5, 0.25)
    >>> round(float(high) - 0.5, 6)
    0.161333
    """
    squared = _tuning(alpha)
    n, mean, variance = (np.asarray(given, np.float64) for given in (n, mean, variance))
    known = n > 0
    count = np.where(known, n, 1.0)
    grown = count * variance * squared + 1.0
    margin = np.sqrt(grown / (count * count * squared) * np.log(grown / (alpha * alpha)))
    margin = np.where(known, margin, np.inf)
    return Interval(mean - margin, mean + margin)


def _tuning(alpha: float) -> float:
    if not 0 < alpha < 0.6:
        raise InvalidParameter(f"alpha is {alpha:g}, allowed above 0, below 0.6")
    two = -2.0 * np.log(alpha)
    return float((two + np.log(two) + 1.0) / 100.0)


def _require_experiment(arms: int, delta: float) -> None:
    if arms < 2 or not 0 < delta < 1:
        raise InvalidParameter(f"arms is {arms} and delta {delta:g}, allowed >= 2, and between 0 and 1")
