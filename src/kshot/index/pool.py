"""The writer's side of a pool: applies the change log to segments and columns, publishes snapshots.

`PoolIndex` is driven by one thread. Readers take `snapshot`, one reference that is swapped, and never lock.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from kshot.arrays import Float32s, Int64s
from kshot.index import segments
from kshot.index.columns import ColumnWriter, flatten
from kshot.index.dense import DenseIndex, SealedIndex
from kshot.index.lexical import LexicalIndex, LexicalWriter
from kshot.index.rows import RowTable
from kshot.index.segments import Features, Segment
from kshot.index.snapshot import SAMPLE_ROWS, Sample, Snapshot
from kshot.index.store.example_rows import ExampleHeader, PoolChanges
from kshot.index.tokens import DECODED_BYTES, TokenPart, TokenView, decode
from kshot.records import Status

MAX_LABELS = 500
_MERGE_FACTOR = 8

LoadTexts = Callable[[Sequence[int]], list[str]]
"""Embed texts of example versions, by seq; an empty text where a version is gone."""


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
    """

    def __init__(self, folder: Path, label_field: str | None, load_texts: LoadTexts) -> None:
        self._folder = folder
        self._label_field = label_field
        self._segments, self.dropped_segments = segments.open_all(folder)
        self._lexical = _LexicalCache(load_texts)
        self._table = RowTable()
        self._columns = ColumnWriter()
        self._base: SealedIndex | None = None
        self._drop_repeated_segments()
        for segment in self._segments:
            self._register(segment.features)
        self._parts: list[TokenPart] = []
        self._set_parts()
        self.snapshot = self._make_snapshot(0)

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

    def append(self, features: Features) -> None:
        """Write features as a new segment; they become visible with the next `publish`."""
        if not len(features):
            return
        segment = segments.write_segment(self._folder, features)
        self._segments.append(segment)
        self._register(segment.features)
        self._merge_small()
        self._set_parts()

    def publish(self, changes: PoolChanges) -> Snapshot:
        """Apply changes whose features are present and swap in the snapshot of ``changes.version``."""
        self._table.remove(changes.removed)
        for header in changes.added:
            row = self._table.key_to_row.get(header.feature_seq)
            if row is None:
                continue
            self._table.own(row, header)
            self._columns.replace(row, self._fields(header))
        self.snapshot = self._make_snapshot(changes.version)
        return self.snapshot

    def relabel(self, label_field: str | None, headers: Iterable[ExampleHeader]) -> None:
        """Read labels from another field."""
        self._label_field = label_field
        for header in headers:
            row = self._table.key_to_row.get(header.feature_seq)
            if row is not None:
                self._columns.replace(row, self._fields(header))
        self.snapshot = self._make_snapshot(self.snapshot.version)

    def install_base(self, base: SealedIndex) -> None:
        """Search ``base`` for the first rows from now on."""
        self._base = base
        self.snapshot = self._make_snapshot(self.snapshot.version)

    def _drop_repeated_segments(self) -> None:
        """Remove the inputs of a merge that a crash left beside its result."""
        kept: list[Segment] = []
        seen: set[int] = set()
        for segment in sorted(self._segments, key=lambda one: -len(one.features)):
            keys = segment.features.keys.tolist()
            if seen.issuperset(keys):
                segments.remove(segment)
                continue
            seen.update(keys)
            kept.append(segment)
        self._segments = sorted(kept, key=lambda one: one.path.name)

    def _register(self, features: Features) -> None:
        self._table.append(features.keys, features.vectors, features.truncated)
        for _ in range(len(features)):
            self._columns.append(())

    def _merge_small(self) -> None:
        """Merge the newest segments while enough of them are of one order of magnitude."""
        while len(self._segments) >= _MERGE_FACTOR:
            last = self._segments[-_MERGE_FACTOR:]
            magnitudes = {_magnitude(len(segment.features)) for segment in last}
            if len(magnitudes) > 1:
                return
            everything = [np.ones(len(segment.features), np.bool_) for segment in last]
            merged = segments.write_segment(self._folder, segments.merge(last, everything))
            self._segments[-_MERGE_FACTOR:] = [merged]
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
                part = TokenPart(features.tokens, np.asarray(features.offsets), decoded)
            self._parts.append(part)

    def _fields(self, header: ExampleHeader) -> Iterable[tuple[str, object]]:
        yield "id", header.id
        yield "status", str(header.status)
        yield "split", header.split
        yield "subject_id", header.subject_id
        yield "group", header.group
        yield from flatten(header.metadata)
        if self._label_field is None or self._label_field == "outputs":
            yield "label", header.short_outputs
        elif self._label_field.startswith("metadata."):
            wanted = self._label_field
            yield (
                "label",
                next((str(value) for name, value in flatten(header.metadata) if name == wanted), None),
            )

    def _make_snapshot(self, version: int) -> Snapshot:
        table = self._table.freeze()
        columns = self._columns.freeze()
        label = columns.get("label")
        if label is not None and self._label_field is None:
            distinct = np.unique(label.codes[table.live])
            if len(distinct) > MAX_LABELS:
                del columns["label"]
        tokens = TokenView(self._parts) if self._parts else None
        dense = DenseIndex(table.vectors, self._base) if table.vectors is not None else None
        return Snapshot(
            version=version,
            seqs=table.seqs,
            live=table.live,
            approved=table.approved,
            truncated=table.truncated,
            hashes=table.hashes,
            field_to_column=columns,
            dense=dense,
            tokens=tokens,
            sample=_sample(table.keys, table.live, table.vectors, tokens),
            find_lexical=self._lexical.find,
        )


class _LexicalCache:
    """Builds one lexical index at a time, on demand, and keeps the newest."""

    def __init__(self, load_texts: LoadTexts) -> None:
        self._load_texts = load_texts
        self._lock = threading.Lock()
        self._writer = LexicalWriter()
        self._latest: tuple[int, LexicalIndex] | None = None

    def find(self, snapshot: Snapshot, current: bool) -> LexicalIndex | None:  # noqa: FBT001  (a callback)
        """See `Snapshot.lexical`."""
        latest = self._latest
        if latest is not None and (latest[0] == snapshot.version or not current):
            return latest[1]
        if not current:
            return None
        with self._lock:
            latest = self._latest
            if latest is not None and latest[0] == snapshot.version:
                return latest[1]
            known = len(self._writer)
            for text in self._load_texts(snapshot.seqs[known:].tolist()):
                self._writer.append(text)
            index = self._writer.build(snapshot.live)
            if latest is None or latest[0] < snapshot.version:
                self._latest = (snapshot.version, index)
            return index


def _magnitude(rows: int) -> int:
    magnitude = 0
    while rows >= _MERGE_FACTOR:
        rows //= _MERGE_FACTOR
        magnitude += 1
    return magnitude


def _sample(
    keys: Int64s, live: np.ndarray, vectors: Float32s | None, tokens: TokenView | None
) -> Sample | None:
    """Take the live rows with the smallest hash of their key."""
    rows = np.flatnonzero(live)
    if vectors is None or not len(rows):
        return None
    if len(rows) > SAMPLE_ROWS:
        mixed = keys[rows].astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(32)
        mixed *= np.uint64(0xD6E8FEB86659FD93)
        rows = np.sort(rows[np.argpartition(mixed, SAMPLE_ROWS)[:SAMPLE_ROWS]])
    if tokens is None:
        return Sample(rows, vectors[rows], None, None)
    sample_tokens, offsets = tokens.take(rows)
    return Sample(rows, vectors[rows], sample_tokens, offsets)
