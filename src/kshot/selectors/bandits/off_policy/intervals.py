"""How far an estimate may be off: resampled sessions, and a bound that holds for few decisions as well."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kshot.arrays import Float64s, Int64s, require_shape
from kshot.errors import InvalidParameter
from kshot.selectors.bandits.off_policy.estimators import Terms

RESAMPLES = 1_000
_BLOCK = 1 << 22
"""Numbers held at a time, 32 MB."""


class Interval(NamedTuple):
    """Where the true value is expected: from ``low`` to ``high``."""

    low: float
    high: float


def session_sums(sessions: Int64s, *columns: Float64s) -> Float64s:
    """Return the sums of every column by session, then the number of decisions, shape (s, columns + 1)."""
    for column in columns:
        require_shape("column", column, (len(sessions),))
    _, codes = np.unique(sessions, return_inverse=True)
    sums = [np.bincount(codes, weights=column) for column in columns]
    return np.column_stack([*sums, np.bincount(codes).astype(np.float64)])


def bootstrap_interval(
    terms: Terms,
    sessions: Int64s,
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return the interval of one estimate: see `bootstrap_intervals`."""
    return bootstrap_intervals([terms], sessions, rng, level=level, resamples=resamples)[0]


def bootstrap_intervals(
    estimates: Sequence[Terms],
    sessions: Int64s,
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> list[Interval]:
    """Resample sessions with replacement, and take the middle ``level`` of the estimates.

    Decisions of a session are kept together, as they resemble each other. All estimates are of the same
    resamples.

    Parameters
    ----------
    estimates : sequence of Terms
    sessions : int64 array, shape (n,)
        Equal for decisions of one session.
    rng : numpy.random.Generator
    level : float
        In (0, 1).
    resamples : int
        At least 2.

    Raises
    ------
    InvalidParameter
        ``level`` or ``resamples`` is out of range.

    Notes
    -----
    O(resamples * sessions * estimates), in blocks of 32 MB. Resamples in which a divisor is 0 are left out;
    NaN if that leaves none. With one session there is nothing to resample, and the interval has no width.
    """
    _require_level(level)
    if resamples < 2:
        raise InvalidParameter(f"resamples is {resamples}, allowed >= 2")
    columns = []
    for terms in estimates:
        divisor = np.ones(len(terms.base)) if terms.divisor is None else terms.divisor
        columns += [terms.base, terms.correction, divisor]
    sums = session_sums(sessions, *columns)
    s = len(sums)
    totals = []
    per_block = max(1, _BLOCK // s)
    for start in range(0, resamples, per_block):
        rows = min(per_block, resamples - start)
        drawn = rng.integers(s, size=(rows, s)) + s * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * s).reshape(rows, s)
        totals.append(times.astype(np.float64) @ sums)
    resampled = np.concatenate(totals)
    n = resampled[:, -1]
    return [_middle(resampled[:, 3 * at : 3 * at + 3], n, level) for at in range(len(estimates))]


def bernstein_interval(terms: Terms, sessions: Int64s, *, level: float = 0.95) -> Interval | None:
    """Return the empirical Bernstein interval [1]_ over sessions; None for estimates with a divisor.

    It holds for any number of sessions, if they are independent and no weight that could have come is larger
    than the largest that came; it is wide.

    Raises
    ------
    InvalidParameter
        ``level`` is out of range.

    Notes
    -----
    Of session totals X scaled to mean the estimate: ``sqrt(2 V ln(4 / delta) / s) + 7 R ln(4 / delta) /
    (3 (s - 1))`` on either side, V their variance and R their reach, ``delta = 1 - level``. Infinite with one
    session.

    References
    ----------
    .. [1] Maurer, Pontil (2009), "Empirical Bernstein bounds and sample variance penalization", COLT.
    """
    _require_level(level)
    if terms.divisor is not None:
        return None
    sums = session_sums(sessions, terms.base + terms.correction)
    s, n = len(sums), len(sessions)
    totals = sums[:, 0] * (s / n)
    mean = float(totals.mean())
    if s < 2:
        return Interval(-math.inf, math.inf)
    reach = terms.reach * float(sums[:, -1].max()) * s / n
    log = math.log(4.0 / (1.0 - level))
    half = math.sqrt(2.0 * float(totals.var(ddof=1)) * log / s) + 7.0 * reach * log / (3.0 * (s - 1))
    return Interval(mean - half, mean + half)


def _middle(totals: Float64s, n: Float64s, level: float) -> Interval:
    base, correction, divisor = totals.T
    valid = divisor > 0
    if not valid.any():
        return Interval(math.nan, math.nan)
    # A mean over a mean: the number of decisions cancels out.
    values = base[valid] / n[valid] + correction[valid] / divisor[valid]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def _require_level(level: float) -> None:
    if not 0.0 < level < 1.0:
        raise InvalidParameter(f"level is {level:g}, allowed above 0 and below 1")
