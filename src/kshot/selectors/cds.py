"""Curriculum demonstration selection: demonstrations of every difficulty, from easy to hard."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from kshot.arrays import Candidates, Feature, Picks, as_float64, require_shape
from kshot.errors import InvalidShape
from kshot.selectors.base import require_count, require_part
from kshot.selectors.registry import SELECTORS


def curriculum(relevance: ArrayLike, difficulty: ArrayLike, k: int) -> Picks:
    """Choose the most relevant row of each of k levels of difficulty.

    Rows in the order of their difficulty are cut into ``min(k, n)`` bins of equal size, give or take one.
    Each bin, from easy to hard, gives the most relevant row, not chosen yet, whose difficulty is between
    those of the bin's first and last row. So equal difficulties are never told apart: where they span
    several bins, these bins choose the most relevant rows of that difficulty.

    Parameters
    ----------
    relevance : array, shape (n,)
        Larger is better; any unit.
    difficulty : array, shape (n,)
        Larger is harder; any unit. NaN where it is unknown: such a row counts as the median of the others.
    k : int
        Rows wanted, k >= 1.

    Returns
    -------
    Picks
        ``indices``, ``min(k, n)`` of them, from easy to hard; ``gains`` and ``scores``: relevance.
        Diagnostics: ``levels``, how many difficulties there are; ``unknown``, rows without one.

    Raises
    ------
    InvalidShape
        Shapes disagree, a relevance is not finite, or a difficulty is infinite.
    InvalidParameter
        ``k`` below 1.

    Notes
    -----
    O(n log n + m) with m the rows of all bins' difficulties, which is n + k times the rows of one difficulty
    at most. Bins depend on k, so that the picks for k are no prefix of those for k + 1. Ties in relevance go
    to the lowest index.

    References
    ----------
    .. [1] Vu, Duy, Wu, Nhat, Mingzhe, Thong, Luu (2025), "Curriculum demonstration selection for in-context
       learning", ACM Symposium on Applied Computing.

    Examples
    --------
    >>> curriculum([0.9, 0.1, 0.8, 0.7, 0.2, 0.6], [1, 1, 2, 3, 3, 2], k=3).indices
    array([0, 2, 3])
    """
    similarity = as_float64("relevance", relevance, (None,))
    n = len(similarity)
    given = np.asarray(difficulty, dtype=np.float64)
    require_shape("difficulty", given, (n,))
    if np.isinf(given).any():
        raise InvalidShape("difficulty holds an infinity; allowed are finite numbers and NaN for unknown")
    require_count(k)
    unknown = np.isnan(given)
    known = given[~unknown]
    hardness = np.where(unknown, np.median(known) if len(known) else 0.0, given)

    order = np.argsort(hardness, kind="stable")
    ascending = hardness[order]
    bins = min(k, n)
    first = np.arange(bins) * n // max(bins, 1)
    last = np.arange(1, bins + 1) * n // max(bins, 1) - 1
    begins = np.searchsorted(ascending, ascending[first], side="left")
    ends = np.searchsorted(ascending, ascending[last], side="right")
    left = similarity.copy()
    indices = np.empty(bins, dtype=np.int64)
    for number in range(bins):
        rows = order[begins[number] : ends[number]]
        values = left[rows]
        indices[number] = rows[values == values.max()].min()
        left[indices[number]] = -np.inf
    chosen = similarity[indices]
    levels = len(np.unique(known))
    return Picks(
        indices, chosen, chosen, diagnostics={"levels": levels, "unknown": int(np.count_nonzero(unknown))}
    )


@SELECTORS.register("cds")
@dataclass(frozen=True, slots=True)
class Cds:
    """One demonstration of each level of difficulty, the most similar there, from easy to hard.

    The difficulty is the pool's ``difficulty_field``, a number of the metadata, the length of the outputs or
    what a scorer said of them, or, without one, the length of the inputs in tokens; see `curriculum` for the
    levels and the source. Picks come from easy to hard: the prompt orders ``as_selected`` and
    ``easy_to_hard`` keep that. Gains and scores are cosine similarities.
    """

    needs: ClassVar[frozenset[Feature]] = frozenset({Feature.DIFFICULTY})
    pool_wide: ClassVar[bool] = True

    def select(self, candidates: Candidates, k: int, rng: np.random.Generator) -> Picks:
        """Return ``min(k, n)`` picks."""
        difficulty = require_part(candidates.difficulty, Feature.DIFFICULTY)
        return curriculum(candidates.relevance, difficulty, k)
