"""Greedy set coverage: demonstrations that together cover every part of the query."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from kshot.arrays import Float64s, Floats, Int64s, Picks, as_float64, require_shape
from kshot.errors import InvalidParameter
from kshot.selectors.base import require_count
from kshot.selectors.late_interaction import bsr_scores
from kshot.selectors.ranking import top_k
from kshot.selectors.summation import row_sums

_PROBES = 1000
"""Rows, the best of a full step, that are looked at first in later ones: their gains rule out most others."""


def coverage_greedy(
    partial_scores: ArrayLike,
    k: int,
    *,
    lengths: ArrayLike | None = None,
    max_tokens: int | None = None,
    add_cand_score: float | None = None,
    relevance: ArrayLike | None = None,
    parity: Literal["none", "reference"] = "none",
) -> Picks:
    """Choose rows whose best partial scores, column by column, add up to the most.

    Greedy maximisation of ``f(S) = sum_i max_{z in S} partial_scores[z, i]``. Once the best row left
    improves no column, the coverage is full: it is forgotten and a new round begins among the rows not
    chosen yet.

    Parameters
    ----------
    partial_scores : float32 or float64 array, shape (n, L)
        Score of each row for each part (token, structure, dimension) of the query; may be negative. Read
        fastest in column-major order, which `maxsim` returns; else one copy is made.
    k : int
        Rows wanted, k >= 1; all rows are chosen if there are fewer.
    lengths : integer array, shape (n,), optional
        Prompt tokens of each row; required with ``max_tokens``.
    max_tokens : int, optional
        Stop at the first chosen row that would exceed this budget; shorter rows are not tried in its place.
    add_cand_score : float, optional
        Above 0: rank by ``f`` plus the row's own sum divided by this number, which leans towards rows that
        are relevant by themselves. Off by default. The test for a new round is still about coverage alone,
        but the row it looks at is the best by the combined score, so rounds end earlier.
    relevance : array, shape (n,), optional
        What ``add_cand_score`` divides in place of a row's own sum; best in the unit of ``partial_scores``.
    parity : str
        "reference" begins a new round where the code published with [1]_ does: as soon as the best row left
        does not raise the total, in which the own score of the pick before counts. Without
        ``add_cand_score`` that is the same but for increases that rounding swallows; with it, rounds end
        although the coverage is not full.

    Returns
    -------
    Picks
        ``indices`` in pick order; ``gains``: increase of ``f`` within the round (the first pick of a round:
        its whole sum), in the unit of ``partial_scores``, never rising within a round if ``add_cand_score``
        is off and scores are >= 0; ``scores``: row sums. Diagnostics: ``resets``, the rounds begun after
        the first; ``rounds``, the round of each pick, from 0; ``stopped_by_budget``.

    Raises
    ------
    InvalidShape
        Shapes disagree, or a row's sum or relevance is not finite.
    InvalidParameter
        ``k`` below 1, ``add_cand_score`` not above 0 or too small to divide by, ``relevance`` without it,
        ``max_tokens`` without ``lengths``, negative lengths, or ``parity`` unknown.

    Notes
    -----
    With scores >= 0, ``f`` is monotone and submodular, and a first round reaches at least 1 - 1/e of the
    best set of its size [2]_. O(n L) for the first two picks of a round; later picks evaluate only rows
    whose gain, as last computed, could still win (a gain cannot rise while coverage grows), with the picks
    of the full greedy. Sums are float64, in the order of `numpy.sum` over a row. Ties go to the lowest index.

    References
    ----------
    .. [1] Gupta, Gardner, Singh (2023), "Coverage-based example selection for in-context learning",
       Findings of EMNLP, Algorithm 1.
    .. [2] Nemhauser, Wolsey, Fisher (1978), "An analysis of approximations for maximizing submodular set
       functions", Mathematical Programming 14.
    .. [3] Minoux (1978), "Accelerated greedy algorithms for maximizing submodular set functions".

    Examples
    --------
    >>> picks = coverage_greedy([[1, 1], [0.5, 0.2], [0.2, 0.5], [0.9, 0.9]], k=3)
    >>> picks.indices.tolist(), picks.diagnostics["resets"]
    ([0, 3, 1], 2)
    """
    own = bsr_scores(partial_scores)
    require_count(k)
    if add_cand_score is not None and not add_cand_score > 0:
        raise InvalidParameter(f"add_cand_score is {add_cand_score}, allowed > 0 or None")
    if relevance is not None and add_cand_score is None:
        raise InvalidParameter("relevance counts only together with add_cand_score")
    if parity not in {"none", "reference"}:
        raise InvalidParameter(f"parity is {parity!r}, allowed none, reference")
    budget = _budget(len(own), lengths, max_tokens)
    by_itself = own if relevance is None else as_float64("relevance", relevance, (len(own),))
    with np.errstate(over="ignore"):
        bonus = np.zeros(len(own)) if add_cand_score is None else by_itself / add_cand_score
    if not np.isfinite(bonus).all():
        raise InvalidParameter(f"add_cand_score is {add_cand_score}, too small to divide own scores by")

    search = _Round(np.asfortranarray(partial_scores), own, bonus)
    picks: list[int] = []
    gains: list[float] = []
    rounds: list[int] = []
    resets = 0
    spent = 0
    stopped = False
    reached = -np.inf
    while len(picks) < min(k, len(own)):
        best = search.best()
        if not (search.improves(best) if parity == "none" else search.total(best) > reached):
            search.restart()
            resets += 1
            best = search.best()
        if parity == "reference":
            reached = search.total(best)
        if budget is not None:
            spent += int(budget[0][best])
            if spent > budget[1]:
                stopped = True
                break
        gains.append(search.take(best))
        picks.append(best)
        rounds.append(resets)
    indices = np.array(picks, dtype=np.int64)
    return Picks(
        indices,
        gains=np.array(gains, dtype=np.float64),
        scores=own[indices],
        diagnostics={"resets": resets, "rounds": rounds, "stopped_by_budget": stopped},
    )


def _budget(n: int, lengths: ArrayLike | None, max_tokens: int | None) -> tuple[Int64s, int] | None:
    if max_tokens is None:
        return None
    if lengths is None:
        raise InvalidParameter("max_tokens needs the lengths of the rows")
    checked = np.asarray(lengths, dtype=np.int64)
    require_shape("lengths", checked, (n,))
    if (checked < 0).any():
        raise InvalidParameter(f"lengths go down to {checked.min()}, allowed >= 0")
    return checked, max_tokens


class _Round:
    """One coverage round: what is covered, and the best row to add."""

    def __init__(self, partial_scores: Floats, own: Float64s, bonus: Float64s) -> None:
        self._scores = partial_scores
        self._own = own
        self._bonus = bonus
        # A total adds L numbers of at most this size, so rounding moves a gain by far less than the slack.
        peak = float(max(partial_scores.max(initial=0.0), -partial_scores.min(initial=0.0)))
        self._slack = 1e-9 * (peak * partial_scores.shape[1] + float(np.abs(bonus).max(initial=0.0)))
        self._free = np.ones(len(own), dtype=np.bool_)
        self._covered: Floats | None = None
        self._bounds = np.empty(0)
        self._probes: Int64s | None = None

    def restart(self) -> None:
        self._covered = self._probes = None

    def improves(self, row: int) -> bool:
        return self._covered is None or bool((self._scores[row] > self._covered).any())

    def total(self, row: int) -> float:
        """Return what `best` compares: the coverage with ``row``, plus its bonus."""
        return float(self._totals(np.array([row]))[0])

    def take(self, row: int) -> float:
        """Cover with ``row`` and return by how much the coverage grew."""
        self._free[row] = False
        scores = self._scores[row]
        if self._covered is None:
            self._covered = scores.copy()
            return float(self._own[row])
        before = self._covered
        self._covered = np.maximum(before, scores)
        return float(np.subtract(self._covered, before, dtype=np.float64).sum())

    def best(self) -> int:
        """Return the free row with the largest coverage (plus bonus), the lowest of equal ones."""
        if self._covered is None:
            return self._first_max(self._own + self._bonus)
        covered = float(self._covered.sum(dtype=np.float64))
        rows = self._contenders(covered)
        # Reading all rows in place is cheaper than copying many of them.
        if rows is None or len(rows) > len(self._own) // 4:
            totals = row_sums(self._scores, self._covered) + self._bonus
            self._bounds = totals - covered
            self._probes = top_k(self._bounds, _PROBES)
            return self._first_max(totals)
        totals = self._totals(rows)
        self._bounds[rows] = totals - covered
        return int(rows[np.where(self._free[rows], totals, -np.inf).argmax()])

    def _contenders(self, covered: float) -> Int64s | None:
        """Rows whose gain at an earlier pick of the round is no less than what some row gains now."""
        if self._probes is None or len(self._probes) == len(self._own):
            return None
        probes = self._probes[self._free[self._probes]]
        if not len(probes):
            return None
        to_beat = self._totals(probes).max() - covered
        return np.flatnonzero(self._bounds >= to_beat - self._slack)

    def _totals(self, rows: Int64s) -> Float64s:
        return row_sums(self._scores.T[:, rows].T, self._covered) + self._bonus[rows]

    def _first_max(self, values: Float64s) -> int:
        return int(np.where(self._free, values, -np.inf).argmax())
