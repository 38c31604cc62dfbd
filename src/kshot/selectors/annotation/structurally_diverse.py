"""Structural diversity: cover the structures of the pool, the frequent first, again and again."""

import heapq
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from kshot.arrays import Bools, Int64s, Picks, require_shape
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
from kshot.selectors.annotation.registry import PLANNERS
from kshot.selectors.base import check_parameters, parameter


def structurally_diverse(
    structures: csr_array,
    budget: int,
    seed: int | np.random.Generator = 0,
    template_ids: ArrayLike | None = None,
    *,
    labelled: NDArray[np.bool_ | np.integer] | None = None,
    min_freq: int = 1,
    report: Report = silent,
) -> Picks:
    """Cover the structures of the pool in cycles, the most frequent that is left first.

    Each pick is for the structure that occurs most often in the rows that are left, among those that no pick
    of this cycle has; it is a random row that has this structure. Once picks of the cycle have all structures
    that are left, the next cycle begins.

    Parameters
    ----------
    structures : csr_array of int, shape (n, S)
        How often each row has each of S structures: word sequences, subtrees, edges of a syntax tree.
    budget : int
        Rows wanted, at least 1; all that are unlabelled if there are fewer.
    seed : int or Generator
        Decides between equally frequent structures, and between the rows that have one.
    template_ids : array of int, shape (n,), optional
        Which rows are the same but for names and numbers. Of the rows that have a structure, one is taken
        whose template no pick has had, until all templates that are left have had their turn.
    labelled : array of bool, shape (n,), or of row numbers, optional
        Rows that are never picked; the first cycle need not cover their structures and templates.
    min_freq : int
        At least 1: structures that occur less often, in all rows together, are left out.
    report : callable
        Told after every pick.

    Returns
    -------
    Picks
        ``gains``, equal to ``scores``: structures that no labelled row and no earlier pick has. Diagnostics:
        ``covered`` of all ``structures``; ``cycles`` completed; ``filled``: rows without any structure, drawn
        when all others are taken.

    Raises
    ------
    InvalidShape
        ``structures`` or ``template_ids`` is of the wrong shape, or ``labelled`` names rows that do not
        exist.
    InvalidParameter
        ``budget`` or ``min_freq`` is below 1, or a count is negative.

    Notes
    -----
    O(e + S log S) for a cycle at most, and the rows of the structures picked for, with e counts above 0: a
    heap of structures, whose weights only fall. Differs from the published code, which shuffles the
    structures anew before every pick, in that one order of them, drawn once, decides all ties.

    References
    ----------
    .. [1] Gupta, Singh, Gardner (2022), "Structurally diverse sampling for sample-efficient training and
       comprehensive evaluation", EMNLP findings.
    """
    counts = _checked(structures, min_freq)
    require_budget(budget)
    given = labelled_mask(labelled, counts.shape[0])
    templates = None if template_ids is None else TemplateCycle(template_ids, given)
    rng = np.random.default_rng(seed)
    cycle = StructureCycle(counts, given, rng)
    wanted = min(budget, int(np.count_nonzero(~given)))
    indices: list[int] = []
    gains: list[int] = []
    while len(indices) < wanted and (structure := cycle.most_frequent()) is not None:
        rows = cycle.rows_with(structure)
        if templates is not None:
            rows = templates.preferred(rows)
        row = int(rows[rng.integers(len(rows))])
        indices.append(row)
        gains.append(cycle.take(row))
        if templates is not None:
            templates.take(row)
        report(len(indices), wanted)
    filled = rng.permutation(np.flatnonzero(cycle.left))[: wanted - len(indices)]
    diagnostics = {
        "covered": int(np.count_nonzero(cycle.ever_covered)),
        "structures": counts.shape[1],
        "cycles": cycle.completed,
        "filled": len(filled),
    }
    return planned([*indices, *filled.tolist()], [*gains, *[0] * len(filled)], diagnostics)


def _checked(structures: csr_array, min_freq: int) -> csr_array:
    counts = csr_array(structures, copy=True).astype(np.int64)
    counts.sum_duplicates()
    counts.eliminate_zeros()
    if min_freq < 1:
        raise InvalidParameter(f"min_freq is {min_freq}, allowed >= 1")
    if counts.nnz and counts.data.min() < 0:
        raise InvalidParameter(f"structures hold a count of {counts.data.min()}, allowed >= 0")
    occurrences = np.bincount(counts.indices, counts.data, minlength=counts.shape[1])
    kept = occurrences >= min_freq
    return counts if kept.all() else csr_array(counts[:, np.flatnonzero(kept)])


class StructureCycle:
    """The rows that are left, the structures they have, and which of these the current cycle has covered.

    Attributes
    ----------
    weights : int64 array, shape (S,)
        Occurrences of every structure in the rows that are left.
    covered, ever_covered : bool arrays, shape (S,)
        By rows taken in this cycle, or ever.
    left : bool array, shape (n,)
    completed : int
        Cycles.
    """

    def __init__(self, counts: csr_array, labelled: Bools, rng: np.random.Generator) -> None:
        self._counts = counts
        by_structure = counts.tocsc()
        self._offsets, self._rows = by_structure.indptr, by_structure.indices
        self._rank = rng.permutation(counts.shape[1])
        self.left = ~labelled
        self.weights: Int64s = np.asarray(self.left.astype(np.int64) @ counts, np.int64)
        self.covered: Bools = np.asarray(labelled.astype(np.int64) @ counts) > 0
        self.ever_covered = self.covered.copy()
        self.completed = 0
        if not self._begin():
            self.covered[:] = False
            self._begin()

    def _begin(self) -> bool:
        """Queue the structures to cover; False if there are none."""
        waiting = np.flatnonzero((self.weights > 0) & ~self.covered)
        self._waiting = len(waiting)
        self._heap = list(
            zip(
                (-self.weights[waiting]).tolist(), self._rank[waiting].tolist(), waiting.tolist(), strict=True
            )
        )
        heapq.heapify(self._heap)
        return self._waiting > 0

    def most_frequent(self) -> int | None:
        """Return the heaviest structure that this cycle has not covered; None if no row left has any."""
        while self._heap:
            minus_weight, rank, structure = self._heap[0]
            weight = int(self.weights[structure])
            if self.covered[structure]:
                heapq.heappop(self._heap)
            elif -minus_weight != weight:
                # Weights only fall, so that what is on top with its present weight is the heaviest.
                heapq.heapreplace(self._heap, (-weight, rank, structure))
            else:
                return structure
        return None

    def rows_with(self, structure: int) -> Int64s:
        """Return the rows left that have a structure."""
        rows = self._rows[self._offsets[structure] : self._offsets[structure + 1]].astype(np.int64)
        return rows[self.left[rows]]

    def take(self, row: int) -> int:
        """Take a row that is left; return how many of its structures no row taken before has."""
        own = slice(self._counts.indptr[row], self._counts.indptr[row + 1])
        structures = self._counts.indices[own]
        self.left[row] = False
        self.weights[structures] -= self._counts.data[own]
        new = int(np.count_nonzero(~self.ever_covered[structures]))
        self.ever_covered[structures] = True
        self._waiting -= int(np.count_nonzero(~self.covered[structures]))
        self.covered[structures] = True
        if not self._waiting:
            self.completed += 1
            self.covered[:] = False
            self._begin()
        return new


class TemplateCycle:
    """The templates of the rows that are left, and which of them had their turn."""

    def __init__(self, template_ids: ArrayLike, labelled: Bools) -> None:
        ids = np.asarray(template_ids)
        require_shape("template_ids", ids, labelled.shape)
        self._template = np.unique(ids, return_inverse=True)[1]
        templates = int(self._template.max(initial=-1)) + 1
        self._left = np.bincount(self._template[~labelled], minlength=templates)
        self._used = np.zeros(templates, np.bool_)
        self._used[self._template[labelled]] = True
        self._waiting = int(np.count_nonzero((self._left > 0) & ~self._used))
        self._begin_if_done()

    def preferred(self, rows: Int64s) -> Int64s:
        """Return those of the rows whose template did not have its turn; all of them if there are none."""
        unused = rows[~self._used[self._template[rows]]]
        return unused if len(unused) else rows

    def take(self, row: int) -> None:
        """Give the template of a row its turn."""
        template = self._template[row]
        self._left[template] -= 1
        self._waiting -= not self._used[template]
        self._used[template] = True
        self._begin_if_done()

    def _begin_if_done(self) -> None:
        if not self._waiting:
            self._used[:] = False
            self._waiting = int(np.count_nonzero(self._left))


@PLANNERS.register("structurally_diverse")
@dataclass(frozen=True, slots=True)
class StructurallyDiverse:
    """Cover every word sequence or syntax fragment of the pool, the frequent first, then again and again.

    Made for code, SQL and questions whose rare constructions matter; looks at form, not at meaning. Gains
    count the structures that nothing labelled or picked before has. See `structurally_diverse`.
    """

    needs: ClassVar[frozenset[PlanFeature]] = frozenset({PlanFeature.STRUCTURES})
    wants: ClassVar[frozenset[PlanFeature]] = frozenset()
    graph: ClassVar[GraphSpec | None] = None
    nested: ClassVar[bool] = True

    min_freq: int = parameter(
        1, description="Occurrences in the pool that a structure must have to be covered.", ge=1
    )

    def __post_init__(self) -> None:
        check_parameters(self)

    def plan(
        self, candidates: PlanCandidates, budget: int, rng: np.random.Generator, report: Report = silent
    ) -> Picks:
        """Return ``min(budget, unlabelled)`` picks."""
        structures = require_feature(candidates.structures, PlanFeature.STRUCTURES)
        return structurally_diverse(
            structures, budget, rng, labelled=candidates.labelled, min_freq=self.min_freq, report=report
        )
