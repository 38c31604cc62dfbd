"""What may be wrong with a pool: rows that repeat others, labels that neighbours contradict, rare labels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kshot.arrays import Bools, Float32s, Float64s, Int64s, require_shape
from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors.annotation.base import Report, silent
from kshot.selectors.nearest import nearest_rows

DUPLICATE_SIMILARITY = 0.95
"""Cosine from which on two rows count as near-duplicates."""
NEIGHBOURS = 10
AGREEMENT = 0.6
_PAIRS_AT_ONCE = 1 << 24
_ROUNDING = 1e-6
"""What float32 may take from the cosine of a row with its copy."""


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """The nearest other row of each measured row.

    Attributes
    ----------
    rows : int64 array, shape (m,)
    nearest : int64 array, shape (m,)
        -1 where there is no other row.
    similarities : float32 array, shape (m,)
        NaN where there is no other row.
    threshold : float
    """

    rows: Int64s
    nearest: Int64s
    similarities: Float32s
    threshold: float

    @property
    def rate(self) -> float:
        """Share of the measured rows that another row nearly equals, in [0, 1]; 0 without rows."""
        return float(np.mean(self._are_close)) if len(self.rows) else 0.0

    @property
    def _are_close(self) -> Bools:
        close: Bools = self.similarities >= self.threshold - _ROUNDING
        return close

    def pairs(self, most: int) -> list[tuple[int, int, float]]:
        """Return near-duplicates as (row, other row, cosine), the most similar first, each pair once."""
        close = np.flatnonzero(self._are_close)
        order = close[np.lexsort((self.rows[close], -self.similarities[close]))]
        found: dict[tuple[int, int], float] = {}
        for place in order.tolist():
            if len(found) == most:
                break
            pair = sorted((int(self.rows[place]), int(self.nearest[place])))
            found.setdefault((pair[0], pair[1]), float(self.similarities[place]))
        return [(row, other, similarity) for (row, other), similarity in found.items()]


@dataclass(frozen=True, slots=True)
class SuspectedLabels:
    """Rows whose label their neighbours contradict, the most suspect first.

    Attributes
    ----------
    rows : int64 array, shape (s,)
    labels, suggested : int64 arrays, shape (s,)
        The row's own label, and the one that its neighbours agree on.
    agreement : float64 array, shape (s,)
        Share of the k neighbours that carry the suggested label.
    similarity : float64 array, shape (s,)
        Mean cosine of these neighbours to the row.
    measured : int
        Labelled rows that were looked at.
    """

    rows: Int64s
    labels: Int64s
    suggested: Int64s
    agreement: Float64s
    similarity: Float64s
    measured: int

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class LabelBalance:
    """How evenly labels are spread over rows.

    Attributes
    ----------
    labels, labelled : int
        Distinct labels, and rows that have one.
    entropy : float
        Of the shares of the labels, in nats: 0 for one label, at most ``log(labels)``.
    evenness : float
        Entropy divided by the largest possible, in [0, 1]; 1 for a single label, as for equal shares.
    smallest, largest : int
        Rows of the rarest and of the most frequent label.
    """

    labels: int
    labelled: int
    entropy: float
    evenness: float
    smallest: int
    largest: int


def near_duplicate_rows(
    vectors: ArrayLike,
    *,
    threshold: float = DUPLICATE_SIMILARITY,
    rows: ArrayLike | None = None,
    report: Report = silent,
) -> NearDuplicates:
    """Find the rows that another row nearly equals.

    Parameters
    ----------
    vectors : float array, shape (n, d)
        Unit rows.
    threshold : float
        In (0, 1]: cosine from which on two rows count as near-duplicates.
    rows : int array, shape (m,), optional
        Rows to look at, such as a sample; each is compared with all n. Default: all.
    report : callable
        Told of rows done.

    Raises
    ------
    InvalidShape, InvalidParameter
        As `nearest_rows`; ``threshold`` outside its range.

    Notes
    -----
    O(m n d), exact.

    Examples
    --------
    >>> found = near_duplicate_rows([[1, 0], [0, 1], [1, 0], [0.6, 0.8]])
    >>> found.rate, found.pairs(9)
    (0.5, [(0, 2, 1.0)])
    """
    if not 0 < threshold <= 1:
        raise InvalidParameter(f"threshold is {threshold}, allowed above 0 and at most 1")
    asked = np.arange(len(np.asarray(vectors))) if rows is None else np.asarray(rows)
    nearest, similarities = nearest_rows(vectors, asked, 1, report=report)
    return NearDuplicates(asked.astype(np.int64), nearest[:, 0], similarities[:, 0], threshold)


def suspected_labels(
    vectors: ArrayLike,
    labels: ArrayLike,
    *,
    k: int = NEIGHBOURS,
    agreement: float = AGREEMENT,
    own: float = 0.0,
    rows: ArrayLike | None = None,
    report: Report = silent,
) -> SuspectedLabels:
    """Find rows that carry another label than the rows around them.

    A row is suspected if at most a share ``own`` of its k nearest labelled rows carry its label, while a
    share of ``agreement`` or more agrees on one other label. Shares are of k also where there are fewer
    labelled rows, so that a handful of rows accuses nobody.

    Parameters
    ----------
    vectors : float array, shape (n, d)
        Unit rows.
    labels : int array, shape (n,)
        Codes of 0 or more; negative where a row has no label.
    k : int
        At least 1.
    agreement : float
        Above 0, at most 1.
    own : float
        In [0, 1).
    rows : int array, shape (m,), optional
        Rows to look at, such as a sample; those without a label are passed over. Default: all.
    report : callable
        Told of rows done.

    Returns
    -------
    SuspectedLabels
        By falling agreement, then by falling similarity of those that agree, then by row.

    Raises
    ------
    InvalidShape
        ``labels`` are no integers or of another length; otherwise as `nearest_rows`.
    InvalidParameter
        A parameter is outside its range.

    Notes
    -----
    O(m n d) time. What neighbours agree on is not the truth: rare labels amid frequent ones and labels that
    differ by a single word are suspected as well. Of labels with equally many neighbours, the lowest code is
    suggested.

    References
    ----------
    .. [1] Wilson (1972), "Asymptotic properties of nearest neighbor rules using edited data", IEEE
       Transactions on Systems, Man, and Cybernetics 2: edits rows that their neighbours outvote.

    Examples
    --------
    >>> suspected = suspected_labels([[1, 0], [0.98, 0.2], [0.96, 0.28], [0, 1]], [0, 0, 1, 1], k=2)
    >>> suspected.rows, suspected.suggested
    (array([2]), array([0]))
    """
    if not 0 < agreement <= 1:
        raise InvalidParameter(f"agreement is {agreement}, allowed above 0 and at most 1")
    if not 0 <= own < 1:
        raise InvalidParameter(f"own is {own}, allowed from 0 to below 1")
    codes = np.asarray(labels)
    if codes.dtype.kind not in "iu":
        raise InvalidShape(f"labels have dtype {codes.dtype}, wanted integers")
    require_shape("labels", codes, (len(np.asarray(vectors)),))
    has_label = codes >= 0
    asked = np.flatnonzero(has_label) if rows is None else np.asarray(rows, np.int64)
    asked = asked[has_label[asked]]
    neighbours, similarities = nearest_rows(vectors, asked, k, among=has_label, report=report)
    around = np.where(neighbours >= 0, codes[neighbours], -1)
    mine = codes[asked]
    suggested, votes = _most_frequent(np.where(around == mine[:, None], -1, around))
    own_votes = np.count_nonzero(around == mine[:, None], axis=1)
    # Counts over counts: 6 of 10 must not fail 0.6 by rounding.
    is_suspect = (votes >= agreement * k - 1e-9) & (own_votes <= own * k + 1e-9)
    agreeing = (around == suggested[:, None]) & is_suspect[:, None]
    total = np.where(agreeing, similarities, 0.0).sum(axis=1, dtype=np.float64)
    similarity = total / np.maximum(votes, 1)
    suspects = np.flatnonzero(is_suspect)
    order = suspects[np.lexsort((asked[suspects], -similarity[suspects], -votes[suspects]))]
    return SuspectedLabels(
        rows=asked[order],
        labels=mine[order].astype(np.int64),
        suggested=suggested[order],
        agreement=votes[order] / k,
        similarity=similarity[order],
        measured=len(asked),
    )


def label_balance(labels: ArrayLike) -> LabelBalance:
    """Measure how evenly labels are spread.

    Parameters
    ----------
    labels : int array, shape (n,)
        Codes of 0 or more; rows with a negative one are left out.

    Examples
    --------
    >>> balance = label_balance([0, 0, 0, 1, -1])
    >>> balance.smallest, balance.largest, round(balance.evenness, 3)
    (1, 3, 0.811)
    """
    codes = np.asarray(labels)
    require_shape("labels", codes, (None,))
    _, counts = np.unique(codes[codes >= 0], return_counts=True)
    if not len(counts):
        return LabelBalance(0, 0, 0.0, 1.0, 0, 0)
    shares = counts / counts.sum()
    # Not below 0 by rounding, where one label has all.
    entropy = max(0.0, float(-(shares * np.log(shares)).sum()))
    evenness = min(1.0, entropy / float(np.log(len(counts)))) if len(counts) > 1 else 1.0
    return LabelBalance(
        labels=len(counts),
        labelled=int(counts.sum()),
        entropy=entropy,
        evenness=evenness,
        smallest=int(counts.min()),
        largest=int(counts.max()),
    )


def _most_frequent(codes: NDArray[Any]) -> tuple[Int64s, Int64s]:
    """Return the most frequent code of each row, and how often it occurs; -1 and 0 if all are negative."""
    m, k = codes.shape
    best, votes = np.full(m, -1, np.int64), np.zeros(m, np.int64)
    height = max(1, _PAIRS_AT_ONCE // (k * k))
    for first in range(0, m, height):
        # Ascending, so that the first of the most frequent ones is the lowest.
        some = np.sort(codes[first : first + height], axis=1)
        counts = (some[:, :, None] == some[:, None, :]).sum(axis=2)
        counts[some < 0] = 0
        place = counts.argmax(axis=1)[:, None]
        count = np.take_along_axis(counts, place, axis=1)[:, 0]
        votes[first : first + height] = count
        best[first : first + height] = np.where(count > 0, np.take_along_axis(some, place, axis=1)[:, 0], -1)
    return best, votes
