"""The nearest neighbours of every row, as planners walk along them."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from kshot.arrays import Float32s, Float64s, Int64s, require_shape

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
    mean : float64 array, shape (d,), or None
        What was subtracted; rows that come later are centred with the same.
    """

    indices: Int32s
    similarities: Float32s
    center: bool
    recall: float = 1.0
    mean: Float64s | None = None

    def __post_init__(self) -> None:
        require_shape("indices", self.indices, (None, None))
        require_shape("similarities", self.similarities, self.indices.shape)

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def n_neighbors(self) -> int:
        """Neighbours of every row."""
        return int(self.indices.shape[1])

    def voters(self) -> tuple[Int64s, Int32s]:
        """Turn the edges round: who points at each row.

        Returns
        -------
        offsets : int64 array, shape (n + 1,)
        rows : int32 array, shape (n k,)
            ``rows[offsets[u]:offsets[u + 1]]`` have u among their neighbours; ascending.
        """
        n, k = self.indices.shape
        starts = np.arange(0, n * k + 1, max(k, 1)) if k else np.zeros(n + 1, np.int64)
        edges = csr_array((np.ones(n * k, np.bool_), self.indices.ravel(), starts), shape=(n, n)).tocsc()
        return edges.indptr.astype(np.int64), edges.indices.astype(np.int32, copy=False)
