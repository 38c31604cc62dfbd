"""Determinantal diversity: rows that span as much volume as possible, weighed by quality."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kshot.arrays import Picks, as_float64
from kshot.errors import InvalidParameter
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
from kshot.selectors.annotation.directions import directions
from kshot.selectors.annotation.registry import PLANNERS
from kshot.selectors.base import check_parameters, parameter, require_count
from kshot.selectors.determinantal import dpp_map
from kshot.selectors.ranking import top_k

_SPANNED = 1e-10
"""Squared distance from the span of the chosen rows below which a unit row adds no direction."""
JITTER = 1e-8


def dpp_diversity(
    vectors: ArrayLike,
    budget: int,
    quality: ArrayLike | None = None,
    *,
    lam: float = 1.0,
    labelled: NDArray[np.bool_ | np.integer] | None = None,
    report: Report = silent,
) -> Picks:
    """Choose rows that point in directions as different as possible, and are of high quality.

    Greedy maximisation of ``logdet L_S`` with ``L_ij = exp(lam (q_i + q_j) / 2) cos(z_i, z_j)``: each pick
    adds ``lam q`` and the logarithm of its squared distance from the span of all picks before.

    Parameters
    ----------
    vectors : array, shape (n, d)
        Not 0; each is scaled to length 1. Sentence embeddings or, as first published, gradients.
    budget : int
        Rows wanted, at least 1; all that are unlabelled if there are fewer.
    quality : array, shape (n,), optional
        q, larger is better, in any unit; all the same if it is missing.
    lam : float
        At least 0: nats that a unit of quality is worth. 0 is diversity alone.
    labelled : array of bool, shape (n,), or of row numbers, optional
        Rows that count as chosen before the first pick, and are never picked.
    report : callable
        Told after every pick.

    Returns
    -------
    Picks
        ``gains``, equal to ``scores``: increases of ``logdet L`` in nats, negative wherever what a pick
        adds is below 1. Where the picks span all directions, at most d of them, the rest is filled by
        quality; such a row gains what a squared distance of 1e-10 would. Diagnostics: ``logdet`` of the
        picks before that, beside the labelled rows; ``filled``.

    Raises
    ------
    InvalidShape
        ``vectors`` is no matrix, is not finite or has a row of length zero; ``quality`` has another length
        or is not finite; ``labelled`` names rows that do not exist.
    InvalidParameter
        ``budget`` is below 1, or ``lam`` is negative or infinite.

    Notes
    -----
    O(n m (d + m)) time and O(n m) memory for m picks and independent labelled rows. Ties go to the lowest
    index.

    References
    ----------
    .. [1] Wang et al. (2024), "Diversity measurement and subset selection for instruction tuning datasets".
    .. [2] Chen, Zhang, Zhou (2018), "Fast greedy MAP inference for determinantal point process to improve
       recommendation diversity", NeurIPS, Algorithm 1.

    Examples
    --------
    >>> picks = dpp_diversity([[1, 0], [0.8, 0.6], [0.6, 0.8]], 3)
    >>> picks.indices, picks.diagnostics["filled"]
    (array([0, 2, 1]), 1)
    """
    units, _ = directions(vectors, center=False)
    n = len(units)
    require_budget(budget)
    if not 0 <= lam < np.inf:
        raise InvalidParameter(f"lam is {lam}, allowed finite and >= 0")
    given = labelled_mask(labelled, n)
    values = np.zeros(n) if quality is None else as_float64("quality", quality, (n,))
    worth = lam * values
    # Relative to the best, or the exponential overflows; what labelled rows span does not hang on theirs.
    best = float(worth[~given].max()) if not given.all() else 0.0
    scale = np.ones(n)
    scale[~given] = np.exp((worth[~given] - best) / 2.0)
    spanning = dpp_map(
        factors=units * scale[:, None],
        k=budget,
        eps=_SPANNED,
        given=np.flatnonzero(given),
        report=report,
    )
    indices, gains = spanning.indices, spanning.gains + best
    free = ~given
    free[indices] = False
    left = np.flatnonzero(free)
    filled = min(budget - len(indices), len(left))
    if filled:
        rest = left[top_k(values[left], filled)]
        indices = np.concatenate([indices, rest])
        gains = np.concatenate([gains, worth[rest] + np.log(_SPANNED)])
    diagnostics: dict[str, Any] = {"logdet": float(gains[: len(spanning)].sum()), "filled": filled}
    return planned(indices, gains, diagnostics)


def log_det_distance(vectors: ArrayLike, k: int, *, jitter: float = JITTER) -> float:
    """Measure how far rows are from pointing in all directions: 0 if k of them are orthogonal.

    ``(logdet L_ref - logdet L_D) / k`` for the cosine kernel L of the greedily most diverse k rows D, and of
    k unit vectors that are as diverse as can be: orthogonal, as far as there are dimensions (no unit vectors
    have a larger determinant). The smaller, the more diverse.

    Parameters
    ----------
    vectors : array, shape (n, d)
        Not 0; each is scaled to length 1.
    k : int
        Rows compared, at least 1; n if there are fewer. Compare only distances of the same k.
    jitter : float
        Above 0, at most 1: the least that a row counts for, as a squared distance from the span of those
        before it, so that repeated rows give a large distance and not an infinite one.

    Returns
    -------
    float
        In nats for each row, from 0 to ``-log(jitter)``; 0 without rows.

    Raises
    ------
    InvalidShape
        ``vectors`` is no matrix, is not finite or has a row of length zero.
    InvalidParameter
        ``k`` is below 1, or ``jitter`` outside its range.

    Notes
    -----
    O(n k (d + k)). Differs from the paper: its reference are random unit vectors, which are nearly
    orthogonal in many dimensions; exactly orthogonal ones need no seed and leave no distance below 0.

    References
    ----------
    .. [1] Wang et al. (2024), "Diversity measurement and subset selection for instruction tuning datasets".

    Examples
    --------
    >>> log_det_distance([[1, 0, 0], [0, 1, 0], [0, 0, 1]], 3)
    0.0
    >>> round(log_det_distance([[1, 0], [0.6, 0.8]], 2), 3)  # -log(0.8 ** 2) / 2
    0.223
    """
    units, _ = directions(vectors, center=False)
    require_count(k)
    if not 0 < jitter <= 1:
        raise InvalidParameter(f"jitter is {jitter}, allowed > 0 and <= 1")
    size, dimensions = min(k, len(units)), units.shape[1]
    if not size:
        return 0.0
    heights = np.full(size, np.log(jitter))
    spanning = dpp_map(factors=units, k=size, eps=jitter).gains
    heights[: len(spanning)] = np.minimum(spanning, 0.0)
    reference = max(size - dimensions, 0) * np.log(jitter)
    return max(0.0, float(reference - heights.sum()) / size)


@PLANNERS.register("dpp_diversity")
@dataclass(frozen=True, slots=True)
class DppDiversity:
    """Label inputs that point in directions as different as possible, the better ones first.

    What a pick adds is its distance from everything that combinations of earlier picks express; a known
    quality of the inputs is weighed against it. Gains are in nats. No more picks than dimensions can add a
    direction; further ones come by quality. See `dpp_diversity`.
    """

    needs: ClassVar[frozenset[PlanFeature]] = frozenset({PlanFeature.VECTORS})
    wants: ClassVar[frozenset[PlanFeature]] = frozenset()
    graph: ClassVar[GraphSpec | None] = None
    nested: ClassVar[bool] = True

    lam: float = parameter(1.0, description="Nats that a unit of quality is worth; 0: diversity alone.", ge=0)

    def __post_init__(self) -> None:
        check_parameters(self)

    def plan(
        self, candidates: PlanCandidates, budget: int, rng: np.random.Generator, report: Report = silent
    ) -> Picks:
        """Return ``min(budget, unlabelled)`` picks."""
        vectors = require_feature(candidates.vectors, PlanFeature.VECTORS)
        return dpp_diversity(
            vectors,
            budget,
            candidates.quality,
            lam=self.lam,
            labelled=candidates.labelled,
            report=report,
        )
