"""Where coverage is measured: on which rows, at which budgets, and whether they are what they should be."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kshot.arrays import Bools, Float32s, Int64s, require_shape, unit_rows
from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors.annotation.base import labelled_mask

BUDGETS = 30
"""Budgets at which a curve is read, unless it is told others."""
MOST_MEASURED = 20_000
"""Rows that coverage is measured on; of more, a sample."""
_UNIT = 1e-3
"""By how much the square of a row's length may differ from 1, and the row still pass for a unit row."""


def log_budgets(end: int, count: int = BUDGETS) -> Int64s:
    """Return about ``count`` integers from 1 to ``end``, both among them, at equal ratios where they can be.

    Parameters
    ----------
    end : int
        0 or less gives none.
    count : int
        At least 2; all integers if there are no more.

    Examples
    --------
    >>> log_budgets(100, 7)
    array([  1,   2,   5,  10,  22,  46, 100])
    """
    if count < 2:
        raise InvalidParameter(f"count is {count}, allowed >= 2")
    if end <= count:
        return np.arange(1, end + 1, dtype=np.int64)
    points = count
    while len(found := np.unique(np.round(np.geomspace(1, end, points)).astype(np.int64))) < count:
        points += 1
    return found


def coverage_sample(
    n: int, *, labelled: NDArray[Any] | None = None, most: int = MOST_MEASURED, seed: int = 0
) -> Int64s:
    """Return the rows to measure coverage on: those not labelled, of more than ``most`` a random sample.

    Parameters
    ----------
    n : int
        Rows there are.
    labelled : bool array, shape (n,), or int array, optional
        Which are labelled, as mask or row numbers. If all are, all take part.
    most : int
        At least 1.
    seed : int
        Decides about the sample.

    Returns
    -------
    int64 array, shape (m,)
        Ascending.
    """
    if most < 1:
        raise InvalidParameter(f"most is {most}, allowed >= 1")
    rows = open_rows(labelled_mask(labelled, n))
    if len(rows) <= most:
        return rows
    return np.sort(np.random.Generator(np.random.PCG64(seed)).choice(rows, most, replace=False))


def open_rows(mask: Bools) -> Int64s:
    """Return the rows that are not labelled; all where all are."""
    rows = np.flatnonzero(~mask)
    return rows if len(rows) else np.arange(len(mask))


def as_unit_rows(vectors: ArrayLike) -> Float32s:
    """Return vectors as checked float32 unit rows: as they are if they are that, else scaled to length 1.

    Raises
    ------
    InvalidShape
        As `kshot.arrays.unit_rows`.
    """
    given = np.asarray(vectors)
    require_shape("vectors", given, (None, None))
    rows: Float32s = given.astype(np.float32, copy=False)
    squares = np.einsum("id,id->i", rows, rows)
    # NaN and infinity fail the comparison as well, and are refused on the other way.
    return rows if (np.abs(squares - 1) <= _UNIT).all() else unit_rows(given)


def row_numbers(name: str, rows: ArrayLike, n: int) -> Int64s:
    """Return distinct row numbers from 0 to n - 1, checked.

    Raises
    ------
    InvalidShape
        They are no list of integers in that range.
    InvalidParameter
        One comes twice.
    """
    given = np.asarray(rows)
    require_shape(name, given, (None,))
    if given.size and given.dtype.kind not in "iu":
        raise InvalidShape(f"{name} has dtype {given.dtype}, wanted integers")
    numbers: Int64s = given.astype(np.int64)
    if len(numbers) and (numbers.min() < 0 or numbers.max() >= n):
        raise InvalidShape(f"{name} names rows {numbers.min()} to {numbers.max()}, allowed 0 to {n - 1}")
    if len(np.unique(numbers)) != len(numbers):
        raise InvalidParameter(f"{name} names a row twice")
    return numbers


def checked_budgets(budgets: ArrayLike | None, most: int, *, starts: bool) -> Int64s:
    """Return budgets that ascend up to ``most``, from 0 if ``starts``, else from 1; None: `log_budgets`.

    Raises
    ------
    InvalidParameter
        They do not.
    """
    if budgets is None:
        return log_budgets(most)
    wanted: Int64s = np.asarray(budgets, np.int64)
    require_shape("budgets", wanted, (None,))
    least = 0 if starts else 1
    if len(wanted) and (wanted[0] < least or wanted[-1] > most or (np.diff(wanted) <= 0).any()):
        raise InvalidParameter(f"budgets are {wanted.tolist()}, allowed ascending from {least} to {most}")
    return wanted
