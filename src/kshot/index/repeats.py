"""Rows whose content another row has, too: only one of them is worth showing."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kshot.arrays import Bools, Int64s


@dataclass(frozen=True, slots=True)
class Repeats:
    """Live rows of equal content, at least two of each.

    Attributes
    ----------
    rows : int64 array, shape (m,)
        Ascending.
    groups : int64 array, shape (m,)
        Equal for rows of equal content.
    """

    rows: Int64s
    groups: Int64s

    @classmethod
    def of(cls, contents: NDArray[np.uint64], live: Bools) -> "Repeats":
        """Find them by the hashes of their contents, shape (n,). O(n log n), 10 ms for 155,000 rows."""
        rows = np.flatnonzero(live)
        _, groups, counts = np.unique(contents[rows], return_inverse=True, return_counts=True)
        repeated = counts[groups] > 1
        return cls(rows[repeated], groups[repeated].astype(np.int64))

    def copies(self, rows: Int64s) -> Int64s:
        """Return every row that has the content of one of ``rows``, these rows included; O(m log m)."""
        return self.rows[np.isin(self.groups, self.groups[np.isin(self.rows, rows)])]

    def later(self, mask: Bools) -> Int64s:
        """Return the rows of ``mask`` whose content an earlier row of ``mask`` has; O(m log m)."""
        inside = mask[self.rows]
        rows, groups = self.rows[inside], self.groups[inside]
        _, first = np.unique(groups, return_index=True)
        return np.delete(rows, first)
