"""The probability that each of several independent arms is the best, without simulation.

An arm is the best where its draw is the largest::

    p_a = integral of f_a(x) * product of F_b(x) over b != a, dx

One set of G nodes serves all K probabilities, at K times G densities; the cumulative probabilities are
integrals of these. Almost never does the largest draw lie below a point that follows from the arms'
quantiles, and every arm that matters reaches across that point: panels only grow from there, each as wide as
the narrowest arm not yet passed allows, and arms a thousand times wider than others cost a few panels more.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from kshot.arrays import Bools, Float64s, as_float64
from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors.bandits.distributions import LEAST_BETA, Betas, Draws, Normals, Students

TAIL = 1e-9
"""Probability of a largest draw below the first panel, and above the last."""

_UNIT_NODES, _UNIT_WEIGHTS = np.polynomial.legendre.leggauss(10)
_NODES = (_UNIT_NODES + 1) / 2
_WEIGHTS = _UNIT_WEIGHTS / 2
_UNTIL = np.linalg.solve(
    np.polynomial.legendre.legvander(_UNIT_NODES, len(_NODES) - 1).T,
    np.polynomial.legendre.legval(
        _UNIT_NODES, np.polynomial.legendre.legint(np.eye(len(_NODES)), lbnd=-1, axis=0)
    )
    / 2,
)
"""Integrals to each node (columns) of the polynomials that are 1 at one node (rows) and 0 at the others."""
_SHARES = (1, 4, 16, 64)
"""Numbers of arms that bound the largest draw from below."""


def best_arm_probabilities_normal(means: ArrayLike, sds: ArrayLike) -> Float64s:
    """Return the probability that each of K independent normal draws is the largest.

    Parameters
    ----------
    means : float array, shape (K,)
    sds : float array, shape (K,)
        At least 0; an arm of width 0 always draws its mean.

    Returns
    -------
    float64 array, shape (K,)
        Sums to 1; within 1e-6 of the truth.

    Raises
    ------
    InvalidShape
        The shapes differ, or a number is not finite.
    InvalidParameter
        A width is below 0.

    Notes
    -----
    O(K G) for G of about 50 nodes among arms alike, and about 30 more for every factor of 10 between their
    widths. Draws tie only among arms of width 0, and there the first of the largest mean has won.

    Examples
    --------
    >>> best_arm_probabilities_normal([0.5, 0.6], [0.1, 0.2]).round(4).tolist()
    [0.3274, 0.6726]
    """
    m = as_float64("means", means, (None,))
    s = as_float64("sds", sds, (len(m),))
    _require_widths("sds", s)
    return _probabilities(m, s > 0, lambda spread: Normals(m[spread], s[spread]))


def best_arm_probabilities_student(loc: ArrayLike, scale: ArrayLike, df: ArrayLike) -> Float64s:
    """Return the probability that each of K independent draws ``loc + scale * t_df`` is the largest.

    Parameters
    ----------
    loc : float array, shape (K,)
    scale : float array, shape (K,)
        At least 0; an arm of width 0 always draws its ``loc``.
    df : float array, shape (K,)
        Degrees of freedom, at least 1.

    Returns
    -------
    float64 array, shape (K,)
        Sums to 1; within 1e-6 of the truth.

    Raises
    ------
    InvalidShape
        The shapes differ, or a number is not finite.
    InvalidParameter
        A width is below 0, or a number of degrees of freedom below 1.

    Notes
    -----
    As `best_arm_probabilities_normal`, with more nodes for heavier tails.

    Examples
    --------
    >>> best_arm_probabilities_student([0.5, 0.5], [0.1, 3.0], [4, 2]).round(4).tolist()
    [0.5, 0.5]
    """
    m = as_float64("loc", loc, (None,))
    s = as_float64("scale", scale, (len(m),))
    nu = as_float64("df", df, (len(m),))
    _require_widths("scale", s)
    if (nu < 1).any():
        raise InvalidParameter(f"df is {nu.min():g}, allowed >= 1")
    return _probabilities(m, s > 0, lambda spread: Students(m[spread], s[spread], nu[spread]))


def best_arm_probabilities_beta(a: ArrayLike, b: ArrayLike, penalties: ArrayLike | None = None) -> Float64s:
    """Return the probability that each of K independent Beta draws, less its penalty, is the largest.

    Parameters
    ----------
    a, b : float array, shape (K,)
        At least 0.5. Beyond ``a + b`` of 1e6 a normal distribution of equal mean and variance stands in.
    penalties : float array, shape (K,), optional
        What is subtracted from each arm's draw; 0 by default.

    Returns
    -------
    float64 array, shape (K,)
        Sums to 1; within 1e-5 of the truth, and within 1e-6 where all of ``a`` and ``b`` are at least 1.

    Raises
    ------
    InvalidShape
        The shapes differ, or a number is not finite.
    InvalidParameter
        ``a`` or ``b`` is below 0.5.

    Notes
    -----
    As `best_arm_probabilities_normal`, with more nodes next to 0 and 1 where a density is not smooth there.

    Examples
    --------
    >>> best_arm_probabilities_beta([3, 8, 30, 2], [5, 9, 25, 1]).round(4).tolist()
    [0.0571, 0.0939, 0.1951, 0.6539]
    """
    alpha = as_float64("a", a, (None,))
    beta = as_float64("b", b, (len(alpha),))
    least = min(alpha.min(initial=np.inf), beta.min(initial=np.inf))
    if least < LEAST_BETA:
        raise InvalidParameter(f"a or b is {least:g}, allowed >= {LEAST_BETA:g}")
    shift = np.zeros(len(alpha)) if penalties is None else as_float64("penalties", penalties, (len(alpha),))
    everyone = np.ones(len(alpha), np.bool_)
    return _probabilities(-shift, everyone, lambda _: Betas.of(alpha, beta, shift))


def _require_widths(name: str, widths: Float64s) -> None:
    if (widths < 0).any():
        raise InvalidParameter(f"{name} is {widths.min():g}, allowed >= 0")


def _probabilities(places: Float64s, spread: Bools, build: Callable[[Bools], Draws]) -> Float64s:
    masses = _masses(places, spread, build)
    normalised: Float64s = masses / masses.sum()
    return normalised


def _masses(places: Float64s, spread: Bools, build: Callable[[Bools], Draws]) -> Float64s:
    """Return the probabilities as integrated; arms that are not ``spread`` always draw their place."""
    masses = np.zeros(len(places))
    if not len(places):
        raise InvalidShape("there are no arms, wanted at least one")
    points = np.flatnonzero(~spread)
    floor = -np.inf
    if len(points):
        best = points[np.argmax(places[points])]
        floor = float(places[best])
        masses[best] = 1.0
    if not spread.any():
        return masses
    draws = build(spread)
    start = max(_start(draws), floor)
    ends = draws.ends(TAIL / len(places))
    reaching = ends > start
    if not reaching.any():
        # All that may win does so at one point: nothing is wider than the rounding of its place.
        return masses if len(points) else _first(masses, np.flatnonzero(spread)[int(np.argmax(ends))])
    from_start = draws.take(reaching).moved(start)
    if len(points):
        masses[best] = float(np.prod(from_start.cdf(np.array([floor - start]))))
    masses[np.flatnonzero(spread)[reaching]] = _integrals(from_start, ends[reaching] - start)
    return masses


def _first(masses: Float64s, best: np.intp) -> Float64s:
    masses[best] = 1.0
    return masses


def _start(draws: Draws) -> float:
    """Return a point that all draws are below with probability `TAIL` at most.

    That is so where j arms are below it with probability ``TAIL ** (1 / j)`` each, for any j. The j = 1 part
    sees to it that no cumulative probability from there on is less than `TAIL`.
    """
    lowest = draws.quantiles(TAIL)
    start = float(lowest.max())
    for share in _SHARES[1:]:
        if share > len(lowest):
            break
        levels = draws.quantiles(TAIL ** (1 / share))
        start = max(start, float(np.partition(levels, -share)[-share]))
    return start


def _integrals(draws: Draws, ends: Float64s) -> Float64s:
    """Integrate from 0 to the last end."""
    breaks = np.array(_breaks(draws, ends))
    widths = np.diff(breaks)
    x = (breaks[:-1, None] + widths[:, None] * _NODES).ravel()
    weights = (widths[:, None] * _WEIGHTS).ravel()
    densities = draws.pdf(x)
    below = _below(densities, widths, draws.cdf(np.zeros(1)))
    weights *= np.prod(below, axis=0)
    densities /= below
    integrals: Float64s = densities @ weights
    return integrals


def _below(densities: Float64s, widths: Float64s, start: Float64s) -> Float64s:
    """Return cumulative probabilities at all nodes, from densities there and the values at the start, (K, 1).

    Far cheaper than the distributions' own functions, which are series.
    """
    parts = densities.reshape(len(densities), len(widths), len(_NODES))
    until = np.empty(parts.shape)
    np.matmul(parts, _UNTIL, out=until)
    until *= widths[:, None]
    panels = np.cumsum((parts @ _WEIGHTS) * widths, axis=1)
    until[:, 1:] += panels[:, :-1, None]
    until += start[:, :, None]
    # By rounding, the least may be below the probability that was left out.
    return np.maximum(until.reshape(densities.shape), TAIL * TAIL)


def _breaks(draws: Draws, ends: Float64s) -> list[float]:
    """Return where panels begin and end."""
    last = float(ends.max())
    stops = iter(sorted({float(end) for end in draws.edges(ends)}))
    stop = next(stops, last)
    breaks = [0.0]
    at = 0.0
    while at < last:
        step = float(draws.steps(at)[ends > at].min())
        while stop <= at:
            stop = next(stops, last)
        at = min(at + step, stop, last)
        breaks.append(at)
    return breaks
