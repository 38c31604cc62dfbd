"""Which rows of a large pool deserve exact scores, judged by approximate ones."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kshot.arrays import Float32s, Float64s, Floats, Int64s, as_float64, require_shape
from kshot.errors import InvalidParameter
from kshot.selectors.base import ScoreExactly, require_count
from kshot.selectors.ranking import top_k

LEAST_RANKED = 64
RANKED_PER_PICK = 8
LOOK_AHEAD = 16
"""Rows that are scored exactly before a pick. On 20,000 dictionary glosses 6 give the same picks as 20: those
that exact scores of the whole shortlist give."""


def ranking_contenders(values: Float64s, k: int, score: ScoreExactly) -> tuple[Int64s, Floats]:
    """Score the rows exactly that a ranking by estimates puts first; far more than the ``k`` wanted.

    Parameters
    ----------
    values : float64 array, shape (n,)
        Estimates of what is ranked by.
    k : int
        At least 1.
    score : callable
        Gives exact partial scores.

    Returns
    -------
    rows : int64 array, shape (m,)
        Ascending.
    scores : float array, shape (m, L)
    """
    rows = np.sort(top_k(values, max(LEAST_RANKED, RANKED_PER_PICK * k)))
    return rows, score(rows)


def coverage_contenders(
    approximate: ArrayLike,
    k: int,
    score: ScoreExactly,
    *,
    add_cand_score: float | None = None,
    relevance: ArrayLike | None = None,
) -> tuple[Int64s, Float32s]:
    """Find the rows that greedy coverage may pick, and score them exactly.

    The greedy of `coverage_greedy` runs twice: once on the approximate scores, where the best few rows of
    every step get exact ones, and once on the mixture. There, as long as a row with approximate scores is in
    the lead, it and those close behind get exact ones as well; so every pick of the second run is one by
    exact scores. What is missed is a row whose scores are estimated far too low.

    Parameters
    ----------
    approximate : array, shape (n, L)
        Estimates of the partial scores.
    k : int
        Rows to be picked, k >= 1.
    score : callable
        Gives exact scores.
    add_cand_score, relevance
        As for `coverage_greedy`.

    Returns
    -------
    rows : int64 array, shape (m,)
        Ascending; at least ``min(k, n)`` of them.
    scores : float32 array, shape (m, L)
        Their exact partial scores, column-major.

    Raises
    ------
    InvalidShape
        ``approximate`` is no matrix, or ``relevance`` has another length.
    InvalidParameter
        ``k`` is below 1, or ``add_cand_score`` is not above 0.

    Notes
    -----
    O(k n L), and exact scores of about a dozen rows per pick. Ties go to the lowest index.
    """
    matrix = np.asarray(approximate, dtype=np.float32)
    require_shape("approximate", matrix, (None, None))
    require_count(k)
    if add_cand_score is not None and not add_cand_score > 0:
        raise InvalidParameter(f"add_cand_score is {add_cand_score}, allowed > 0 or None")
    columns = np.array(matrix.T, order="C")
    bonus = None
    if relevance is not None and add_cand_score is not None:
        by_itself = as_float64("relevance", relevance, (len(matrix),))
        bonus = (by_itself / add_cand_score).astype(np.float32)
    own_weight = 0.0 if add_cand_score is None or bonus is not None else 1.0 / add_cand_score

    steps = min(k, len(matrix))
    known = np.zeros(len(matrix), dtype=np.bool_)
    run = _Run(columns, own_weight, bonus)
    for _ in range(steps):
        totals, best = run.lead()
        if not run.improves(best):
            run.restart()
            totals, best = run.lead()
        known[_best(totals, LOOK_AHEAD)] = True
        run.take(best)
    rows = np.flatnonzero(known)
    columns[:, rows] = score(rows).T

    run = _Run(columns, own_weight, bonus)
    while run.picks < steps:
        totals, best = run.lead()
        if not known[best]:
            ahead = _best(totals, LOOK_AHEAD)
            # Among equal rows the one in the lead may not be of those.
            rows = np.union1d(ahead[~known[ahead]], [best])
            columns[:, rows] = score(rows).T
            known[rows] = True
        elif run.improves(best):
            run.take(best)
        else:
            run.restart()
    rows = np.flatnonzero(known)
    return rows, columns[:, rows].T


class _Run:
    """One run of greedy coverage over scores that may become better known while it lasts."""

    def __init__(self, columns: Float32s, own_weight: float, bonus: Float32s | None) -> None:
        self.picks = 0
        self._columns = columns
        self._own_weight = np.float32(own_weight)
        self._bonus = bonus
        self._free = np.ones(columns.shape[1], dtype=np.bool_)
        self._covered: Float32s | None = None

    def lead(self) -> tuple[NDArray[np.float32], int]:
        """Return the total of every row, ``-inf`` where it is picked, and the best row."""
        # Float32 will do: totals decide who is looked at; `coverage_greedy` decides who is picked.
        columns = self._columns
        raised = columns if self._covered is None else np.maximum(columns, self._covered[:, None])
        totals: NDArray[np.float32] = raised.sum(axis=0)
        if self._own_weight:
            totals += self._own_weight * columns.sum(axis=0)
        if self._bonus is not None:
            totals += self._bonus
        totals[~self._free] = -np.inf
        return totals, int(totals.argmax())

    def improves(self, row: int) -> bool:
        return self._covered is None or bool((self._columns[:, row] > self._covered).any())

    def restart(self) -> None:
        self._covered = None

    def take(self, row: int) -> None:
        self.picks += 1
        self._free[row] = False
        scores = self._columns[:, row].copy()
        self._covered = scores if self._covered is None else np.maximum(self._covered, scores)


def _best(totals: NDArray[np.float32], count: int) -> Int64s:
    """Return the ``count`` best rows that are not picked, in any order."""
    if count < len(totals):
        rows = np.argpartition(totals, len(totals) - count)[len(totals) - count :]
    else:
        rows = np.arange(len(totals))
    return rows[totals[rows] > -np.inf]
