"""MIG: rows that carry the most new information about the tags of the pool."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array, diags_array

from kshot.arrays import Bools, Float64s, Picks, as_float64, require_shape
from kshot.errors import InvalidParameter
from kshot.selectors.annotation.base import (
    GraphSpec,
    PlanCandidates,
    PlanFeature,
    Report,
    labelled_mask,
    require_budget,
    require_feature,
    silent,
)
from kshot.selectors.annotation.directions import directions
from kshot.selectors.annotation.registry import PLANNERS
from kshot.selectors.base import check_parameters, parameter

SIM_THRESHOLD = 0.9
PROP_WEIGHT = 1.0
PHI_A = 1e-6
PHI_B = 0.8
_BLOCK = 1 << 22
"""Similarities of tags held at a time."""
_ROUNDING = 1e-12
_REFRESH_EVERY = 256
"""Picks after which all gains are summed afresh."""


def mig(
    tags: csr_array,
    tag_vectors: ArrayLike,
    budget: int,
    quality: ArrayLike | None = None,
    *,
    labelled: NDArray[np.bool_ | np.integer] | None = None,
    sim_threshold: float = SIM_THRESHOLD,
    prop_weight: float = PROP_WEIGHT,
    phi_a: float = PHI_A,
    phi_b: float = PHI_B,
    report: Report = silent,
) -> Picks:
    """Choose rows that add the most information on tags, where what is known of a tag counts less and less.

    A row spreads its quality evenly over its tags, and each tag passes some on to similar tags (P, below):
    ``x_i = v_i P``. The information of a set is ``sum_a phi(sum_{i in S} x_i(a))`` with
    ``phi(t) = (t + phi_a) ** phi_b``. Greedy by the slope ``x_i . phi'(sum so far)``.

    Parameters
    ----------
    tags : csr_array of bool, shape (n, A)
        Which of A tags each row carries: labels, intents or cluster numbers. Any number but 0 counts as
        carried.
    tag_vectors : array, shape (A, p)
        What the tags mean; not 0, each is scaled to length 1.
    budget : int
        Rows wanted, at least 1; all that are unlabelled if there are fewer.
    quality : array, shape (n,), optional
        Above 0; 1 for every row if it is missing.
    labelled : array of bool, shape (n,), or of row numbers, optional
        Rows whose information is there before the first pick; they are never picked.
    sim_threshold : float
        Above 0, at most 1: cosine from which on a tag passes information to another.
    prop_weight : float
        At least 0: weight of what is passed on. With ``W(a, b)`` the cosine times this weight, 0 below the
        threshold and 1 on the diagonal, P is W with each column divided by its sum.
    phi_a, phi_b : float
        Above 0, and above 0 up to 1: the less ``phi_b``, the sooner a tag counts as known.
    report : callable
        Told after every pick.

    Returns
    -------
    Picks
        ``gains``: increases of the information, whose sum over the first picks is the curve of the method;
        ``scores``: the slopes that decided, never rising. Rows without tags come last, with 0. Diagnostics:
        ``information`` of labelled rows and picks together, less that of nothing.

    Raises
    ------
    InvalidShape
        Shapes disagree, a number is not finite, a tag's vector is 0, or ``labelled`` names rows that do not
        exist.
    InvalidParameter
        ``budget`` is below 1, a quality not above 0, or a parameter outside its range.

    Notes
    -----
    O(A^2 p) for P, O(e) for e carried tags; a pick changes the slopes only of rows that have a tag in common
    with it, after passing on. Slopes are summed afresh every 256 picks. Ties go to the lowest index.

    References
    ----------
    .. [1] Chen et al. (2025), "MIG: automatic data selection for instruction tuning by maximizing
       information gain in semantic space", ACL findings.

    Examples
    --------
    >>> tags = csr_array([[1, 0], [1, 0], [0, 1], [0, 0]])
    >>> mig(tags, [[1, 0], [0, 1]], 4).indices
    array([0, 2, 1, 3])
    """
    carried = csr_array(tags, copy=True).astype(np.bool_).astype(np.float64)
    carried.eliminate_zeros()
    n, n_tags = carried.shape
    vectors, _ = directions(tag_vectors, center=False)
    require_shape("tag_vectors", vectors, (n_tags, None))
    require_budget(budget)
    _require_parameters(sim_threshold, prop_weight, phi_a, phi_b)
    given = labelled_mask(labelled, n)
    worth = _checked_quality(quality, n) / np.maximum(np.diff(carried.indptr), 1)
    X = csr_array(diags_array(worth) @ carried @ propagation(vectors, sim_threshold, prop_weight))
    X.sort_indices()
    by_tag = X.tocsc()
    known: Float64s = np.asarray(given.astype(np.float64) @ X)
    free = ~given
    wanted = min(budget, int(np.count_nonzero(free)))
    indices = np.empty(wanted, np.int64)
    gains, deciding = np.empty(wanted), np.empty(wanted)

    def slope(sums: Float64s) -> Float64s:
        return phi_b * (sums + phi_a) ** (phi_b - 1.0)

    for t in range(wanted):
        if t % _REFRESH_EVERY == 0:
            slopes: Float64s = X @ slope(known)
        best = _first_of_the_largest(slopes, free)
        indices[t], deciding[t] = best, slopes[best]
        free[best] = False
        own = slice(X.indptr[best], X.indptr[best + 1])
        told, before = X.indices[own], known[X.indices[own]]
        known[told] += X.data[own]
        gains[t] = float(((known[told] + phi_a) ** phi_b - (before + phi_a) ** phi_b).sum())
        for tag, change in zip(told.tolist(), slope(known[told]) - slope(before), strict=True):
            along = slice(by_tag.indptr[tag], by_tag.indptr[tag + 1])
            slopes[by_tag.indices[along]] += by_tag.data[along] * change
        report(t + 1, wanted)
    information = float(((known + phi_a) ** phi_b - phi_a**phi_b).sum())
    return Picks(indices, gains, deciding, {"information": information})


def propagation(vectors: Float64s, sim_threshold: float, prop_weight: float) -> csr_array:
    """Return P, shape (A, A): what tag b gets, in column b, of what is said about tag a, in row a.

    Parameters
    ----------
    vectors : float64 array, shape (A, p)
        Unit rows.
    sim_threshold, prop_weight : float
        As in `mig`.
    """
    n_tags = len(vectors)
    rows, columns, values = [np.arange(n_tags)], [np.arange(n_tags)], [np.ones(n_tags)]
    step = max(1, _BLOCK // max(n_tags, 1))
    for start in range(0, n_tags, step):
        similarity = vectors[start : start + step] @ vectors.T
        block = np.arange(len(similarity))
        similarity[block, start + block] = -np.inf
        # Equal tags have a cosine of 1 but for rounding, and pass a threshold of 1.
        near_rows, near = np.nonzero(similarity >= sim_threshold - _ROUNDING)
        rows.append(start + near_rows)
        columns.append(near)
        values.append(prop_weight * similarity[near_rows, near])
    where = (np.concatenate(rows), np.concatenate(columns))
    W = csr_array((np.concatenate(values), where), shape=(n_tags, n_tags))
    P = csr_array(W @ diags_array(1.0 / np.asarray(W.sum(axis=0)).ravel()))
    P.eliminate_zeros()
    return P


def _first_of_the_largest(slopes: Float64s, free: Bools) -> int:
    """Return the first row whose slope is the largest but for rounding: one tag or its three thirds."""
    values = np.where(free, slopes, -np.inf)
    largest = values.max()
    return int((values >= largest - _ROUNDING * abs(largest)).argmax())


def _checked_quality(quality: ArrayLike | None, n: int) -> Float64s:
    if quality is None:
        return np.ones(n)
    worth = as_float64("quality", quality, (n,))
    if (worth <= 0).any():
        where = int(np.argmax(worth <= 0))
        raise InvalidParameter(f"quality[{where}] is {worth[where]:g}, allowed > 0")
    return worth


def _require_parameters(sim_threshold: float, prop_weight: float, phi_a: float, phi_b: float) -> None:
    if not 0 < sim_threshold <= 1:
        raise InvalidParameter(f"sim_threshold is {sim_threshold}, allowed > 0 and <= 1")
    if not 0 <= prop_weight < np.inf:
        raise InvalidParameter(f"prop_weight is {prop_weight}, allowed finite and >= 0")
    if not 0 < phi_a < np.inf:
        raise InvalidParameter(f"phi_a is {phi_a}, allowed finite and > 0")
    if not 0 < phi_b <= 1:
        raise InvalidParameter(f"phi_b is {phi_b}, allowed > 0 and <= 1")


@PLANNERS.register("mig")
@dataclass(frozen=True, slots=True)
class Mig:
    """Spread the labels over tags: what many picks say of a tag already counts less and less.

    Tags are labels, intents or clusters that the inputs carry; similar tags share what is known of them, and
    a better input tells more. Gains are increases of information, scores the slopes that decided. See `mig`.
    """

    needs: ClassVar[frozenset[PlanFeature]] = frozenset({PlanFeature.TAGS})
    wants: ClassVar[frozenset[PlanFeature]] = frozenset()
    graph: ClassVar[GraphSpec | None] = None
    nested: ClassVar[bool] = True

    sim_threshold: float = parameter(
        SIM_THRESHOLD, description="Cosine of two tags from which on they share information.", gt=0, le=1
    )
    prop_weight: float = parameter(PROP_WEIGHT, description="How much similar tags share.", ge=0)
    phi_a: float = parameter(PHI_A, description="Information on every tag to begin with.", gt=0)
    phi_b: float = parameter(PHI_B, description="The less, the sooner enough is known of a tag.", gt=0, le=1)

    def __post_init__(self) -> None:
        check_parameters(self)

    def plan(
        self, candidates: PlanCandidates, budget: int, rng: np.random.Generator, report: Report = silent
    ) -> Picks:
        """Return ``min(budget, unlabelled)`` picks."""
        return mig(
            require_feature(candidates.tags, PlanFeature.TAGS),
            require_feature(candidates.tag_vectors, PlanFeature.TAGS),
            budget,
            candidates.quality,
            labelled=candidates.labelled,
            sim_threshold=self.sim_threshold,
            prop_weight=self.prop_weight,
            phi_a=self.phi_a,
            phi_b=self.phi_b,
            report=report,
        )
