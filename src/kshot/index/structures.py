"""Inverted files over the structures of a pool's texts: which rows share which of the query's structures."""

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csc_array

from kshot.arrays import Bools, Float64s, Int64s
from kshot.index.lexical import K1, VARIANT, B
from kshot.index.text_cache import LoadTexts, TextCache
from kshot.selectors.lexical import bm25_contributions
from kshot.selectors.ranking import top_k
from kshot.selectors.structural import recall_share
from kshot.selectors.structure_cover import StructureCover, Weighting
from kshot.structures import StructureKind, reader_of

KEPT = 4
"""Kinds of structure, each ``max_words`` by itself, whose indexes a pool keeps: those used last."""
MAX_CELLS = 1 << 23
"""Largest dense matrix of structure scores: 64 MB."""

UInt64s = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class StructureScores:
    """What each structure of one query counts in the rows of a pool, sparse.

    Attributes
    ----------
    values : csc_array of float64, shape (n, S)
        One column per distinct structure that any row has, in the order of the query; a structure that the
        query repeats counts as often. Positive where a row has the structure.
    totals : float64 array, shape (n,)
        Row sums: the recall or BM25 of each row.
    patterns : uint64 array, shape (n,)
        Equal for rows that have the same structures of the query, under BM25 each equally often.
    """

    values: "csc_array[np.float64]"
    totals: Float64s
    patterns: UInt64s

    def contenders(self, rows: Int64s, depth: int) -> Int64s:
        """Return the rows that a greedy cover of at most ``depth`` picks may choose, ascending.

        Exact: a row that is left out would not be chosen from all rows either. It either shares no structure
        with the query, so that it gains nothing, or ``depth`` rows of the same pattern are chosen before it:
        with the same scores, and earlier; or, shorter under BM25, with larger scores in every column. Only
        where the dense matrix would exceed `MAX_CELLS`, the rows with the largest totals are returned alone,
        ``depth`` of them at least, and the cover is that of these rows.

        O(m log m) for m rows that share a structure.
        """
        found = rows[self.totals[rows] > 0]
        order = np.lexsort((-self.totals[found], self.patterns[found]))
        kind = self.patterns[found][order]
        starts = np.flatnonzero(np.concatenate([[True], kind[1:] != kind[:-1]])[: len(kind)])
        rank = np.arange(len(kind)) - np.repeat(starts, np.diff(starts, append=len(kind)))
        found = np.sort(found[order[rank < depth]])
        room = max(depth, MAX_CELLS // max(self.values.shape[1], 1))
        return found if len(found) <= room else np.sort(found[top_k(self.totals[found], room)])

    def of(self, rows: Int64s) -> Float64s:
        """Return the dense scores of some rows, shape (len(rows), S), column-major."""
        place = np.full(self.values.shape[0], -1)
        place[rows] = np.arange(len(rows))
        entries = place[self.values.indices]
        columns = np.repeat(np.arange(self.values.shape[1]), np.diff(self.values.indptr))
        asked = entries >= 0
        dense: Float64s = np.zeros((len(rows), self.values.shape[1]), order="F")
        dense[entries[asked], columns[asked]] = self.values.data[asked]
        return dense


@dataclass(frozen=True, slots=True)
class StructureIndex:
    """The structures of the rows of a pool that were live, counted. Immutable.

    A structure is known by a 64-bit hash, so two of millions being taken for one is all but excluded.

    Attributes
    ----------
    live : bool array, shape (n,)
        The documents that count, for document frequencies and the mean length too.
    keys : uint64 array, shape (m,)
        Hashes of the distinct structures, ascending.
    counts : csc_array of int32, shape (number of live rows, m)
    lengths : int64 array, shape (number of live rows,)
        Structures of each live row, repetitions included.
    reader : StructureReader
        The one that the rows were read with.
    """

    live: Bools
    keys: UInt64s
    counts: "csc_array[np.int32]"
    lengths: Int64s
    reader: "StructureReader"

    def scores(self, query: str, weighting: Weighting) -> StructureScores:
        """Score the structures of a query in every row.

        BM25 is Lucene's variant, k1 = 1.5, b = 0.75. O(rows that have each structure, added up, + n).
        """
        asked = self.reader.keys([query])[0]
        distinct, first, times = np.unique(asked, return_index=True, return_counts=True)
        # The order of the query, since that of hashes differs from process to process and sums with it.
        order = np.argsort(first)
        distinct, times = distinct[order], times[order]
        columns = np.searchsorted(self.keys, distinct)
        known = np.flatnonzero(columns < len(self.keys))
        known = known[self.keys[columns[known]] == distinct[known]]
        counts: csc_array[Any] = self.counts[:, columns[known]]
        size = np.diff(counts.indptr)
        if weighting == "bm25":
            entries = bm25_contributions(counts, variant=VARIANT, k1=K1, b=B, lengths=self.lengths).data
            often = counts.data
        else:
            entries = np.full(counts.nnz, recall_share(len(asked)))
            often = np.zeros_like(counts.data)
        entries = entries * np.repeat(times[known], size)
        rows = np.flatnonzero(self.live)[counts.indices]
        n = len(self.live)
        patterns: UInt64s = np.zeros(n, np.uint64)
        np.add.at(patterns, rows, _mixed(np.repeat(distinct[known], size), often.astype(np.uint64)))
        return StructureScores(
            csc_array((entries, rows, counts.indptr), shape=(n, len(known))),
            np.bincount(rows, weights=entries, minlength=n).astype(np.float64),
            patterns,
        )


class StructureReader:
    """Reads texts as hashes of their structures.

    Word sequences are hashed from the hashes of their words, so that only those need be remembered.
    """

    def __init__(self, kind: StructureKind, max_words: int) -> None:
        self._read = reader_of(kind)
        self._longest = max_words if kind == "ngrams" else 1

    def parts(self, texts: Sequence[str]) -> list[UInt64s]:
        """Return the hashes of each text's words, or of its structures where these are not word sequences."""
        return [_hashed(parts) for parts in self._read(texts)]

    def joined(self, parts: UInt64s, rows: Int64s) -> tuple[UInt64s, Int64s]:
        """Return the hashes of every sequence within a row, and the row of each; shorter sequences first."""
        sequences, owners = [parts], [rows]
        hashes = parts
        for length in range(2, self._longest + 1):
            hashes = _mixed(hashes[:-1], parts[length - 1 :])
            within = rows[: len(hashes)] == rows[length - 1 :]
            sequences.append(hashes[within])
            owners.append(rows[: len(hashes)][within])
        return np.concatenate(sequences), np.concatenate(owners)

    def keys(self, texts: Sequence[str]) -> list[UInt64s]:
        """Return the hashes of each text's structures."""
        return [self.joined(parts, np.zeros(len(parts), np.int64))[0] for parts in self.parts(texts)]


def _hashed(parts: Iterable[Hashable]) -> UInt64s:
    # Keyed anew in every process: nobody can prepare texts whose structures collide.
    return np.array([hash(part) for part in parts], np.int64).view(np.uint64)


def _mixed(prefix: UInt64s, last: UInt64s) -> UInt64s:
    """Hash pairs of hashes; the order within a pair matters."""
    mixed: UInt64s = prefix * np.uint64(0x9E3779B97F4A7C15) + last
    mixed ^= mixed >> np.uint64(32)
    mixed *= np.uint64(0xD6E8FEB86659FD93)
    mixed ^= mixed >> np.uint64(32)
    return mixed


class StructureWriter:
    """Remembers the hashes that each row's text was read as."""

    def __init__(self, kind: StructureKind, max_words: int) -> None:
        self._reader = StructureReader(kind, max_words)
        self._known: Int64s = np.empty(0, np.int64)
        # Of all known rows, one row after the other: hashes, and the row of each.
        self._parts: UInt64s = np.empty(0, np.uint64)
        self._owners: Int64s = np.empty(0, np.int64)

    def unknown(self, rows: Int64s) -> Int64s:
        """Return those of the rows whose text was never given."""
        return np.setdiff1d(rows, self._known, assume_unique=True)

    def put(self, rows: Sequence[int], texts: Sequence[str]) -> None:
        """Give the texts of rows, each row once."""
        parts = self._reader.parts(texts)
        given = np.array(rows, np.int64)
        self._known = np.concatenate([self._known, given])
        self._parts = np.concatenate([self._parts, *parts])
        self._owners = np.concatenate([self._owners, np.repeat(given, [len(one) for one in parts])])

    def build(self, live: Bools) -> StructureIndex:
        """Index the rows that are live; one whose text is unknown has no structures.

        O(t log t) for t structures. Of 20,000 dictionary glosses of 9 words, as sequences of up to 4 words:
        0.2 s, after 0.3 s of reading; index and writer hold 16 MB (155,000 glosses: 2.5 s, 2 s, 112 MB).
        """
        # Rows may have come since the snapshot that asks.
        alive = self._owners < len(live)
        alive[alive] = live[self._owners[alive]]
        keys, owners = self._reader.joined(self._parts[alive], self._owners[alive])
        distinct, columns = np.unique(keys, return_inverse=True)
        place = np.cumsum(live) - 1
        count = int(np.count_nonzero(live))
        lengths = np.bincount(place[owners], minlength=count)
        counts = coo_array(
            (np.ones(len(keys), np.int32), (place[owners], columns)), shape=(count, len(distinct))
        )
        return StructureIndex(live, distinct, counts.tocsc(), lengths, self._reader)


class StructureCaches:
    """The structure indexes of one pool: one `TextCache` per kind, the `KEPT` most recently used."""

    def __init__(self, load_texts: LoadTexts) -> None:
        self._load_texts = load_texts
        self._lock = threading.Lock()
        self._kind_to_cache: OrderedDict[tuple[StructureKind, int], TextCache[StructureIndex]] = OrderedDict()

    def of(self, method: StructureCover) -> TextCache[StructureIndex]:
        """Return the cache of what a method reads.

        Raises
        ------
        MissingDependency
            The parser is not installed.
        """
        key = (method.structures, method.max_words if method.structures == "ngrams" else 1)
        with self._lock:
            cache = self._kind_to_cache.get(key)
            if cache is None:
                cache = TextCache(self._load_texts, StructureWriter(*key))
                self._kind_to_cache[key] = cache
            self._kind_to_cache.move_to_end(key)
            while len(self._kind_to_cache) > KEPT:
                self._kind_to_cache.popitem(last=False)
        return cache
