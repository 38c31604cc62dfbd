"""The k largest scores, with ties to the lowest index: the one ranking rule of all selectors."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from kshot.arrays import Float64s, Int64s, Picks, require_shape
from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors.base import require_count


def top_k(scores: ArrayLike, k: int, *, parity: Literal["none", "reference"] = "none") -> Int64s:
    """Find the k largest scores.

    Parameters
    ----------
    scores : array, shape (n,)
        Larger is better; any unit. Infinities rank as numbers, so ``-inf`` may mark rows to be taken last.
    k : int
        Rows wanted, k >= 1.
    parity : str
        "reference" puts equal scores the other way around, larger row numbers first: retrievers that sort
        upwards and read from the end do so, among them those of rank_bm25 [1]_ and of BSR [2]_.

    Returns
    -------
    int64 array, shape (min(k, n),)
        Row numbers by falling score; equal scores by rising row number, also where the cut falls among them.

    Raises
    ------
    InvalidShape
        ``scores`` is not one-dimensional or holds NaN, which has no rank.
    InvalidParameter
        ``k`` is below 1, or ``parity`` unknown.

    Notes
    -----
    O(n + k log k): only rows above the k-th largest score, and as many of the rows equal to it as fit, are
    sorted. ``numpy.argpartition`` alone would keep arbitrary ones of the equal rows.

    References
    ----------
    .. [1] Brown (2020), "Rank-BM25: a collection of BM25 algorithms in Python".
    .. [2] Gupta, Gardner, Singh (2023), "Coverage-based example selection for in-context learning",
       Findings of EMNLP.

    Examples
    --------
    >>> top_k([0.1, 0.9, 0.5, 0.9, 0.5], 3)
    array([1, 3, 2])
    """
    values = np.asarray(scores, dtype=np.float64)
    require_shape("scores", values, (None,))
    require_count(k)
    if parity not in {"none", "reference"}:
        raise InvalidParameter(f"parity is {parity!r}, allowed none, reference")
    if np.isnan(values).any():
        raise InvalidShape(f"scores hold NaN at {int(np.isnan(values).argmax())}; NaN has no rank")
    n = len(values)
    if parity == "reference":
        return n - 1 - top_k(values[::-1], k)
    if k >= n:
        return np.argsort(-values, kind="stable")
    threshold = np.partition(values, n - k)[n - k]
    above = np.flatnonzero(values > threshold)
    at_cut = np.flatnonzero(values == threshold)[: k - len(above)]
    # Rows above the cut are in row order here, so the stable sort keeps equal scores that way.
    return np.concatenate([above[np.argsort(-values[above], kind="stable")], at_cut])


def ranked_picks(scores: Float64s, k: int, diagnostics: Mapping[str, Any] | None = None) -> Picks:
    """Choose the k best rows; the objective is the sum of their scores, so each gain is a score."""
    indices = top_k(scores, k)
    chosen = scores[indices]
    return Picks(indices, gains=chosen, scores=chosen, diagnostics=diagnostics or {})
