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
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from kshot.arrays import Bools, Float32s, Int64s, require_finite, require_shape
from kshot.errors import InvalidShape, SegmentCorrupt

FORMAT = 1
_TEMPORARY = "tmp-"
_BLOCK_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class Features:
    """Encoder output for a batch of n examples.

    Attributes
    ----------
    keys : int64 array, shape (n,)
        ``feature_seq`` of each example in the store; distinct.
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
            Shapes or dtypes disagree, a value is not finite, a key repeats, or an example has no token.
        """
        self.require_shapes()
        require_finite("vectors", self.vectors)
        if self.tokens is not None:
            require_finite("tokens", self.tokens)
        if len(np.unique(self.keys)) != len(self.keys):
            raise InvalidShape("keys repeat")
        return self

    def require_shapes(self) -> None:
        """Check shapes and dtypes alone, which reads no vector; `InvalidShape` as `checked`."""
        n = len(self.keys)
        require_shape("keys", self.keys, (n,))
        require_shape("vectors", self.vectors, (n, None))
        require_shape("truncated", self.truncated, (n,))
        for part, dtype in _PART_TO_DTYPE.items():
            array = getattr(self, part)
            if array is not None and array.dtype != dtype:
                raise InvalidShape(f"{part} has dtype {array.dtype}, wanted {np.dtype(dtype)}")
        if self.tokens is None and self.offsets is None and self.token_ids is None:
            return
        if self.tokens is None or self.offsets is None or self.token_ids is None:
            raise InvalidShape("tokens, offsets and token_ids are given together or not at all")
        count = len(self.token_ids)
        require_shape("token_ids", self.token_ids, (count,))
        require_shape("tokens", self.tokens, (count, None))
        require_shape("offsets", self.offsets, (n + 1,))
        if self.offsets[0] != 0 or self.offsets[-1] != count or not (np.diff(self.offsets) >= 1).all():
            raise InvalidShape(f"offsets do not cut {count} tokens into {n} examples of at least one token")


_PART_TO_DTYPE = {
    "keys": np.int64,
    "vectors": np.float32,
    "truncated": np.bool_,
    "tokens": np.float16,
    "offsets": np.int64,
    "token_ids": np.int32,
}
_MAPPED = ("vectors", "tokens")


@dataclass(frozen=True, slots=True)
class Segment:
    """An opened segment, read-only. Vectors and tokens are memory maps, which cost a file descriptor each."""

    path: Path
    features: Features
    disk_bytes: int


def write_segment(folder: Path, features: Features) -> Segment:
    """Write ``features`` as a new segment below ``folder`` and open it.

    Every byte is on disk before the final name exists, and the name is before this returns.

    Raises
    ------
    InvalidShape
        The features do not pass `Features.checked`; nothing was written.
    """
    features.checked()
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{int(features.keys[0]) if len(features) else 0:012d}-{uuid.uuid4().hex[:8]}"
    temporary = folder / f"{_TEMPORARY}{name}"
    temporary.mkdir()
    files = {}
    for part in _PART_TO_DTYPE:
        array = getattr(features, part)
        if array is None:
            continue
        path = temporary / f"{part}.npy"
        with path.open("wb") as file:
            np.save(file, np.ascontiguousarray(array), allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        files[part] = {"bytes": path.stat().st_size, "xxh3": checksum(path)}
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
    """Open a segment; with ``verify``, O(bytes) time.

    Raises
    ------
    SegmentCorrupt
        The manifest is unreadable, of another format, or does not fit the files; a file is missing, of
        another size or (with ``verify``) of another checksum.
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
            if verify and checksum(file) != expected["xxh3"]:
                raise SegmentCorrupt(f"segment {path.name}: {part} fails its checksum")
            arrays[part] = np.load(file, mmap_mode="r" if part in _MAPPED else None, allow_pickle=False)
            disk_bytes += expected["bytes"]
        features = Features(**arrays)  # type: ignore[arg-type]  # the manifest names the parts
        features.require_shapes()
        if len(features) != manifest["rows"]:
            raise SegmentCorrupt(f"segment {path.name} has {len(features)} rows, recorded {manifest['rows']}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, InvalidShape) as error:
        raise SegmentCorrupt(f"segment {path.name} cannot be read: {error}") from error
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
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not path.is_dir():
            # Not ours: an operating system's or an editor's.
            continue
        if path.name.startswith(_TEMPORARY):
            shutil.rmtree(path, ignore_errors=True)
            continue
        try:
            segments.append(open_segment(path))
        except SegmentCorrupt:
            dropped.append(path.name)
            shutil.rmtree(path, ignore_errors=True)
    return segments, dropped


def merge(segments: Sequence[Segment], keep: Sequence[NDArray[np.bool_]]) -> Features:
    """Join segments into one batch, leaving out the rows whose ``keep`` is False.

    Tokens are kept if every segment has them. O(bytes) time and memory.

    Parameters
    ----------
    segments : sequence of Segment
        At least one.
    keep : sequence of bool arrays
        One mask over the rows of each segment.
    """
    with_tokens = all(segment.features.tokens is not None for segment in segments)
    kept = [
        _subset(segment.features, mask, with_tokens=with_tokens)
        for segment, mask in zip(segments, keep, strict=True)
    ]
    joined: dict[str, NDArray[np.generic]] = {}
    for part in fields(Features):
        arrays = [getattr(features, part.name) for features in kept]
        if arrays[0] is None:
            continue
        if part.name == "offsets":
            lengths = np.concatenate([np.diff(offsets) for offsets in arrays])
            joined[part.name] = _offsets(lengths)
        else:
            joined[part.name] = np.concatenate(arrays)
    return Features(**joined)  # type: ignore[arg-type]  # the same parts as before


def remove(segment: Segment) -> None:
    """Delete a segment's folder; maps that readers still hold stay valid until they drop them."""
    # Renamed first, so that a crash in the middle leaves rubbish and no segment that looks corrupt.
    doomed = segment.path.with_name(f"{_TEMPORARY}{segment.path.name}")
    segment.path.rename(doomed)
    shutil.rmtree(doomed)


def checksum(path: Path) -> str:
    """Return the XXH3 checksum of a file: against damage, not against forgery."""
    digest = xxhash.xxh3_64()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _subset(features: Features, mask: NDArray[np.bool_], *, with_tokens: bool) -> Features:
    keys, vectors, truncated = features.keys[mask], features.vectors[mask], features.truncated[mask]
    if not with_tokens or features.tokens is None or features.offsets is None or features.token_ids is None:
        return Features(keys, vectors, truncated)
    lengths = np.diff(features.offsets)
    token_mask = np.repeat(mask, lengths)
    return Features(
        keys,
        vectors,
        truncated,
        features.tokens[token_mask],
        _offsets(lengths[mask]),
        features.token_ids[token_mask],
    )


def _offsets(lengths: Int64s) -> Int64s:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
