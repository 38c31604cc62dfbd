"""What each further label buys: how well the rows chosen so far stand for all others."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kshot.arrays import Bools, Float32s, Float64s, Int64s, require_finite, require_shape
from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors.annotation.base import Report, labelled_mask, silent
from kshot.selectors.annotation.measuring import as_unit_rows, checked_budgets, open_rows, row_numbers

SEEDS = 20
"""Random orders that a plan is compared with."""
SPREAD = (0.1, 0.9)
"""Quantiles over the random orders: eight of ten orders lie between them."""
_BLOCK = 1 << 24
"""Similarities held at a time, 64 MB, and as many of their running maxima."""
_NARROWEST = 256
"""Measured rows at a time at least, or the picks cost more than what they compare."""
_KEPT = 1 << 25
"""Similarities kept at the budgets, over all orders walked at once: 128 MB."""


@dataclass(frozen=True, slots=True)
class CoverageCurve:
    """How similar the measured rows are to their nearest chosen or labelled row, by number of picks.

    Attributes
    ----------
    budgets : int64 array, shape (b,)
        Ascending; 0 is the state before the first pick.
    mean, p10 : float64 arrays, shape (b,)
        Mean and tenth percentile (interpolated linearly) of the cosines, in [-1, 1]; never falling.
    each : float64 array, shape (c + 1,)
        The mean after 0, 1, ... c picks; ``each[0]`` is NaN where nothing is labelled.
    rows_measured : int
    """

    budgets: Int64s
    mean: Float64s
    p10: Float64s
    each: Float64s
    rows_measured: int


@dataclass(frozen=True, slots=True)
class RandomCoverage:
    """The `CoverageCurve` of random orders: its mean over them, and how far they lie apart.

    Attributes
    ----------
    budgets : int64 array, shape (b,)
    mean, p10 : float64 arrays, shape (b,)
        Means over the orders.
    mean_low, mean_high, p10_low, p10_high : float64 arrays, shape (b,)
        The quantiles `SPREAD` over the orders.
    each : float64 array, shape (c + 1,)
        Mean over the orders of `CoverageCurve.each`.
    rows_measured, seeds : int
    """

    budgets: Int64s
    mean: Float64s
    mean_low: Float64s
    mean_high: Float64s
    p10: Float64s
    p10_low: Float64s
    p10_high: Float64s
    each: Float64s
    rows_measured: int
    seeds: int


def coverage_curve(
    vectors: ArrayLike,
    order: ArrayLike,
    budgets: ArrayLike | None = None,
    *,
    labelled: NDArray[Any] | None = None,
    sample: ArrayLike | None = None,
    report: Report = silent,
) -> CoverageCurve:
    """Measure how well the first picks of a plan stand for all rows, for every budget up to the plan's.

    A row counts with the cosine to its nearest row that is labelled or among the first picks; a row that is
    one of these itself counts 1. So labelling everything reaches exactly 1.

    Parameters
    ----------
    vectors : float array, shape (n, d)
        Unit rows, not centred.
    order : int array, shape (c,)
        Distinct rows in pick order.
    budgets : int array, shape (b,), optional
        Ascending, at most c; 0 is allowed where rows are labelled. Default: `log_budgets` of c.
    labelled : bool array, shape (n,), or int array, optional
        Rows that were labelled before, as mask or row numbers.
    sample : int array, shape (m,), optional
        Distinct rows to measure; default: all that are not labelled before, or all if none is left. For large
        pools see `coverage_sample`.
    report : callable
        Told of the rows measured.

    Raises
    ------
    InvalidShape
        There is no row, a row has length zero, a number is not finite, or row numbers are out of range.
    InvalidParameter
        Rows repeat in ``order`` or ``sample``, or ``budgets`` are not ascending or out of range.

    Notes
    -----
    O(m (c + l) d) time for l labelled rows, in float32; beside the input 4 m b bytes and 128 MB, or 2 KB per
    pick if that is more. Means are summed in float64.

    Examples
    --------
    >>> curve = coverage_curve([[1, 0], [0.6, 0.8], [0, 1]], order=[1, 0, 2])
    >>> curve.mean.round(3)
    array([0.8  , 0.933, 1.   ])
    """
    unit, mask, measured = _checked(vectors, labelled, sample)
    chosen = row_numbers("order", order, len(unit))
    wanted = checked_budgets(budgets, len(chosen), starts=bool(mask.any()))
    each, at = _walk(unit, mask, measured, chosen[None, :], wanted, report)
    return CoverageCurve(
        budgets=wanted, mean=each[0, wanted], p10=_p10(at[0]), each=each[0], rows_measured=len(measured)
    )


def random_coverage(
    vectors: ArrayLike,
    budgets: ArrayLike,
    seeds: int = SEEDS,
    *,
    labelled: NDArray[Any] | None = None,
    sample: ArrayLike | None = None,
    seed: int = 0,
    report: Report = silent,
) -> RandomCoverage:
    """Measure what labelling rows at random buys: the `coverage_curve` of several random orders.

    Parameters
    ----------
    vectors, labelled, sample, report
        As in `coverage_curve`.
    budgets : int array, shape (b,)
        Ascending; the last one at most the number of rows that are not labelled.
    seeds : int
        Random orders, at least 1. Order i is a permutation drawn from the seed (``seed``, i).
    seed : int
        At least 0.

    Notes
    -----
    O(m u d) time for u distinct rows in the orders, and O(m c) per order of c rows; beside the input a copy
    of the u rows, 128 MB for what is kept at the budgets, and 128 MB or 2 KB per distinct row.
    """
    if seeds < 1:
        raise InvalidParameter(f"seeds is {seeds}, allowed >= 1")
    unit, mask, measured = _checked(vectors, labelled, sample)
    left = np.flatnonzero(~mask)
    wanted = checked_budgets(budgets, len(left), starts=bool(mask.any()))
    end = int(wanted.max(initial=0))
    orders = np.empty((seeds, end), np.int64)
    for number in range(seeds):
        orders[number] = np.random.Generator(np.random.PCG64([seed, number])).permutation(left)[:end]
    means, tenths, each = np.empty((seeds, len(wanted))), np.empty((seeds, len(wanted))), np.zeros(end + 1)
    together = max(1, _KEPT // max(1, len(wanted) * len(measured)))
    for first in range(0, seeds, together):
        some = slice(first, min(first + together, seeds))
        walked, at = _walk(unit, mask, measured, orders[some], wanted, _part(report, some, seeds))
        means[some] = walked[:, wanted]
        tenths[some] = [_p10(one) for one in at]
        each += walked.sum(axis=0)
    mean_low, mean_high = np.quantile(means, SPREAD, axis=0)
    p10_low, p10_high = np.quantile(tenths, SPREAD, axis=0)
    return RandomCoverage(
        budgets=wanted,
        mean=means.mean(axis=0),
        mean_low=mean_low,
        mean_high=mean_high,
        p10=tenths.mean(axis=0),
        p10_low=p10_low,
        p10_high=p10_high,
        each=each / seeds,
        rows_measured=len(measured),
        seeds=seeds,
    )


def labels_needed(curve: CoverageCurve | RandomCoverage, share: float = 0.9) -> int | None:
    """Return the smallest budget whose mean coverage reaches a share of that of labelling everything.

    Labelling everything gives every row the cosine 1 to itself, so that the share is the mean itself. Read
    from the mean after every single pick, not between the curve's budgets.

    Parameters
    ----------
    curve : CoverageCurve or RandomCoverage
    share : float
        In (0, 1].

    Returns
    -------
    int or None
        0 if what is labelled already suffices; None if the order ends before the share is reached.
    """
    if not 0 < share <= 1:
        raise InvalidParameter(f"share is {share}, allowed above 0 and at most 1")
    # Means of float32 cosines: what rounding alone keeps below the share has reached it.
    reached = np.flatnonzero(curve.each >= share - 1e-9)
    return int(reached[0]) if len(reached) else None


def objective_curve(gains: ArrayLike, budgets: ArrayLike) -> Float64s:
    """Return a method's own objective at budgets: the sum of the gains of the picks so far.

    Parameters
    ----------
    gains : float array, shape (c,)
        In pick order.
    budgets : int array, shape (b,)
        From 0 to c.
    """
    values = np.asarray(gains, np.float64)
    require_shape("gains", values, (None,))
    require_finite("gains", values)
    wanted = checked_budgets(budgets, len(values), starts=True)
    total: Float64s = np.concatenate([np.zeros(1), np.cumsum(values)])[wanted]
    return total


def _walk(
    unit: Float32s, mask: Bools, measured: Int64s, orders: Int64s, budgets: Int64s, report: Report
) -> tuple[Float64s, Float32s]:
    """Follow several orders of c rows; what they share is compared once.

    Returns
    -------
    each : float64 array, shape (orders, c + 1)
        `CoverageCurve.each` per order.
    at : float32 array, shape (orders, b, m)
        The measured rows' best cosines at the budgets.
    """
    count, c = orders.shape
    columns, places = np.unique(orders, return_inverse=True)
    picks = places.reshape(orders.shape)
    chosen = unit[columns]
    labelled = np.flatnonzero(mask)
    each = np.zeros((count, c + 1))
    at = np.empty((count, len(budgets), len(measured)), np.float32)
    width = min(len(measured), max(_NARROWEST, _BLOCK // (max(len(columns), c) + 1)))
    path = np.empty((c + 1, width), np.float32)
    for first in range(0, len(measured), width):
        rows = measured[first : first + width]
        similarity = chosen @ unit[rows].T
        np.minimum(similarity, 1, out=similarity)
        is_own = np.flatnonzero(np.isin(rows, columns))
        similarity[np.searchsorted(columns, rows[is_own]), is_own] = 1
        steps = path[:, : len(rows)]
        steps[0] = _nearest_labelled(unit, mask, labelled, rows)
        for number in range(count):
            # A call per pick over many rows: three times as fast as `np.maximum.accumulate`.
            for step, pick in enumerate(picks[number].tolist()):
                np.maximum(similarity[pick], steps[step], out=steps[step + 1])
            each[number] += steps.sum(axis=1, dtype=np.float64)
            at[number, :, first : first + len(rows)] = steps[budgets]
            done = first * count + (number + 1) * len(rows)
            report(done, count * len(measured))
    each /= len(measured)
    if not len(labelled):
        each[:, 0] = np.nan
    return each, at


def _nearest_labelled(unit: Float32s, mask: Bools, labelled: Int64s, rows: Int64s) -> Float32s:
    """Return each row's best cosine to a labelled row, 1 for a labelled one; -1 where nothing is labelled."""
    best: Float32s = np.full(len(rows), -1, np.float32)
    width = max(1, _BLOCK // len(rows))
    for first in range(0, len(labelled), width):
        some = unit[labelled[first : first + width]]
        np.maximum(best, (unit[rows] @ some.T).max(axis=1), out=best)
    np.minimum(best, 1, out=best)
    best[mask[rows]] = 1
    return best


def _p10(at: Float32s) -> Float64s:
    """Return the tenth percentile of each row of (b, m) cosines."""
    tenth: Float64s = np.quantile(at.astype(np.float64), 0.1, axis=1)
    return tenth


def _part(report: Report, some: slice, seeds: int) -> Report:
    """Report what is done of some orders as a part of all."""

    def reported(done: int, total: int) -> None:
        whole = total // (some.stop - some.start)
        report(some.start * whole + done, seeds * whole)

    return reported


def _checked(
    vectors: ArrayLike, labelled: NDArray[Any] | None, sample: ArrayLike | None
) -> tuple[Float32s, Bools, Int64s]:
    unit = as_unit_rows(vectors)
    if not len(unit):
        raise InvalidShape("vectors has no rows, wanted 1 or more")
    mask = labelled_mask(labelled, len(unit))
    if sample is None:
        return unit, mask, open_rows(mask)
    measured = row_numbers("sample", sample, len(unit))
    if not len(measured):
        raise InvalidShape("sample names no rows, wanted 1 or more")
    return unit, mask, measured
