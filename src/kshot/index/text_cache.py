"""Indexes made from a pool's texts: built when first asked for, kept while the rows stay the same."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

from kshot.arrays import Bools, Int64s

LoadTexts = Callable[[Sequence[int]], list[str]]
"""Embed texts of example versions, by seq; an empty text where a version is gone."""


class TextIndex(Protocol):
    """What a `TextWriter` builds. Immutable."""

    @property
    def live(self) -> Bools:
        """The rows that it was built for, shape (n,)."""
        ...


I_co = TypeVar("I_co", bound=TextIndex, covariant=True)
I = TypeVar("I", bound=TextIndex)  # noqa: E741  reads as Index


class TextWriter(Protocol[I_co]):
    """Remembers what it read from each row's text, so that a new index needs no second look at the texts.

    Called from one thread at a time.
    """

    def unknown(self, rows: Int64s) -> Int64s:
        """Return those of the rows whose text was never given."""
        ...

    def put(self, rows: Sequence[int], texts: Sequence[str]) -> None:
        """Give the texts of rows, each row once."""
        ...

    def build(self, live: Bools) -> I_co:
        """Index the rows that are live; one whose text is unknown counts as empty.

        The result may be read from any thread.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Newest(Generic[I]):
    version: int
    index: I
    is_complete: bool
    """False if a live row's text could not be read."""


class TextCache(Generic[I]):
    """Builds one index of a kind at a time, on demand, and keeps the newest."""

    def __init__(self, load_texts: LoadTexts, writer: TextWriter[I]) -> None:
        self._load_texts = load_texts
        self._lock = threading.Lock()
        self._writer = writer
        self._newest: _Newest[I] | None = None

    def newest(self) -> I | None:
        """Return the newest index that is ready."""
        return None if self._newest is None else self._newest.index

    def find(self, version: int, seqs: Int64s, live: Bools) -> I:
        """Return the index of exactly these live rows, waiting for its construction if need be.

        Parameters
        ----------
        version : int
            Of the snapshot that asks; the index of the newest one is kept.
        seqs : int64 array, shape (n,)
            Example version of each row.
        live : bool array, shape (n,)
        """
        found = self._of(version, live)
        if found is not None:
            return found
        with self._lock:
            found = self._of(version, live)
            if found is not None:
                return found
            unknown = self._writer.unknown(np.flatnonzero(live)).tolist()
            texts = self._load_texts(seqs[unknown].tolist())
            # A version erased since has no text, but the row may live on as another version's.
            known = [(row, text) for row, text in zip(unknown, texts, strict=True) if text]
            self._writer.put([row for row, _ in known], [text for _, text in known])
            index = self._writer.build(live)
            if self._newest is None or self._newest.version <= version:
                self._newest = _Newest(version, index, is_complete=all(texts))
            return index

    def _of(self, version: int, live: Bools) -> I | None:
        # A row's text never changes, so the same rows have the same index.
        newest = self._newest
        if newest is None or not np.array_equal(newest.index.live, live):
            return None
        return newest.index if newest.is_complete or newest.version == version else None
