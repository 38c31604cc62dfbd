"""Kernels: how alike two contexts are."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from kshot.arrays import Float64s, as_float64
from kshot.errors import InvalidParameter

KernelName = Literal["gaussian", "polynomial", "linear"]


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel and its parameters; those of another kind mean nothing.

    Attributes
    ----------
    name : str
        ``gaussian``: ``exp(-|x - y|^2 / (2 width^2))``; ``polynomial``: ``(gain x.y + offset)^degree``;
        ``linear``: ``x.y``.
    width, gain, offset : float
    degree : int
    """

    name: KernelName = "gaussian"
    width: float = 1.0
    gain: float = 1.0
    offset: float = 1.0
    degree: int = 3

    def between(self, X: Float64s, Y: Float64s) -> Float64s:
        """Return the kernel of all pairs of rows, shapes (n, d) and (m, d), to (n, m).

        Notes
        -----
        O(n m d). Equal rows have a Gaussian kernel of 1 up to rounding, never above.
        """
        products: Float64s = X @ Y.T
        if self.name == "linear":
            return products
        if self.name == "polynomial":
            raised: Float64s = (self.gain * products + self.offset) ** self.degree
            return raised
        squared = np.square(X).sum(axis=1)[:, None] - 2.0 * products + np.square(Y).sum(axis=1)
        near: Float64s = np.exp(np.maximum(squared, 0.0) / (-2.0 * self.width**2))
        return near

    def with_itself(self, x: Float64s) -> float:
        """Return the kernel of a context, shape (d,), with itself."""
        if self.name == "gaussian":
            return 1.0
        return float(self.between(x[None], x[None])[0, 0])


def median_width(contexts: ArrayLike) -> float:
    """Return the median distance of contexts, shape (n, d): a width to begin with.

    Raises
    ------
    InvalidShape
        ``contexts`` is no matrix, or not finite.
    InvalidParameter
        There are fewer than two, or at least half of the pairs are equal.

    Notes
    -----
    O(n^2 d); 500 contexts are enough.

    Examples
    --------
    >>> median_width([[0.0], [3.0], [4.0]])
    3.0
    """
    X = as_float64("contexts", contexts, (None, None))
    if len(X) < 2:
        raise InvalidParameter(f"there are {len(X)} contexts, allowed at least two")
    rows, columns = np.triu_indices(len(X), 1)
    median = float(np.median(np.linalg.norm(X[rows] - X[columns], axis=1)))
    if median == 0.0:
        raise InvalidParameter("half of the contexts are equal; allowed are those that differ")
    return median
