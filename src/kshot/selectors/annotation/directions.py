"""Directions of rows, seen from the origin or from their mean: what the cosines of a graph compare."""

import numpy as np
from numpy.typing import ArrayLike

from kshot.arrays import Float64s, as_float64, require_shape
from kshot.errors import InvalidShape

_AT_THE_MEAN = 1e-9
"""Distance to the mean, as a share of the row's length, below which only rounding is left of a direction."""


def directions(
    vectors: ArrayLike, *, center: bool, mean: ArrayLike | None = None
) -> tuple[Float64s, Float64s | None]:
    """Subtract the mean, if wanted, and scale every row to length 1.

    Parameters
    ----------
    vectors : float array, shape (n, d)
        Not 0. Rows of any length; unit rows where each is to weigh the same in the mean.
    center : bool
    mean : float array, shape (d,), optional
        Subtracted instead of the mean of these rows.

    Returns
    -------
    units : float64 array, shape (n, d)
        Equal rows give equal rows. A row at the mean has no direction: it is 0 here.
    mean : float64 array, shape (d,), or None
        What was subtracted.

    Raises
    ------
    InvalidShape
        ``vectors`` is no matrix, is not finite, or has a row of length zero.
    """
    matrix = as_float64("vectors", vectors, (None, None))
    largest = np.abs(matrix).max(axis=1, initial=0.0)
    if matrix.size and not largest.all():
        raise InvalidShape(f"vectors row {int(np.argmin(largest))} has length zero and no direction")
    subtracted = None
    if center:
        subtracted = (
            matrix.sum(axis=0) / max(len(matrix), 1) if mean is None else np.asarray(mean, np.float64)
        )
        require_shape("mean", subtracted, (matrix.shape[1],))
        units = matrix - subtracted
        apart = np.abs(units).max(axis=1, initial=0.0)
        apart[apart <= _AT_THE_MEAN * largest] = 0.0
        largest = apart
    else:
        units = matrix.copy()
    units[largest == 0] = 0.0
    # By a power of two, which is exact: a square must neither overflow nor vanish.
    np.ldexp(units, -np.frexp(largest)[1][:, None], out=units)
    lengths = np.sqrt(np.einsum("id,id->i", units, units))
    units /= np.where(largest == 0, 1.0, lengths)[:, None]
    return units, subtracted
