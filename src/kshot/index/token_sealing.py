"""The sealed token index of a large pool on disk: built beside the live pool, saved, found again at start."""

import json
import shutil
import uuid
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from kshot.arrays import Float32s, Int64s
from kshot.index.segments import checksum
from kshot.index.snapshot import Snapshot
from kshot.index.token_base import Reduction, TokenBase
from kshot.index.token_clusters import TRAINING_TOKENS, TokenClusters
from kshot.index.token_lists import TokenLists, write_lists
from kshot.index.tokens import TokenView, decode

FORMAT = 1
TAIL_ROWS = 2_048
"""Rows that are scored exactly for every query before they are sealed too."""
RETRAINED_GROWTH = 2
"""Times as many rows as at the last training, from which on the clusters are made anew."""
SAMPLED_TOKENS = 50_000
MOST_CLUSTERS = 16_384
CLUSTERS_PER_ROOT = 8
"""Clusters per square root of the number of tokens."""
_PREFIX, _TEMPORARY = "tokens-", "tmp-tokens-"
_MANIFEST = "manifest.json"
_LISTS, _CODES, _ARRAYS, _REDUCED = "lists.bin", "codes.npy", "arrays.npz", "reduced.tmp"
_CHUNK_TOKENS = 65_536


def wants_token_base(snapshot: Snapshot) -> bool:
    """Whether so many rows have to be scored exactly that sealing them is worth it."""
    if snapshot.tokens is None or snapshot.dense is None:
        return False
    covered = 0 if snapshot.tokens.base is None else len(snapshot.tokens.base)
    return len(snapshot) - covered > TAIL_ROWS


def build_token_base(folder: Path, snapshot: Snapshot) -> TokenBase:
    """Seal the tokens of all rows of a snapshot that has some, and save the result.

    Extends the present base by the rows behind it, unless the pool has grown much since that was trained.
    Training and sealing 100,000 short texts takes about 15 s of one core; it needs memory for some tokens
    per cluster, files hold the rest.
    """
    tokens, dense = snapshot.tokens, snapshot.dense
    assert tokens is not None
    assert dense is not None
    before = tokens.base
    if before is not None and len(snapshot) >= RETRAINED_GROWTH * before.trained_rows:
        before = None
    name = uuid.uuid4().hex[:8]
    temporary = folder / f"{_TEMPORARY}{name}"
    # Not with its parents: those of a pool that was just deleted must not come back.
    temporary.mkdir()
    try:
        _write(temporary, tokens, dense.vectors, before)
        final = temporary.rename(folder / f"{_PREFIX}{name}")
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _remove_all_but(folder, final)
    return _open(final)


def load_token_base(folder: Path, snapshot: Snapshot) -> TokenBase | None:
    """Load the saved base if it belongs to the first rows of the snapshot.

    For the start, while no other is built. Returns None if there is none; what does not belong, or cannot be
    read, is deleted, since it holds copies of what may have been erased.
    """
    found = None
    for path in sorted(folder.glob(f"{_PREFIX}*")):
        if found is None and _belongs(path, snapshot):
            found = path
    _remove_all_but(folder, found)
    return None if found is None else _open(found)


def _write(folder: Path, tokens: TokenView, vectors: Float32s, before: TokenBase | None) -> None:
    offsets = tokens.offsets
    first = 0 if before is None else len(before)
    reduction = _reduction(tokens, offsets) if before is None else before.reduction
    reduced = _reduce(folder, tokens, offsets, reduction, first, None if before is None else before.codes)
    if before is None:
        clusters = _clusters(reduced)
        trained_rows = len(tokens)
    else:
        clusters, trained_rows = before.clusters, before.trained_rows
    homes = np.empty(len(reduced), np.int64)
    for start in range(0, len(reduced), _CHUNK_TOKENS):
        piece = slice(start, start + _CHUNK_TOKENS)
        homes[piece] = clusters.nearest(decode(reduced[piece]))
    rows = np.repeat(np.arange(first, len(tokens)), np.diff(offsets[first:]))
    sizes = write_lists(
        folder / _LISTS, homes, reduced, rows, len(clusters), None if before is None else before.lists
    )
    (folder / _REDUCED).unlink()
    np.savez(
        folder / _ARRAYS,
        basis=reduction.basis,
        steps=reduction.steps,
        spread=reduction.spread,
        branches=clusters.branches,
        centroids=clusters.centroids,
        starts=clusters.starts,
        sizes=sizes,
        offsets=offsets,
    )
    manifest = {
        "format": FORMAT,
        "rows": len(tokens),
        "trained_rows": trained_rows,
        "vectors": _digest(vectors[: len(tokens)]),
        "files": {name: checksum(folder / name) for name in (_LISTS, _CODES, _ARRAYS)},
    }
    (folder / _MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def _reduction(tokens: TokenView, offsets: Int64s) -> Reduction:
    rows = np.random.default_rng(0).permutation(len(tokens))
    enough = int(np.searchsorted(np.cumsum(np.diff(offsets)[rows]), SAMPLED_TOKENS)) + 1
    return Reduction.of(*tokens.take(np.sort(rows[:enough])))


def _reduce(
    folder: Path,
    tokens: TokenView,
    offsets: Int64s,
    reduction: Reduction,
    first: int,
    codes_before: NDArray[np.int8] | None,
) -> NDArray[np.float16]:
    """Write the codes of all tokens, and map a file of those from a row on that are new, reduced."""
    done = int(offsets[first])
    codes = np.lib.format.open_memmap(
        folder / _CODES, mode="w+", dtype=np.int8, shape=(int(offsets[-1]), reduction.dimension)
    )
    if codes_before is not None:
        codes[:done] = codes_before
    with (folder / _REDUCED).open("wb") as file:
        place = done
        for chunk in tokens.chunks(first):
            reduced = reduction.reduce(chunk)
            codes[place : place + len(chunk)] = reduction.encode(reduced)
            file.write(reduced.astype(np.float16).data)
            place += len(chunk)
    codes.flush()
    return np.memmap(folder / _REDUCED, np.float16, "r", shape=(int(offsets[-1]) - done, reduction.dimension))


def _clusters(reduced: NDArray[np.float16]) -> TokenClusters:
    count = min(MOST_CLUSTERS, int(CLUSTERS_PER_ROOT * np.sqrt(len(reduced))))
    rng = np.random.default_rng(0)
    sample = np.sort(rng.permutation(len(reduced))[: TRAINING_TOKENS * count])
    return TokenClusters.train(decode(reduced.take(sample, axis=0)), count)


def _open(folder: Path) -> TokenBase:
    manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    with np.load(folder / _ARRAYS) as arrays:
        reduction = Reduction(arrays["basis"], arrays["steps"], float(arrays["spread"]))
        return TokenBase(
            reduction=reduction,
            clusters=TokenClusters(arrays["branches"], arrays["centroids"], arrays["starts"]),
            lists=TokenLists(folder / _LISTS, arrays["sizes"], reduction.dimension),
            codes=np.asarray(np.load(folder / _CODES, mmap_mode="r")),
            offsets=arrays["offsets"],
            trained_rows=int(manifest["trained_rows"]),
        )


def _belongs(folder: Path, snapshot: Snapshot) -> bool:
    if snapshot.tokens is None or snapshot.dense is None:
        return False
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        rows = int(manifest["rows"])
        # Sentence vectors and token vectors of a row were made and written together.
        return (
            manifest["format"] == FORMAT
            and rows <= len(snapshot)
            and manifest["vectors"] == _digest(snapshot.dense.vectors[:rows])
            and manifest["files"] == {name: checksum(folder / name) for name in (_LISTS, _CODES, _ARRAYS)}
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _remove_all_but(folder: Path, kept: Path | None) -> None:
    """Delete other bases and unfinished ones; maps that readers still hold stay valid."""
    for pattern in (f"{_PREFIX}*", f"{_TEMPORARY}*"):
        for path in folder.glob(pattern):
            if path != kept:
                shutil.rmtree(path, ignore_errors=True)


def _digest(vectors: Float32s) -> str:
    return xxhash.xxh3_64(np.ascontiguousarray(vectors).data).hexdigest()
