"""The writer's side of a pool: applies the change log to segments and columns, publishes snapshots.

`PoolIndex` is driven by one thread. Readers take `snapshot`, one reference that is swapped, and never lock.
"""

from collections.abc import Collection, Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from kshot.arrays import Int64s
from kshot.errors import KshotError
from kshot.index import segments
from kshot.index.answer_scores import AnswerScores
from kshot.index.columns import MISSING, Column, ColumnWriter, flatten
from kshot.index.dense import DenseIndex, SealedIndex
from kshot.index.lexical import LexicalCache
from kshot.index.output_lengths import LoadLengths, OutputLengths
from kshot.index.rows import FrozenRows, RowTable
from kshot.index.segments import Features, Segment
from kshot.index.snapshot import Sample, Snapshot
from kshot.index.store.example_rows import ExampleHeader, PoolChanges
from kshot.index.structures import StructureCaches
from kshot.index.text_cache import LoadTexts
from kshot.index.token_base import TokenBase
from kshot.index.token_frequencies import Int32s, TokenFrequencies
from kshot.index.tokens import DECODED_BYTES, TokenPart, TokenView, decode
from kshot.records import canonical_json

MAX_LABELS = 500
_MERGE_FACTOR = 8
_WASTED = 0.25


class PoolIndex:
    """Features, columns and indexes of one pool under one feature configuration.

    Parameters
    ----------
    folder : Path
        Where the segments lie; one folder per feature configuration.
    label_field : str or None
        ``outputs``, ``outputs.<name>`` or ``metadata.<name>``; None: outputs, where they are few.
    load_texts : callable
        Reads texts for the lexical index.
    load_output_lengths : callable, optional
        Reads how long outputs are; without it nobody knows.
    answer_scores : AnswerScores, optional
        What a model said of the answers; without it nothing is known.

    Attributes
    ----------
    snapshot : Snapshot
        The newest one published. Version 0 stands for everything that is known before the change log was
        applied as a whole.
    answer_scores : AnswerScores
    dropped_segments : list of str
        Segments that were corrupt and have been removed; `missing` reports their examples.
    """

    def __init__(
        self,
        folder: Path,
        label_field: str | None,
        load_texts: LoadTexts,
        load_output_lengths: LoadLengths = lambda seqs: [None] * len(seqs),
        answer_scores: AnswerScores | None = None,
    ) -> None:
        self._folder = folder
        self._label_field = label_field
        self._lexical = LexicalCache(load_texts)
        self._structures = StructureCaches(load_texts)
        self._output_lengths = OutputLengths(load_output_lengths)
        self.answer_scores = answer_scores or AnswerScores()
        self._base: SealedIndex | None
        self._token_base: TokenBase | None
        self.snapshot: Snapshot
        opened, self.dropped_segments = segments.open_all(folder)
        self._load(opened)

    @property
    def disk_bytes(self) -> int:
        """Bytes of all segments."""
        return sum(segment.disk_bytes for segment in self._segments)

    @property
    def segments(self) -> int:
        """Number of segments."""
        return len(self._segments)

    def missing(self, headers: Iterable[ExampleHeader]) -> list[ExampleHeader]:
        """Return the headers whose features are not in any segment yet."""
        return [header for header in headers if header.feature_seq not in self._table.key_to_row]

    def unowned(self, headers: Iterable[ExampleHeader]) -> list[int]:
        """Return the keys of the features that none of the headers uses, ascending."""
        return sorted(self._table.key_to_row.keys() - {header.feature_seq for header in headers})

    def compact(self, unowned: Collection[int], erased: Collection[int]) -> None:
        """Write segments anew without features that no example uses. For the start, before any `publish`.

        A segment is written anew if it holds features of an erased example, so that nothing made from erased
        content is left on disk, or if more than a quarter of its rows are unowned. O(bytes of these
        segments). Rows move, so a base over them does not fit any more.

        Parameters
        ----------
        unowned : collection of int
            From `unowned`, with all headers of the pool.
        erased : collection of int
            Those of them whose content is gone from the store.
        """
        dead, gone = (np.array(sorted(keys), np.int64) for keys in (unowned, erased))
        compacted = [self._without(segment, dead, gone) for segment in self._segments]
        if any(new is not old for new, old in zip(compacted, self._segments, strict=True)):
            self._load([segment for segment in compacted if segment is not None])

    def append(self, features: Features) -> None:
        """Write features as a new segment; they become visible with the next `publish`.

        Raises
        ------
        DimensionMismatch
            The vectors have another dimension than the pool's.
        InvalidInput
            An example has features already, or the features do not pass `Features.checked`.
        """
        if not len(features):
            return
        self._table.check(features)
        segment = segments.write_segment(self._folder, features)
        self._segments.append(segment)
        self._register(segment.features)
        self._merge_newest()
        self._set_parts()

    def publish(self, changes: PoolChanges) -> Snapshot:
        """Apply changes and swap in the snapshot of ``changes.version``.

        The changes are those since the version of the present snapshot; after version 0 they are the whole
        pool. An example without features is left out.
        """
        if self.snapshot.version == 0:
            # A partial state may have been published under this version; what was removed from it since is in
            # no list.
            self._table.remove_all()
        self._table.remove(changes.removed)
        for header in changes.added:
            row = self._table.key_to_row.get(header.feature_seq)
            if row is not None:
                self._table.own(row, header)
                self._columns.replace(row, self._fields(header))
        self.snapshot = self._make_snapshot(changes.version)
        return self.snapshot

    def relabel(self, label_field: str | None, headers: Iterable[ExampleHeader]) -> None:
        """Read labels from another field.

        ``headers`` are those of the whole pool; where they are newer than the snapshot, the next `publish`
        brings their labels.
        """
        self._label_field = label_field
        for header in headers:
            row = self._table.key_to_row.get(header.feature_seq)
            if row is not None and self._table.owner(row) == header.seq:
                self._columns.replace(row, self._fields(header))
        self.snapshot = self._make_snapshot(self.snapshot.version)

    def install_base(self, base: SealedIndex) -> None:
        """Search ``base`` for the first rows from now on."""
        self._base = base
        self.snapshot = self._make_snapshot(self.snapshot.version)

    def install_token_base(self, base: TokenBase) -> None:
        """Let ``base`` propose from the first rows from now on, where token vectors decide."""
        self._token_base = base
        self.snapshot = self._make_snapshot(self.snapshot.version)

    def _load(self, opened: Sequence[Segment]) -> None:
        """Start from these segments: their rows without owners, and the snapshot of version 0."""
        self._table = RowTable()
        self._columns = ColumnWriter()
        self._base = self._token_base = None
        self._segments: list[Segment] = []
        self._parts: list[TokenPart] = []
        for segment in _without_repeated(opened):
            try:
                self._table.check(segment.features)
            except KshotError:
                # Whole, but none of this pool's.
                segments.remove(segment)
                self.dropped_segments.append(segment.path.name)
                continue
            self._segments.append(segment)
            self._register(segment.features)
        self._set_parts()
        self.snapshot = self._make_snapshot(0)

    def _register(self, features: Features) -> None:
        self._table.append(features)
        self._columns.extend(len(features))

    def _without(self, segment: Segment, dead: Int64s, gone: Int64s) -> Segment | None:
        keys = segment.features.keys
        keep = ~np.isin(keys, dead)
        if not np.isin(keys, gone).any() and np.count_nonzero(~keep) <= _WASTED * len(keys):
            return segment
        # The old one goes last: a crash before leaves both, and the next start keeps the larger.
        rest = segments.write_segment(self._folder, segments.merge([segment], [keep])) if keep.any() else None
        segments.remove(segment)
        return rest

    def _merge_newest(self) -> None:
        """Keep the segments few: sizes fall from old to new, with less than 8 of each order of magnitude."""
        while (count := _to_merge([len(segment.features) for segment in self._segments])) > 1:
            last = self._segments[-count:]
            everything = [np.ones(len(segment.features), np.bool_) for segment in last]
            merged = segments.write_segment(self._folder, segments.merge(last, everything))
            self._segments[-count:] = [merged]
            for segment in last:
                segments.remove(segment)

    def _set_parts(self) -> None:
        """Map each segment's tokens, decoded in memory while the whole pool's fit."""
        sized = [segment.features for segment in self._segments]
        if any(features.tokens is None for features in sized):
            self._parts = []
            return
        total = sum(4 * features.tokens.size for features in sized if features.tokens is not None)
        known = {id(part.tokens): part for part in self._parts}
        self._parts = []
        for features in sized:
            assert features.tokens is not None
            assert features.offsets is not None
            part = known.get(id(features.tokens))
            fits = total <= DECODED_BYTES
            if part is None or (part.decoded is not None) != fits:
                decoded = decode(features.tokens) if fits else None
                part = TokenPart(features.tokens, features.offsets, decoded)
            self._parts.append(part)

    def _token_ids(self) -> list[tuple[Int32s, Int64s]]:
        features = [segment.features for segment in self._segments]
        return [
            (one.token_ids, one.offsets)
            for one in features
            if one.token_ids is not None and one.offsets is not None
        ]

    def _fields(self, header: ExampleHeader) -> Iterable[tuple[str, Any]]:
        yield "id", header.id
        yield "status", str(header.status)
        yield "split", header.split
        yield "subject_id", header.subject_id
        yield "group", header.group
        yield from flatten(header.metadata)
        yield "label", _label(header, self._label_field or "outputs")

    def _make_snapshot(self, version: int) -> Snapshot:
        table = self._table.freeze()
        columns = self._columns.freeze()
        if self._label_field is None and "label" in columns and not _are_labels(columns["label"], table):
            del columns["label"]
        tokens = TokenView(self._parts, self._token_base) if self._parts else None
        dense = None if table.vectors is None else DenseIndex(table.vectors, self._base)
        return Snapshot(
            version=version,
            seqs=table.seqs,
            live=table.live,
            approved=table.approved,
            annotated=table.annotated,
            truncated=table.truncated,
            hashes=table.hashes,
            field_to_column=columns,
            dense=dense,
            tokens=tokens,
            sample=_sample(table, tokens),
            lexical_cache=self._lexical,
            structure_caches=self._structures,
            token_frequencies=TokenFrequencies(self._token_ids(), table.live),
            output_lengths=self._output_lengths,
            answer_scores=self.answer_scores,
        )


def _without_repeated(opened: Sequence[Segment]) -> list[Segment]:
    """Delete the inputs of a merge that a crash left beside its result."""
    kept: list[Segment] = []
    seen: set[int] = set()
    for segment in sorted(opened, key=lambda one: -len(one.features)):
        keys = segment.features.keys.tolist()
        if seen.issuperset(keys):
            segments.remove(segment)
        else:
            seen.update(keys)
            kept.append(segment)
    return sorted(kept, key=lambda one: one.path.name)


def _to_merge(sizes: Sequence[int]) -> int:
    """Return how many of the newest segments to merge.

    The newest takes in the smaller ones before it; otherwise 8 of one order of magnitude become one of the
    next. So each row is written about as many times as there are orders of magnitude.
    """
    magnitudes = [_magnitude(size) for size in reversed(sizes)]
    smaller = len(list(takewhile(lambda one: one < magnitudes[0], magnitudes[1:])))
    equal = len(list(takewhile(lambda one: one == magnitudes[0], magnitudes)))
    return smaller + 1 if smaller else equal if equal >= _MERGE_FACTOR else 0


def _magnitude(rows: int) -> int:
    magnitude = 0
    while rows >= _MERGE_FACTOR:
        rows //= _MERGE_FACTOR
        magnitude += 1
    return magnitude


def _label(header: ExampleHeader, field: str) -> str | None:
    """Read an example's label: a text as it is, any other value as its JSON text."""
    outputs = header.short_outputs
    if field == "outputs":
        return outputs if isinstance(outputs, str) else None
    if field.startswith("metadata."):
        found = dict(flatten(header.metadata)).get(field)
    else:
        found = outputs.get(field.removeprefix("outputs.")) if isinstance(outputs, dict) else None
    return found if found is None or isinstance(found, str) else canonical_json(found)


def _are_labels(outputs: Column, table: FrozenRows) -> bool:
    """Whether the texts are few; each one too long for a header counts as one that no other equals."""
    codes = outputs.codes[table.live]
    return len(np.unique(codes[codes != MISSING])) + table.long_outputs <= MAX_LABELS


def _sample(table: FrozenRows, tokens: TokenView | None) -> Sample | None:
    return None if table.vectors is None else Sample.of(table.keys, table.live, table.vectors, tokens)
