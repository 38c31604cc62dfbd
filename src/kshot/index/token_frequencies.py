"""How rare the tokens of a query are in a pool."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from kshot.arrays import Bools, Float32s, Int64s
from kshot.selectors.late_interaction import inverse_document_frequency

Int32s: TypeAlias = NDArray[np.int32]


class TokenFrequencies:
    """In how many live rows of one snapshot each word piece occurs.

    Counted when first asked for, O(t log t) for t tokens of the pool; threads that ask at once count the same
    twice.

    Parameters
    ----------
    parts : sequence of (int32 array, shape (t,), int64 array, shape (rows + 1,))
        Word pieces and offsets of the rows of each segment, one segment after the other.
    live : bool array, shape (n,)
    """

    def __init__(self, parts: Sequence[tuple[Int32s, Int64s]], live: Bools) -> None:
        self._parts = parts
        self._live = live
        self._counts: Int64s | None = None

    def weights(self, token_ids: Int32s) -> Float32s:
        """Weigh tokens by `inverse_document_frequency`; weights sum to 1.

        Parameters
        ----------
        token_ids : int32 array, shape (L,)
            Word pieces of a query.

        Returns
        -------
        float32 array, shape (L,)
            0 for a piece that every row has; all zeros if that holds for each.
        """
        if self._counts is None:
            self._counts = self._counted()
        counts = self._counts
        known = token_ids < len(counts)
        frequency = np.zeros(len(token_ids), np.int64)
        frequency[known] = counts[token_ids[known]]
        idf = inverse_document_frequency(frequency, int(np.count_nonzero(self._live)))
        weights: Float32s = (idf / (idf.sum() or 1.0)).astype(np.float32)
        return weights

    def _counted(self) -> Int64s:
        counts: Int64s = np.zeros(
            1 + max((int(ids.max(initial=0)) for ids, _ in self._parts), default=0), np.int64
        )
        first = 0
        for ids, offsets in self._parts:
            rows = np.repeat(np.arange(first, first + len(offsets) - 1), np.diff(offsets))
            alive = self._live[rows]
            # A row counts once for each of its pieces.
            once = np.unique(rows[alive] * len(counts) + ids[alive]) % len(counts)
            counts += np.bincount(once, minlength=len(counts))
            first += len(offsets) - 1
        return counts
