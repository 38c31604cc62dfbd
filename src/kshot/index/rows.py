"""Per-row facts of a pool in growing arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from kshot.arrays import Bools, Float32s, Int64s
from kshot.errors import DimensionMismatch, InvalidInput
from kshot.index.segments import Features
from kshot.index.snapshot import Hashes, hash64
from kshot.index.store.example_rows import ExampleHeader
from kshot.records import Status

DEAD = -1
T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, slots=True)
class FrozenRows:
    """What a snapshot takes over; read-only arrays."""

    keys: Int64s
    seqs: Int64s
    live: Bools
    approved: Bools
    annotated: Bools
    truncated: Bools
    hashes: Hashes
    #: Live rows whose outputs are too long for their header.
    long_outputs: int
    vectors: Float32s | None


class RowTable:
    """One row per key (``feature_seq``), in the order of the segments; owned by at most one live example.

    Sentence vectors are only ever appended, so frozen views share their memory; the small per-row facts are
    copied by `freeze`.
    """

    def __init__(self) -> None:
        self.key_to_row: dict[int, int] = {}
        self._rows = 0
        self._vectors: Float32s | None = None
        self._keys = np.empty(0, np.int64)
        self._seqs = np.empty(0, np.int64)
        self._approved = np.empty(0, np.bool_)
        self._annotated = np.empty(0, np.bool_)
        self._truncated = np.empty(0, np.bool_)
        self._has_long_outputs = np.empty(0, np.bool_)
        self._hashes = np.empty((0, 3), np.uint64)

    def check(self, features: Features) -> None:
        """Refuse features that cannot be appended.

        Raises
        ------
        DimensionMismatch
            The vectors have another dimension than those before.
        InvalidInput
            A key has a row already.
        """
        if self._vectors is not None and self._vectors.shape[1] != features.vectors.shape[1]:
            raise DimensionMismatch(
                f"vectors have {features.vectors.shape[1]} dimensions, the pool {self._vectors.shape[1]}"
            )
        repeated = sum(key in self.key_to_row for key in features.keys.tolist())
        if repeated:
            raise InvalidInput(f"{repeated} of {len(features)} keys have features already")

    def append(self, features: Features) -> None:
        """Add rows without an owner."""
        n, first = len(features), self._rows
        self._reserve(first + n, features.vectors.shape[1])
        assert self._vectors is not None
        self._vectors[first : first + n] = features.vectors
        self._keys[first : first + n] = features.keys
        self._truncated[first : first + n] = features.truncated
        for place, key in enumerate(features.keys.tolist()):
            self.key_to_row[key] = first + place
        self._rows += n

    def own(self, row: int, header: ExampleHeader) -> None:
        """Make an example the owner of a row."""
        self._seqs[row] = header.seq
        self._approved[row] = header.status == Status.APPROVED and header.has_outputs
        self._annotated[row] = header.has_outputs
        self._has_long_outputs[row] = header.has_outputs and header.short_outputs is None
        self._hashes[row] = hash64(header.id), hash64(header.content_hash), hash64(header.input_hash)

    def owner(self, row: int) -> int:
        """Return the seq of the version that owns a row; `DEAD` if none does."""
        return int(self._seqs[row])

    def remove(self, seqs: Sequence[int]) -> None:
        """Take their rows from the versions that are no longer live."""
        if seqs:
            gone = np.isin(self._seqs[: self._rows], np.array(seqs, np.int64))
            self._seqs[: self._rows][gone] = DEAD
            self._approved[: self._rows][gone] = False
            self._annotated[: self._rows][gone] = False

    def remove_all(self) -> None:
        """Take their rows from all owners."""
        self._seqs[: self._rows] = DEAD
        self._approved[: self._rows] = False
        self._annotated[: self._rows] = False

    def freeze(self) -> FrozenRows:
        """Copy the facts; O(rows)."""
        n = self._rows
        seqs = self._seqs[:n].copy()
        live = seqs != DEAD
        ids, contents, inputs = (self._hashes[:n, column].copy() for column in range(3))
        frozen = FrozenRows(
            keys=self._keys[:n],
            seqs=seqs,
            live=live,
            approved=self._approved[:n].copy(),
            annotated=self._annotated[:n].copy(),
            truncated=self._truncated[:n],
            hashes=Hashes(ids, contents, inputs),
            long_outputs=int(np.count_nonzero(self._has_long_outputs[:n] & live)),
            vectors=None if self._vectors is None else self._vectors[:n],
        )
        for array in (
            frozen.keys,
            seqs,
            live,
            frozen.approved,
            frozen.annotated,
            frozen.truncated,
            frozen.vectors,
        ):
            if array is not None:
                array.flags.writeable = False
        return frozen

    def _reserve(self, rows: int, dimension: int) -> None:
        if self._vectors is None:
            self._vectors = np.empty((max(rows, 64), dimension), np.float32)
        have = len(self._keys)
        if rows > have:
            room = max(rows, have + have // 2, 64)
            self._keys = _grown(self._keys, room, 0)
            self._seqs = _grown(self._seqs, room, DEAD)
            self._approved = _grown(self._approved, room, False)
            self._annotated = _grown(self._annotated, room, False)
            self._truncated = _grown(self._truncated, room, False)
            self._has_long_outputs = _grown(self._has_long_outputs, room, False)
            self._hashes = _grown(self._hashes, room, 0)
        if rows > len(self._vectors):
            self._vectors = _grown(self._vectors, max(rows, len(self._vectors) * 3 // 2), 0.0)


def _grown(array: NDArray[T], rows: int, fill: object) -> NDArray[T]:
    larger = np.empty((rows, *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    larger[len(array) :] = fill
    return larger
