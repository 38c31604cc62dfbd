"""Examples as prompts show them: fetched, rendered and measured once, then kept while there is room."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kshot.arrays import Int64s
from kshot.formatting import Turn
from kshot.index.snapshot import Snapshot
from kshot.records import Example

KEPT_BYTES = 8 << 20
_ENTRY_OVERHEAD_BYTES = 1_200


@dataclass(frozen=True, slots=True)
class Shown:
    """An example with its text.

    ``tokens`` is its length as it stands in the prompt, the separator included.
    """

    example: Example
    turn: Turn
    tokens: int


@dataclass(frozen=True, slots=True)
class _Entry:
    row: int
    shown: Shown
    nbytes: int


class ShownCache:
    """The most recently shown examples of one pool, under one set of templates and one tokenizer.

    A version of an example never changes, so what is kept stays right. Versions that a snapshot does not hold
    any more are forgotten when that snapshot is first asked for, so that erased texts do not linger.

    Parameters
    ----------
    max_bytes : int
        The least recently shown go first; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int = KEPT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._seq_to_entry: OrderedDict[int, _Entry] = OrderedDict()
        self._nbytes = 0
        self._version = -1

    def get(
        self, snapshot: Snapshot, rows: Int64s, load: Callable[[Sequence[int]], Sequence[Shown]]
    ) -> list[tuple[int, Shown]]:
        """Return ``(place in rows, shown)`` in the order of ``rows``.

        ``load`` is given the versions that are not at hand. One that it leaves out, since it has been erased,
        is left out here as well.
        """
        seqs = snapshot.seqs[rows].tolist()
        with self._lock:
            self._follow(snapshot)
            seq_to_shown = {seq: entry.shown for seq in seqs if (entry := self._touched(seq)) is not None}
        missing = [seq for seq in seqs if seq not in seq_to_shown]
        if missing:
            loaded = {one.example.seq: one for one in load(missing)}
            seq_to_shown |= loaded
            with self._lock:
                # A newer snapshot has been asked for: this one may hold what was erased since.
                if snapshot.version == self._version:
                    self._keep(dict(zip(seqs, rows.tolist(), strict=True)), loaded)
        return [(place, seq_to_shown[seq]) for place, seq in enumerate(seqs) if seq in seq_to_shown]

    def _touched(self, seq: int) -> _Entry | None:
        entry = self._seq_to_entry.get(seq)
        if entry is not None:
            self._seq_to_entry.move_to_end(seq)
        return entry

    def _follow(self, snapshot: Snapshot) -> None:
        if snapshot.version <= self._version:
            return
        self._version = snapshot.version
        seqs = list(self._seq_to_entry)
        rows = np.array([entry.row for entry in self._seq_to_entry.values()], np.int64)
        for place in np.flatnonzero(snapshot.seqs[rows] != np.array(seqs, np.int64)).tolist():
            self._drop(seqs[place])

    def _keep(self, seq_to_row: dict[int, int], loaded: dict[int, Shown]) -> None:
        for seq, shown in loaded.items():
            if seq in self._seq_to_entry:
                continue
            entry = _Entry(seq_to_row[seq], shown, _size(shown))
            self._seq_to_entry[seq] = entry
            self._nbytes += entry.nbytes
        while self._nbytes > self._max_bytes:
            self._drop(next(iter(self._seq_to_entry)))

    def _drop(self, seq: int) -> None:
        self._nbytes -= self._seq_to_entry.pop(seq).nbytes


def _size(shown: Shown) -> int:
    example, turn = shown.example, shown.turn
    texts = (turn.input, turn.output, turn.text, repr(example.inputs), repr(example.outputs))
    return _ENTRY_OVERHEAD_BYTES + sum(map(len, texts)) + len(repr(example.metadata))
