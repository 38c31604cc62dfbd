"""Array contracts that cross layers: what a selector is given, and what it returns.

Everything here is checked when it is built, so that an algorithm may trust its input: shapes agree, numbers
are finite, dtypes are the documented ones. float32 is stored, float64 sums.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kshot.errors import InvalidShape

Float32s: TypeAlias = NDArray[np.float32]
Float64s: TypeAlias = NDArray[np.float64]
Floats: TypeAlias = NDArray[np.float32 | np.float64]
Int64s: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]


class Feature(StrEnum):
    """What a selector may ask for; `kshot.index` computes only what is asked."""

    VECTORS = "vectors"
    """Sentence vectors of the candidates and of the query."""
    TOKENS = "tokens"
    """``partial_scores``: the weighted best match of every query token in every candidate."""
    IDF = "idf"
    """``partial_scores`` in which rare tokens weigh more; beside `TOKENS`, where all weigh the same."""
    LEXICAL = "lexical"
    """``bm25``: the BM25 score of every candidate."""
    STRUCTURES = "structures"
    """``structure_scores``: what each structure of the query counts in every candidate that has it."""
    LABELS = "labels"
    """``labels``: one integer code per candidate, and ``label_names``, what the codes stand for."""
    DIFFICULTY = "difficulty"
    """``difficulty``: how hard each candidate is."""
    MOMENTS = "moments"
    """``moments``: mean and standard deviation of each signal over the pool's fixed sample."""


class Signal(StrEnum):
    """A relevance signal: one number per candidate, larger is better."""

    SIMILARITY = "similarity"
    BSR = "bsr"
    BM25 = "bm25"


class Exactness(StrEnum):
    """What is known of a selection from a shortlist beside the one from every row."""

    EXACT = "exact"
    """Every row that may be chosen was scored."""
    CERTIFIED = "certified"
    """Rows were left out, and it is proven that none of them changes a pick."""
    APPROXIMATE = "approximate"
    """Rows were left out, and one of them may have been better."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and standard deviation of one signal for one query over the pool's fixed sample of rows."""

    mean: float
    std: float


def require_shape(name: str, array: NDArray[Any], shape: tuple[int | None, ...]) -> None:
    """Refuse an array whose shape differs from ``shape`` (None matches any length).

    Raises
    ------
    InvalidShape
        The message names the array, the shape received and the shape wanted.
    """
    matches = array.ndim == len(shape) and all(
        want is None or want == got for want, got in zip(shape, array.shape, strict=True)
    )
    if not matches:
        wanted = "(" + ", ".join("any" if want is None else str(want) for want in shape) + ")"
        raise InvalidShape(f"{name} has shape {array.shape}, wanted {wanted}")


def require_finite(name: str, array: NDArray[Any]) -> None:
    """Refuse NaN and infinity.

    Raises
    ------
    InvalidShape
        The message names the array and the first offending position.
    """
    finite = np.isfinite(array)
    if not finite.all():
        where = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise InvalidShape(f"{name} holds {array[where]} at {where}; only finite numbers are allowed")


def as_float64(name: str, array: ArrayLike, shape: tuple[int | None, ...]) -> Float64s:
    """Return ``array`` as checked, finite float64 of the given shape (a view where possible)."""
    values = np.asarray(array, dtype=np.float64)
    require_shape(name, values, shape)
    require_finite(name, values)
    return values


def unit_rows(vectors: ArrayLike) -> Float32s:
    """Scale every row to length 1, in float32; rows may be as long or as short as float64 goes.

    Raises
    ------
    InvalidShape
        The input is not a matrix, is not finite, or has a row of length zero.
    """
    matrix = as_float64("vectors", vectors, (None, None))
    largest = np.abs(matrix).max(axis=1, initial=0.0)
    if matrix.size and not largest.all():
        raise InvalidShape(f"vectors row {int(np.argmin(largest))} has length zero and no direction")
    # By a power of two, which is exact: a square must neither overflow nor vanish.
    matrix = np.ldexp(matrix, -np.frexp(largest)[1][:, None])
    unit: Float32s = (matrix / np.linalg.norm(matrix, axis=1)[:, None]).astype(np.float32)
    return unit


_PER_ROW = (
    "rows",
    "relevance",
    "vectors",
    "partial_scores",
    "bm25",
    "structure_scores",
    "labels",
    "difficulty",
    "lengths",
)
"""Fields of `Candidates` that have one entry per candidate."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """The shortlist for one query: parallel arrays over n rows, in ascending row order.

    Ascending rows make "ties go to the lowest index" the same as "ties go to the example ingested first".
    Parts that a selector did not ask for (`Selector.needs`) may be None.

    Attributes
    ----------
    rows : int64 array, shape (n,)
        Row numbers in the pool snapshot, strictly ascending.
    relevance : float64 array, shape (n,)
        Cosine similarity to the query, in [-1, 1]. Zeros where the pool or the query has no vector.
    query_vector : float32 array, shape (d,), or None
    vectors : float32 array, shape (n, d), or None
        Unit rows.
    partial_scores : float32 or float64 array, shape (n, L), or None
        ``w_i * max_j cos(x_i, z_j)`` for the L query tokens with positive weight; the weights sum to 1, so
        that a row's sum is its BSR. L is 0 for a query of special tokens only.
    bm25 : float64 array, shape (n,), or None
    structure_scores : float64 array, shape (n, S), or None
        What each of S structures (word sequences, subtrees, ...) of the query counts in each row; 0 where
        the row does not have it. S is 0 if no row has any.
    labels : int64 array, shape (n,), or None
        Codes >= 0; -1 where the example has no label.
    label_names : sequence of str, or None
        ``label_names[code]`` is the label of a code; there may be names that no candidate has.
    difficulty : float64 array, shape (n,), or None
        Larger is harder, in any unit; NaN where it is unknown.
    lengths : int64 array, shape (n,), or None
        Prompt tokens per demonstration.
    moments : mapping from `Signal` to `Moments`
    complete : bool
        True if no row that the method may choose was left out.
    outside : float64 array, shape (L,), or None
        Where rows were left out: for each column of ``partial_scores``, what none of them exceeds; exact, not
        estimated. None if nobody knows.
    """

    rows: Int64s
    relevance: Float64s
    query_vector: Float32s | None = None
    vectors: Float32s | None = None
    partial_scores: Floats | None = None
    bm25: Float64s | None = None
    structure_scores: Float64s | None = None
    labels: Int64s | None = None
    label_names: Sequence[str] | None = None
    difficulty: Float64s | None = None
    lengths: Int64s | None = None
    moments: Mapping[Signal, Moments] = field(default_factory=lambda: MappingProxyType({}))
    complete: bool = True
    outside: Float64s | None = None

    def __post_init__(self) -> None:
        n = len(self.rows)
        require_shape("rows", self.rows, (n,))
        if n > 1 and not (np.diff(self.rows) > 0).all():
            raise InvalidShape("rows are not strictly ascending")
        require_shape("relevance", self.relevance, (n,))
        require_finite("relevance", self.relevance)
        d = None
        if self.query_vector is not None:
            require_shape("query_vector", self.query_vector, (None,))
            d = len(self.query_vector)
        if self.vectors is not None:
            require_shape("vectors", self.vectors, (n, d))
        for name in ("partial_scores", "structure_scores"):
            part = getattr(self, name)
            if part is not None:
                require_shape(name, part, (n, None))
                require_finite(name, part)
        for name in ("bm25", "labels", "difficulty", "lengths"):
            part = getattr(self, name)
            if part is not None:
                require_shape(name, part, (n,))
        if self.outside is not None:
            length = None if self.partial_scores is None else self.partial_scores.shape[1]
            require_shape("outside", self.outside, (length,))
        if self.difficulty is not None and np.isinf(self.difficulty).any():
            raise InvalidShape("difficulty holds an infinity; allowed are finite numbers and NaN for unknown")

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: Int64s) -> "Candidates":
        """Return some of the candidates, ``indices`` ascending; what belongs to the query stays as it is."""
        per_row = {name: getattr(self, name) for name in _PER_ROW}
        return replace(self, **{name: part[indices] for name, part in per_row.items() if part is not None})


@dataclass(frozen=True, slots=True)
class Picks:
    """What a selector chose.

    Attributes
    ----------
    indices : int64 array, shape (k,)
        Positions in `Candidates`, distinct, in pick order.
    gains : float64 array, shape (k,)
        Increase of the method's objective by each pick, in the objective's own unit.
    scores : float64 array, shape (k,)
        Instance relevance of each pick by the method's own measure; prompt orders sort by it.
    diagnostics : mapping
        Small JSON-ready facts, such as ``{"resets": 1}``.
    """

    indices: Int64s
    gains: Float64s
    scores: Float64s
    diagnostics: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        k = len(self.indices)
        require_shape("indices", self.indices, (k,))
        require_shape("gains", self.gains, (k,))
        require_shape("scores", self.scores, (k,))
        if len(np.unique(self.indices)) != k:
            raise InvalidShape("indices repeat")

    def __len__(self) -> int:
        return len(self.indices)


def exactness(candidates: Candidates, picks: Picks) -> Exactness:
    """Tell what is known of picks; they are certified if their diagnostics say so of every step."""
    if candidates.complete:
        return Exactness.EXACT
    if len(picks) and picks.diagnostics.get("certified_steps") == len(picks):
        return Exactness.CERTIFIED
    return Exactness.APPROXIMATE
