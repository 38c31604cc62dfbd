"""Least confidence: the rows whose answer a model is least sure of."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kshot.arrays import Float64s, Picks, require_shape
from kshot.errors import InvalidShape
from kshot.selectors.annotation.base import (
    GraphSpec,
    PlanCandidates,
    PlanFeature,
    Report,
    labelled_mask,
    planned,
    require_budget,
    require_feature,
    silent,
)
from kshot.selectors.annotation.registry import PLANNERS
from kshot.selectors.base import check_parameters
from kshot.selectors.ranking import top_k


def least_confidence(
    confidence: ArrayLike, budget: int, *, labelled: NDArray[np.bool_ | np.integer] | None = None
) -> Picks:
    """Choose the rows that a model is least sure of.

    This is one round: label its picks, ask the model again with the new labels at hand, and plan the next.
    Confidences grow stale within a round, so keep it small; the first experiments took 10 rows.

    Parameters
    ----------
    confidence : array, shape (n,)
        Larger is surer, in any unit, such as the mean log-probability of the answer; NaN where it is unknown,
        which counts as least sure.
    budget : int
        Rows wanted, at least 1; all that are unlabelled if there are fewer.
    labelled : array of bool, shape (n,), or of row numbers, optional
        Rows that are never picked.

    Returns
    -------
    Picks
        ``gains``, equal to ``scores``: how far a row's confidence is below that of the surest row, in its own
        unit; of a row without one, as far as the least sure row's. Diagnostics: ``unknown``, the picks whose
        confidence is unknown; they come first.

    Raises
    ------
    InvalidShape
        ``confidence`` is no vector or holds an infinity, or ``labelled`` names rows that do not exist.
    InvalidParameter
        ``budget`` is below 1.

    Notes
    -----
    O(n + budget log budget). Ties go to the lowest index.

    References
    ----------
    .. [1] Lewis, Gale (1994), "A sequential algorithm for training text classifiers", SIGIR.

    Examples
    --------
    >>> least_confidence([0.9, 0.2, float("nan"), 0.5], 3).indices
    array([2, 1, 3])
    """
    doubt = doubts(confidence)
    require_budget(budget)
    free = np.flatnonzero(~labelled_mask(labelled, len(doubt)))
    indices = free[top_k(doubt[free], budget)]
    known = doubt[np.isfinite(doubt)]
    gains = np.minimum(doubt[indices], known.max(initial=0.0))
    return planned(indices, gains, {"unknown": int(np.count_nonzero(np.isinf(doubt[indices])))})


def doubts(confidence: ArrayLike) -> Float64s:
    """Return how far each row is below the surest one; infinity where the confidence is unknown."""
    sure = np.asarray(confidence, np.float64)
    require_shape("confidence", sure, (None,))
    if np.isinf(sure).any():
        raise InvalidShape("confidence holds an infinity; allowed are finite numbers and NaN for unknown")
    unknown = np.isnan(sure)
    doubt = np.full(len(sure), np.inf)
    if not unknown.all():
        doubt[~unknown] = sure[~unknown].max() - sure[~unknown]
    return doubt


@PLANNERS.register("least_confidence")
@dataclass(frozen=True, slots=True)
class LeastConfidence:
    """Label what the model is least sure of, in small rounds with new confidences in between.

    Looks at one input at a time: several near copies of one hard input may be picked together. Gains say how
    far the confidence is below that of the surest row. See `least_confidence`.
    """

    needs: ClassVar[frozenset[PlanFeature]] = frozenset({PlanFeature.CONFIDENCE})
    wants: ClassVar[frozenset[PlanFeature]] = frozenset()
    graph: ClassVar[GraphSpec | None] = None
    nested: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_parameters(self)

    def plan(
        self, candidates: PlanCandidates, budget: int, rng: np.random.Generator, report: Report = silent
    ) -> Picks:
        """Return ``min(budget, unlabelled)`` picks."""
        confidence = require_feature(candidates.confidence, PlanFeature.CONFIDENCE)
        return least_confidence(confidence, budget, labelled=candidates.labelled)
