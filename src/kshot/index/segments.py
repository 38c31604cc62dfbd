"""Segments: immutable, checksummed, memory-mapped feature files, one folder per written batch.

A segment holds what the encoder made of a batch of examples: sentence vectors and, where the embedder has
them, token vectors. It is derived data: the store can always make it again. A folder appears under its final
name only once every byte of it is on disk, so a crash leaves either a whole segment or rubbish with a
temporary name that the next start removes.
"""

import json
import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from kshot.arrays import Bools, Float32s, Int64s, require_finite, require_shape
from kshot.errors import SegmentCorrupt

FORMAT = 1
_TEMPORARY = "tmp-"
_BLOCK_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class Features:
    """Encoder output for a batch of n examples.

    Attributes
    ----------
    keys : int64 array, shape (n,)
        ``feature_seq`` of each example in the store.
    vectors : float32 array, shape (n, d)
        Unit rows.
    truncated : bool array, shape (n,)
        True where the text was longer than the encoder's window.
    tokens : float16 array, shape (t, d_t), or None
        Unit rows of all examples' tokens, one example after the other.
    offsets : int64 array, shape (n + 1,), or None
        Example i has the tokens ``offsets[i]:offsets[i + 1]``; every example has at least one.
    token_ids : int32 array, shape (t,), or None
        Word-piece ids.
    """

    keys: Int64s
    vectors: Float32s
    truncated: Bools
    tokens: NDArray[np.float16] | None = None
    offsets: Int64s | None = None
    token_ids: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def checked(self) -> "Features":
        """Return self after checking that the parts agree.

        Raises
        ------
        InvalidShape
            Lengths disagree, a value is not finite, or an example has no token.
        """
        n = len(self.keys)
        require_shape("vectors", self.vectors, (n, None))
        require_finite("vectors", self.vectors)
        require_shape("truncated", self.truncated, (n,))
        if self.tokens is not None and self.offsets is not None and self.token_ids is not None:
            require_shape("tokens", self.tokens, (None, None))
            require_finite("tokens", self.tokens)
            require_shape("offsets", self.offsets, (n + 1,))
            require_shape("token_ids", self.token_ids, (int(self.offsets[-1]),))
            require_shape("tokens", self.tokens, (int(self.offsets[-1]), None))
        return self


@dataclass(frozen=True, slots=True)
class Segment:
    """An opened segment; its arrays are read-only memory maps."""

    path: Path
    features: Features
    disk_bytes: int


def write_segment(folder: Path, features: Features) -> Segment:
    """Write ``features`` as a new segment below ``folder`` and open it.

    The data is on disk (fsync of every file and of both folders) before the final name exists.
    """
    features.checked()
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{int(features.keys[0]) if len(features) else 0:012d}-{uuid.uuid4().hex[:8]}"
    temporary = folder / f"{_TEMPORARY}{name}"
    temporary.mkdir()
    files = {}
    for part in ("keys", "vectors", "truncated", "tokens", "offsets", "token_ids"):
        array = getattr(features, part)
        if array is None:
            continue
        path = temporary / f"{part}.npy"
        with path.open("wb") as file:
            np.save(file, np.ascontiguousarray(array), allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        files[part] = {"bytes": path.stat().st_size, "xxh3": _checksum(path)}
    with (temporary / "manifest.json").open("w", encoding="utf-8") as file:
        json.dump({"format": FORMAT, "rows": len(features), "files": files}, file)
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(temporary)
    final = folder / name
    temporary.rename(final)
    _sync_folder(folder)
    return open_segment(final, verify=False)


def open_segment(path: Path, *, verify: bool = True) -> Segment:
    """Map a segment.

    Raises
    ------
    SegmentCorrupt
        The manifest is unreadable, of another format, or a file is missing, of another size or (with
        ``verify``) of another checksum.
    """
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise SegmentCorrupt(f"segment {path.name} has format {manifest['format']}, wanted {FORMAT}")
        arrays: dict[str, NDArray[np.generic]] = {}
        disk_bytes = 0
        for part, expected in manifest["files"].items():
            file = path / f"{part}.npy"
            if file.stat().st_size != expected["bytes"]:
                raise SegmentCorrupt(f"segment {path.name}: {part} has another size than recorded")
            if verify and _checksum(file) != expected["xxh3"]:
                raise SegmentCorrupt(f"segment {path.name}: {part} fails its checksum")
            arrays[part] = np.load(file, mmap_mode="r", allow_pickle=False)
            disk_bytes += expected["bytes"]
        features = Features(**arrays)  # type: ignore[arg-type]  # the manifest names the parts
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SegmentCorrupt(f"segment {path.name} cannot be read: {error}") from error
    if len(features) != manifest["rows"]:
        raise SegmentCorrupt(f"segment {path.name} has {len(features)} rows, recorded {manifest['rows']}")
    return Segment(path, features, disk_bytes)


def open_all(folder: Path) -> tuple[list[Segment], list[str]]:
    """Open every segment of a pool in name order; drop what is unfinished or corrupt.

    Returns
    -------
    segments, dropped
        ``dropped`` names the folders that were removed because they were corrupt; their examples have to be
        encoded again. Unfinished folders are removed silently: nothing was promised about them.
    """
    segments: list[Segment] = []
    dropped: list[str] = []
    if not folder.is_dir():
        return segments, dropped
    for path in sorted(folder.iterdir()):
        if path.name.startswith(_TEMPORARY):
            shutil.rmtree(path)
            continue
        try:
            segments.append(open_segment(path))
        except SegmentCorrupt:
            dropped.append(path.name)
            shutil.rmtree(path)
    return segments, dropped


def merge(segments: Sequence[Segment], keep: Sequence[NDArray[np.bool_]]) -> Features:
    """Join segments into one batch, leaving out the rows whose ``keep`` is False.

    O(bytes) time and memory.
    """
    parts = [_subset(segment.features, mask) for segment, mask in zip(segments, keep, strict=True)]
    first = parts[0]
    keys = np.concatenate([part.keys for part in parts])
    vectors = np.concatenate([part.vectors for part in parts])
    truncated = np.concatenate([part.truncated for part in parts])
    if first.tokens is None or first.offsets is None or first.token_ids is None:
        return Features(keys, vectors, truncated)
    lengths = np.concatenate([np.diff(part.offsets) for part in parts if part.offsets is not None])
    return Features(
        keys,
        vectors,
        truncated,
        np.concatenate([part.tokens for part in parts if part.tokens is not None]),
        np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)]),
        np.concatenate([part.token_ids for part in parts if part.token_ids is not None]),
    )


def remove(segment: Segment) -> None:
    """Delete a segment's folder; maps that readers still hold stay valid until they drop them."""
    shutil.rmtree(segment.path)


def _subset(features: Features, mask: NDArray[np.bool_]) -> Features:
    rows = np.flatnonzero(mask)
    keys, vectors, truncated = features.keys[rows], features.vectors[rows], features.truncated[rows]
    if features.tokens is None or features.offsets is None or features.token_ids is None:
        return Features(keys, vectors, truncated)
    token_mask = np.repeat(mask, np.diff(features.offsets))
    lengths = np.diff(features.offsets)[rows]
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
    return Features(
        keys, vectors, truncated, features.tokens[token_mask], offsets, features.token_ids[token_mask]
    )


def _checksum(path: Path) -> str:
    digest = xxhash.xxh3_64()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
