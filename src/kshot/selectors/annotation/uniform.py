"""Uniformly random rows, the baseline that every other planner has to beat."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from kshot.arrays import Picks
from kshot.selectors.annotation.base import (
    GraphSpec,
    PlanCandidates,
    PlanFeature,
    Report,
    labelled_mask,
    planned,
    require_budget,
    silent,
)
from kshot.selectors.annotation.registry import PLANNERS
from kshot.selectors.base import check_parameters


def random_rows(
    n: int,
    budget: int,
    seed: int | np.random.Generator = 0,
    *,
    labelled: NDArray[np.bool_ | np.integer] | None = None,
) -> Picks:
    """Draw rows uniformly, without replacement.

    Parameters
    ----------
    n : int
        Rows there are.
    budget : int
        Rows wanted, at least 1; all that are unlabelled if there are fewer.
    seed : int or Generator
        The same seed gives the same rows.
    labelled : array of bool, shape (n,), or of row numbers, optional
        Rows that are never picked.

    Returns
    -------
    Picks
        ``gains`` and ``scores`` are 0: nothing is maximised.

    Raises
    ------
    InvalidParameter
        ``budget`` is below 1.
    InvalidShape
        ``labelled`` names rows that do not exist.

    Notes
    -----
    O(n): one permutation of the rows that are not labelled, cut off at the budget, so that a smaller plan of
    the same seed is the beginning of a larger one.
    """
    require_budget(budget)
    free = np.flatnonzero(~labelled_mask(labelled, n))
    indices = np.random.default_rng(seed).permutation(free)[:budget]
    return planned(indices, np.zeros(len(indices)))


@PLANNERS.register("random")
@dataclass(frozen=True, slots=True)
class RandomRows:
    """Label inputs drawn at random: the yardstick that any other method has to beat.

    Every set of ``budget`` unlabelled rows, in every order, is equally likely. Gains are 0.
    """

    needs: ClassVar[frozenset[PlanFeature]] = frozenset()
    wants: ClassVar[frozenset[PlanFeature]] = frozenset()
    graph: ClassVar[GraphSpec | None] = None
    nested: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_parameters(self)

    def plan(
        self, candidates: PlanCandidates, budget: int, rng: np.random.Generator, report: Report = silent
    ) -> Picks:
        """Return ``min(budget, unlabelled)`` picks."""
        return random_rows(len(candidates), budget, rng, labelled=candidates.labelled)
