"""Snapshots: one immutable state of a pool, read without locks.

A snapshot's *row* is the place of an example's features in the pool's segments. Rows never move within one
generation of features; a deleted or superseded example leaves a row that is no longer live.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from kshot.arrays import Bools, Float32s, Float64s, Int64s, Moments
from kshot.index.answer_scores import ANSWER_FIELDS, AnswerScores
from kshot.index.columns import MISSING, Column
from kshot.index.dense import DenseIndex
from kshot.index.filtering import bitmap, fields_of
from kshot.index.lexical import LexicalCache, LexicalIndex
from kshot.index.output_lengths import OUTPUT_LENGTH, OutputLengths
from kshot.index.repeats import Repeats
from kshot.index.structures import StructureCaches, StructureIndex
from kshot.index.token_base import Reduction
from kshot.index.token_frequencies import TokenFrequencies
from kshot.index.tokens import TokenView
from kshot.schemas.filters import Filter
from kshot.selectors.late_interaction import bsr_scores, maxsim
from kshot.selectors.structure_cover import StructureCover

SAMPLE_ROWS = 1024
_FILTERS_KEPT = 64


def hash64(text: str) -> int:
    """Hash a text to 64 bits, for this process: finds equal ids and contents, all but certainly no others.

    Python's own hash is keyed anew in every process, so nobody can prepare two texts with the same one.
    """
    return hash(text) & 0xFFFF_FFFF_FFFF_FFFF


@dataclass(frozen=True, slots=True)
class Sample:
    """The rows over which signals are standardised, their tokens decoded once.

    Where the pool's tokens are sealed, the sample holds its own projected: a third of the work for every
    query, and nearly the same standard deviations (see `Reduction.spread`).

    The sample is the `SAMPLE_ROWS` live rows with the smallest hash of their key: uniform, the same in every
    process, and nearly unchanged when the pool grows.
    """

    rows: Int64s
    vectors: Float32s
    tokens: Float32s | None
    offsets: Int64s | None
    reduction: Reduction | None = None

    @classmethod
    def of(cls, keys: Int64s, live: Bools, vectors: Float32s, tokens: TokenView | None) -> "Sample | None":
        """Draw the sample; None if no row is live."""
        rows = np.flatnonzero(live)
        if not len(rows):
            return None
        if len(rows) > SAMPLE_ROWS:
            # A bijection of 64-bit numbers: no two keys collide.
            mixed = keys[rows].astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(32)
            mixed *= np.uint64(0xD6E8FEB86659FD93)
            rows = np.sort(rows[np.argpartition(mixed, SAMPLE_ROWS)[:SAMPLE_ROWS]])
        if tokens is None:
            return cls(rows, vectors[rows], None, None)
        own, offsets = tokens.take(rows)
        if tokens.base is None:
            return cls(rows, vectors[rows], own, offsets)
        reduction = tokens.base.reduction
        return cls(rows, vectors[rows], reduction.project(own), offsets, reduction)

    def bsr_moments(self, query_tokens: Float32s, weights: Float32s) -> Moments | None:
        """Return mean and standard deviation of the rows' BSR; None without token vectors."""
        if self.tokens is None or self.offsets is None:
            return None
        spread = 1.0
        if self.reduction is not None:
            query_tokens, spread = self.reduction.project(query_tokens), self.reduction.spread
        scores = bsr_scores(maxsim(query_tokens, self.tokens, self.offsets, weights))
        return Moments(float(scores.mean()), spread * float(scores.std()))


@dataclass(frozen=True, slots=True)
class Eligible:
    """Rows that a request may choose from, as mask and as ascending row numbers, and how they came about."""

    mask: Bools
    rows: Int64s
    filter_matched: int | None
    excluded: int
    unseen_fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hashes:
    """64-bit hashes of every row's id, content and inputs."""

    ids: NDArray[np.uint64]
    contents: NDArray[np.uint64]
    inputs: NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Exclusions:
    """What a request leaves out."""

    ids: Iterable[str] = ()
    content_hashes: Iterable[str] = ()
    input_hash: str | None = None
    groups: Iterable[str] = ()
    splits: Iterable[str] = ()


@dataclass(frozen=True, slots=True)
class _Evaluated:
    """A filter's bitmap, whether it reads ``status``, and its fields that no live row has."""

    matching: Bools
    reads_status: bool
    unseen_fields: tuple[str, ...]


class _Filters:
    """The most recently used filters of one snapshot, evaluated."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._key_to_evaluated: OrderedDict[str, _Evaluated] = OrderedDict()

    def get(self, key: str, make: Callable[[], _Evaluated]) -> _Evaluated:
        with self._lock:
            found = self._key_to_evaluated.get(key)
            if found is not None:
                self._key_to_evaluated.move_to_end(key)
                return found
        made = make()
        with self._lock:
            self._key_to_evaluated[key] = made
            while len(self._key_to_evaluated) > _FILTERS_KEPT:
                self._key_to_evaluated.popitem(last=False)
        return made


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Snapshot:
    """One state of a pool.

    Attributes
    ----------
    version : int
        Every change up to this pool version is in it.
    seqs : int64 array, shape (n,)
        The example version that owns each row; -1 where the row is not live.
    live : bool array, shape (n,)
    approved : bool array, shape (n,)
        Live, approved and with outputs: what is chosen from by default.
    annotated : bool array, shape (n,)
        Live and with outputs, whatever the status.
    truncated : bool array, shape (n,)
    field_to_column : mapping
        ``id``, ``label``, ``split``, ``status``, ``group``, ``subject_id`` and ``metadata.*``.
    dense : DenseIndex or None
        None while the pool holds no vector.
    tokens : TokenView or None
        None where the embedder gives no token vectors.
    """

    version: int
    seqs: Int64s
    live: Bools
    approved: Bools
    annotated: Bools
    truncated: Bools
    hashes: Hashes
    field_to_column: Mapping[str, Column]
    dense: DenseIndex | None
    tokens: TokenView | None
    sample: Sample | None
    lexical_cache: LexicalCache
    structure_caches: StructureCaches
    token_frequencies: TokenFrequencies
    output_lengths: OutputLengths
    answer_scores: AnswerScores
    approved_rows: Int64s = field(init=False)
    repeats: Repeats = field(init=False)
    _filters: _Filters = field(default_factory=_Filters, init=False)
    _field_to_numbers: dict[str, Float64s] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "approved_rows", np.flatnonzero(self.approved))
        object.__setattr__(self, "repeats", Repeats.of(self.hashes.contents, self.live))

    def __len__(self) -> int:
        return len(self.seqs)

    @property
    def examples(self) -> int:
        """Live examples."""
        return int(np.count_nonzero(self.live))

    def lexical(self, *, current: bool) -> LexicalIndex | None:
        """Return the BM25 index.

        Parameters
        ----------
        current : bool
            True waits for an index of exactly this snapshot. False takes the newest one that is ready, of an
            older or a newer snapshot and so of another length, or None: enough to propose candidates.
        """
        if not current:
            return self.lexical_cache.newest()
        return self.lexical_cache.find(self.version, self.seqs, self.live)

    def structures(self, method: StructureCover) -> StructureIndex:
        """Return the index of the structures that a method reads, waiting for its construction if need be.

        Raises
        ------
        MissingDependency
            They need a parser that is not installed.
        """
        return self.structure_caches.of(method).find(self.version, self.seqs, self.live)

    def numbers(self, name: str) -> Float64s:
        """Return the number that every row has in a field, NaN where it has none; read once.

        The field `OUTPUT_LENGTH` stands for the characters of the outputs, `ANSWER_FIELDS` for what a model
        said of them: read again once it has said more.
        """
        if name in ANSWER_FIELDS:
            key = f"{name} {self.answer_scores.generation}"
            if key not in self._field_to_numbers:
                self._field_to_numbers[key] = self.answer_scores.of(name, self.seqs, self.live)
            return self._field_to_numbers[key]
        found = self._field_to_numbers.get(name)
        if found is None and name == OUTPUT_LENGTH:
            found = self._field_to_numbers[name] = self.output_lengths.of(self.seqs, self.live)
        if found is None:
            column = self.field_to_column.get(name)
            found = np.full(len(self), np.nan) if column is None else column.numbers()
            self._field_to_numbers[name] = found
        return found

    def eligible(self, expression: Filter | None, exclusions: Exclusions) -> Eligible:
        """Return the rows that pass a filter and the exclusions.

        Without a condition on ``status`` only approved examples pass. Filter bitmaps are cached.
        """
        if expression is None and exclusions == Exclusions():
            return Eligible(self.approved, self.approved_rows, None, 0, ())
        mask = self.approved
        matched: int | None = None
        unseen: tuple[str, ...] = ()
        if expression is not None:
            key = expression.model_dump_json(by_alias=True, exclude_none=True)
            evaluated = self._filters.get(key, lambda: self._evaluate(expression))
            mask = evaluated.matching & (self.live if evaluated.reads_status else self.approved)
            matched = int(np.count_nonzero(mask))
            unseen = evaluated.unseen_fields
        left_out = self._left_out(exclusions)
        excluded = 0
        if left_out is not None:
            excluded = int(np.count_nonzero(mask & left_out))
            mask = mask & ~left_out
        return Eligible(mask, np.flatnonzero(mask), matched, excluded, unseen)

    def matching_seqs(self, expression: Filter) -> Int64s:
        """Return the example versions that match a filter, of any status."""
        return self.seqs[bitmap(expression, self.field_to_column, len(self)) & self.live]

    def _evaluate(self, expression: Filter) -> _Evaluated:
        fields = fields_of(expression)
        columns = ((name, self.field_to_column.get(name)) for name in sorted(fields))
        return _Evaluated(
            bitmap(expression, self.field_to_column, len(self)),
            "status" in fields,
            tuple(
                name
                for name, column in columns
                if column is None or not (self.live & (column.codes != MISSING)).any()
            ),
        )

    def _left_out(self, exclusions: Exclusions) -> Bools | None:
        parts: list[Bools] = []
        if ids := list(exclusions.ids):
            parts.append(np.isin(self.hashes.ids, np.array([hash64(one) for one in ids], np.uint64)))
        if contents := list(exclusions.content_hashes):
            parts.append(
                np.isin(self.hashes.contents, np.array([hash64(one) for one in contents], np.uint64))
            )
        if exclusions.input_hash is not None:
            parts.append(self.hashes.inputs == np.uint64(hash64(exclusions.input_hash)))
        for name, wanted in (("group", exclusions.groups), ("split", exclusions.splits)):
            column, values = self.field_to_column.get(name), set(wanted)
            if column is not None and values:
                codes = [code for code, value in enumerate(column.values) if value in values]
                parts.append(np.isin(column.codes, codes))
        if not parts:
            return None
        left_out: Bools = np.logical_or.reduce(parts)
        return left_out
