"""The nearest neighbours of every row, as planners walk along them."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from kshot.arrays import Float32s, require_shape

Int32s: TypeAlias = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class NeighbourGraph:
    """A directed graph: every row points at its k nearest other rows.

    Attributes
    ----------
    indices : int32 array, shape (n, k)
        Nearest first, equal similarities in row order; never the row itself.
    similarities : float32 array, shape (n, k)
        Cosines in [-1, 1], of centred vectors if ``center``.
    center : bool
        Whether the mean of all rows was subtracted before.
    recall : float
        Share of the true neighbours that were found: 1 if the search was exact, else measured on a sample.
    """

    indices: Int32s
    similarities: Float32s
    center: bool
    recall: float = 1.0

    def __post_init__(self) -> None:
        require_shape("similarities", self.similarities, self.indices.shape)

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def n_neighbors(self) -> int:
        """Neighbours of every row."""
        return int(self.indices.shape[1])
