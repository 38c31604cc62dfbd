"""The planner contract: which inputs to label next, under a budget."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from kshot.arrays import Bools, Float32s, Float64s, Floats, Int64s, Picks, require_finite, require_shape
from kshot.errors import InvalidInput, InvalidParameter, InvalidShape
from kshot.selectors.annotation.neighbour_graph import NeighbourGraph


class PlanFeature(StrEnum):
    """What a planner may ask for beside the rows themselves."""

    VECTORS = "vectors"
    """``vectors``: sentence vectors."""
    GRAPH = "graph"
    """``graph``: the nearest neighbours of every row, as the planner's `GraphSpec` says."""
    CONFIDENCE = "confidence"
    """``confidence``: how sure a model is of its answer to every row."""
    STRUCTURES = "structures"
    """``structures``: how often every row has each structure, such as a word sequence."""
    TAGS = "tags"
    """``tags`` and ``tag_vectors``: which tags every row carries, and what they mean."""


@dataclass(frozen=True, slots=True)
class GraphSpec:
    """The neighbour graph that a planner works on, where there are more than ``above_rows`` rows."""

    n_neighbors: int
    center: bool
    above_rows: int = 0


_PER_ROW = ("labelled", "vectors", "confidence", "structures", "tags", "quality")
"""Fields of `PlanCandidates` that have one entry per row."""


@dataclass(frozen=True, slots=True)
class PlanCandidates:
    """What a planner chooses from: n rows, those that are labelled already among them.

    Attributes
    ----------
    labelled : bool array, shape (n,)
        Rows that count as chosen before the first pick: what they cover need not be covered again. They are
        never picked.
    vectors : float32 array, shape (n, d), or None
        Unit rows, not centred.
    graph : NeighbourGraph or None
        Over all n rows.
    confidence : float64 array, shape (n,), or None
        Larger is surer, in any unit; NaN where it is unknown, which counts as least sure.
    structures : csr_array of int64, shape (n, S), or None
        Occurrences of each of S structures in each row.
    tags : csr_array of bool, shape (n, A), or None
        Which of A tags a row carries.
    tag_vectors : float array, shape (A, p), or None
        Unit rows.
    quality : float64 array, shape (n,), or None
        Above 0; None: all the same.
    """

    labelled: Bools
    vectors: Float32s | None = None
    graph: NeighbourGraph | None = None
    confidence: Float64s | None = None
    structures: csr_array | None = None
    tags: csr_array | None = None
    tag_vectors: Floats | None = None
    quality: Float64s | None = None

    def __post_init__(self) -> None:
        n = len(self.labelled)
        require_shape("labelled", self.labelled, (n,))
        for name in ("vectors", "structures", "tags"):
            part: Any = getattr(self, name)
            if part is not None:
                require_shape(name, part, (n, None))
        for name in ("confidence", "quality"):
            part = getattr(self, name)
            if part is not None:
                require_shape(name, part, (n,))
        if self.graph is not None and len(self.graph) != n:
            raise InvalidShape(f"the graph has {len(self.graph)} rows, wanted {n}")
        if self.tags is not None and self.tag_vectors is not None:
            require_shape("tag_vectors", self.tag_vectors, (self.tags.shape[1], None))
        self._check_numbers()

    def _check_numbers(self) -> None:
        if self.vectors is not None:
            require_finite("vectors", self.vectors)
        if self.confidence is not None and np.isinf(self.confidence).any():
            raise InvalidShape("confidence holds an infinity; allowed are finite numbers and NaN for unknown")
        if self.quality is not None:
            require_finite("quality", self.quality)
            if (self.quality <= 0).any():
                where = int(np.argmax(self.quality <= 0))
                raise InvalidParameter(f"quality[{where}] is {self.quality[where]:g}, allowed > 0")

    def __len__(self) -> int:
        return len(self.labelled)

    def take(self, rows: Int64s) -> "PlanCandidates":
        """Return some of the rows, without the graph: theirs is another."""
        per_row = {name: getattr(self, name) for name in _PER_ROW}
        taken = {name: part[rows] for name, part in per_row.items() if part is not None}
        return replace(self, graph=None, **taken)

    @property
    def unlabelled(self) -> int:
        """Rows that can be picked."""
        return int(len(self.labelled) - np.count_nonzero(self.labelled))


class Report(Protocol):
    """Told how far a planner is, at every point where it may stop."""

    def __call__(self, done: int, total: int) -> None:
        """Take note, or raise to stop."""


def silent(done: int, total: int) -> None:
    """Tell nobody."""


class Planner(Protocol):
    """Chooses which rows to label, without any query.

    A planner is a frozen dataclass: its fields are hyper-parameters (declare them with
    `kshot.selectors.base.parameter`), it holds no state between calls, and one instance may serve any number
    of threads. Callers may rely on this:

    - ``indices`` are distinct, in the order in which to label, and never name a labelled row; fewer than
      ``budget`` only if fewer rows are unlabelled, or where the class says so;
    - the same candidates, budget and generator state give the same picks; deterministic planners ignore
      ``rng``; ties go to the lowest index unless the docstring says otherwise;
    - inputs are never changed in place; one row, identical rows and rows that are all labelled are valid;
    - ``scores`` equal ``gains`` unless the docstring says otherwise; diagnostics are small and JSON-ready.
    """

    nested: ClassVar[bool]
    """True if the first M picks of a larger plan are the plan for M."""

    @property
    def needs(self) -> frozenset[PlanFeature]:
        """Features without which ``plan`` cannot run; nothing else is computed."""
        ...

    @property
    def wants(self) -> frozenset[PlanFeature]:
        """Features that ``plan`` uses where they are to be had."""
        ...

    @property
    def graph(self) -> GraphSpec | None:
        """The neighbour graph to build; None without `PlanFeature.GRAPH`."""
        ...

    def plan(
        self, candidates: PlanCandidates, budget: int, rng: np.random.Generator, report: Report = silent
    ) -> Picks:
        """Return ``min(budget, unlabelled)`` picks, ``budget >= 1``."""
        ...


def require_feature(part: Any, feature: PlanFeature) -> Any:
    """Return a part of `PlanCandidates` that a planner cannot do without.

    Raises
    ------
    InvalidInput
        The part is None.
    """
    if part is None:
        raise InvalidInput(f"the method needs the rows' {feature}, and they come without")
    return part


def require_budget(budget: int) -> None:
    """Refuse to plan fewer than one row.

    Raises
    ------
    InvalidParameter
        ``budget`` is below 1.
    """
    if budget < 1:
        raise InvalidParameter(f"budget is {budget}, allowed >= 1")


def labelled_mask(labelled: NDArray[Any] | None, n: int) -> Bools:
    """Return which of n rows are labelled, from a mask, from row numbers, or from None for no row.

    Raises
    ------
    InvalidShape
        A mask of another length, or row numbers outside ``0 .. n - 1``.
    """
    mask: Bools = np.zeros(n, np.bool_)
    if labelled is None:
        return mask
    rows = np.asarray(labelled)
    if rows.dtype == np.bool_:
        require_shape("labelled", rows, (n,))
        return rows.copy()
    if rows.size and (rows.min() < 0 or rows.max() >= n):
        raise InvalidShape(f"labelled names rows {rows.min()} to {rows.max()}, allowed 0 to {n - 1}")
    mask[rows.astype(np.int64)] = True
    return mask


def planned(indices: Any, gains: Any, diagnostics: Mapping[str, Any] | None = None) -> Picks:
    """Bundle picks whose scores are their gains."""
    values = np.asarray(gains, np.float64)
    return Picks(np.asarray(indices, np.int64), values, values, {} if diagnostics is None else diagnostics)
