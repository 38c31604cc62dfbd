"""The exact nearest neighbours of some rows among others."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kshot.arrays import Float32s, Int64s, require_shape
from kshot.errors import InvalidParameter
from kshot.selectors.annotation.base import Report, silent
from kshot.selectors.annotation.measuring import as_unit_rows, row_numbers

_BLOCK = 1 << 24
"""Similarities held at a time: 64 MB."""
_GROUP = 64
"""Neighbouring columns of which first only the largest is looked at."""


def nearest_rows(
    vectors: ArrayLike,
    rows: ArrayLike,
    k: int,
    *,
    among: NDArray[np.bool_] | None = None,
    report: Report = silent,
) -> tuple[Int64s, Float32s]:
    """Find the k other rows that are most similar to each of some rows.

    Parameters
    ----------
    vectors : float array, shape (n, d)
        Unit rows.
    rows : int array, shape (m,)
        Distinct rows whose neighbours are wanted.
    k : int
        At least 1.
    among : bool array, shape (n,), optional
        Rows that may be neighbours; default: all.
    report : callable
        Told of rows done.

    Returns
    -------
    neighbours : int64 array, shape (m, k)
        Nearest first, equal similarities in row order, never the row itself; -1 where there are no more.
    similarities : float32 array, shape (m, k)
        Cosines in [-1, 1]; NaN where there is no neighbour.

    Raises
    ------
    InvalidShape
        As `as_unit_rows`; ``among`` has another length; ``rows`` names rows that do not exist.
    InvalidParameter
        ``k`` below 1, or a row is named twice.

    Notes
    -----
    O(m n d) time in float32, and 64 MB beside the input, whose rows are copied if not all may be neighbours.
    Looks at the largest similarity of every 64 rows first, and sorts only the k best of these groups: no
    other group can hold one of the k nearest.

    Examples
    --------
    >>> nearest_rows([[1, 0], [0.8, 0.6], [0, 1]], [0], 1)
    (array([[1]]), array([[0.8]], dtype=float32))
    """
    unit = as_unit_rows(vectors)
    asked = row_numbers("rows", rows, len(unit))
    if k < 1:
        raise InvalidParameter(f"k is {k}, allowed >= 1")
    others, matrix = np.arange(len(unit)), unit
    if among is not None and not among.all():
        require_shape("among", among, (len(unit),))
        others = np.flatnonzero(among)
        matrix = unit[others]
    neighbours = np.full((len(asked), k), -1, np.int64)
    similarities = np.full((len(asked), k), np.nan, np.float32)
    if not len(others):
        return neighbours, similarities
    groups = -(-len(others) // _GROUP)
    height = max(1, _BLOCK // (groups * _GROUP))
    block = np.full((min(height, len(asked)), groups * _GROUP), -np.inf, np.float32)
    for first in range(0, len(asked), height):
        some = asked[first : first + height]
        found = block[: len(some)]
        np.matmul(unit[some], matrix.T, out=found[:, : len(others)])
        own = np.searchsorted(others, some)
        is_there = np.isin(some, others)
        found[is_there, own[is_there]] = -np.inf
        columns, values = _largest(found, k)
        is_real = np.isfinite(values)
        part = slice(first, first + len(some)), slice(0, columns.shape[1])
        neighbours[part] = np.where(is_real, others[np.minimum(columns, len(others) - 1)], -1)
        similarities[part] = np.where(is_real, np.clip(values, -1, 1), np.nan)
        report(first + len(some), len(asked))
    return neighbours, similarities


def _largest(found: Float32s, k: int) -> tuple[Int64s, Float32s]:
    """Return columns and values of the k largest of each row; equal values by column."""
    maxima = np.maximum.reduceat(found, np.arange(0, found.shape[1], _GROUP), axis=1)
    best = np.sort(np.argsort(-maxima, axis=1, kind="stable")[:, :k], axis=1)
    columns = (best[:, :, None] * _GROUP + np.arange(_GROUP)).reshape(len(found), -1)
    values = np.take_along_axis(found, columns, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(columns, order, axis=1), np.take_along_axis(values, order, axis=1)
