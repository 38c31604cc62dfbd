"""How a policy's state is kept: one canonical block of bytes that proves to be whole."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kshot.errors import StateCorrupt

MAGIC = b"kshotpst"
"""The first eight bytes of every snapshot."""
_DIGEST = 32
_LENGTH = 4
_DTYPES = ("<i8", "<f8")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a block of bytes says.

    Attributes
    ----------
    kind : str
        Which sort of state it is, such as ``"sums"``.
    version : int
        Of that sort's layout, from 1. Readers keep those of before.
    header : mapping
        JSON values.
    arrays : sequence of int64 or float64 arrays
    """

    kind: str
    version: int
    header: Mapping[str, Any]
    arrays: Sequence[NDArray[Any]]


def to_bytes(snapshot: Snapshot) -> bytes:
    """Return the bytes of a snapshot: equal snapshots, equal bytes.

    Eight bytes of magic, the header's length in four, the header as canonical JSON, the arrays in
    little-endian order one after another, and BLAKE2b of all that.
    """
    arrays = [np.ascontiguousarray(array) for array in snapshot.arrays]
    header = {
        "kind": snapshot.kind,
        "version": snapshot.version,
        "header": snapshot.header,
        "arrays": [[_dtype(array), list(array.shape)] for array in arrays],
    }
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    parts = [MAGIC, len(text).to_bytes(_LENGTH, "little"), text]
    parts += [array.astype(_dtype(array), copy=False).tobytes() for array in arrays]
    body = b"".join(parts)
    return body + blake2b(body, digest_size=_DIGEST).digest()


def from_bytes(blob: bytes, kind: str, versions: Sequence[int]) -> Snapshot:
    """Return what `to_bytes` was given.

    Parameters
    ----------
    blob : bytes
    kind : str
        The sort that is wanted.
    versions : sequence of int
        Layouts that the caller can read.

    Raises
    ------
    StateCorrupt
        A byte differs from what was written, or it is a state of another sort or of a layout unknown here.
    """
    start = len(MAGIC) + _LENGTH
    body, digest = blob[:-_DIGEST], blob[-_DIGEST:]
    if len(blob) < start + _DIGEST or blob[: len(MAGIC)] != MAGIC:
        raise StateCorrupt(f"{len(blob)} bytes are no saved state of a policy")
    if blake2b(body, digest_size=_DIGEST).digest() != digest:
        raise StateCorrupt("a saved state of a policy fails its checksum")
    # Whole from here on: what follows is as it was written.
    end = start + int.from_bytes(body[len(MAGIC) : start], "little")
    header = json.loads(body[start:end])
    if header["kind"] != kind:
        raise StateCorrupt(f"the saved state is one of {header['kind']!r}, wanted {kind!r}")
    if header["version"] not in versions:
        known = ", ".join(map(str, versions))
        raise StateCorrupt(f"the saved state has layout {header['version']}, known {known}")
    arrays = []
    for dtype, shape in header["arrays"]:
        count = math.prod(shape)
        array = np.frombuffer(body, dtype, count, offset=end).reshape(shape)
        end += array.nbytes
        arrays.append(array.astype(array.dtype.newbyteorder("=")))
    return Snapshot(kind, header["version"], header["header"], arrays)


def _dtype(array: NDArray[Any]) -> str:
    dtype = array.dtype.newbyteorder("<").str
    if dtype not in _DTYPES:
        raise TypeError(f"an array of {array.dtype} cannot be saved, allowed int64 and float64")
    return dtype
