"""The sealed index of a large pool on disk: built beside the live index, saved, found again at start."""

import json
from pathlib import Path
from typing import Any

import faiss as faiss_module
import numpy as np
import xxhash

from kshot.arrays import Float32s
from kshot.index.dense import EXACT_ROWS, HnswIndex, SealedIndex
from kshot.index.fast_scan import FastScanIndex
from kshot.index.segments import checksum
from kshot.index.snapshot import Snapshot

# The SWIG module's own type hints are incomplete.
faiss: Any = faiss_module
_GRAPH, _MANIFEST, _UNFINISHED = "dense.faiss", "dense.json", "tmp-dense.faiss"
SCANNED_ROWS = 300_000
"""Largest pool that is scanned in 4-bit codes, in about 3 ms on one core; beyond, a graph is walked."""


def wants_base(snapshot: Snapshot) -> bool:
    """Whether so many rows have to be scanned that a new base is worth its construction."""
    if snapshot.dense is None:
        return False
    covered = 0 if snapshot.dense.base is None else len(snapshot.dense.base)
    return len(snapshot) - covered > max(EXACT_ROWS, covered // 4)


def build_base(folder: Path, snapshot: Snapshot) -> SealedIndex:
    """Build an index over all rows of a snapshot that holds vectors, and save it.

    A fast scan up to `SCANNED_ROWS`, in seconds; an HNSW graph beyond, which takes minutes.
    """
    assert snapshot.dense is not None
    vectors = snapshot.dense.vectors
    base: HnswIndex | FastScanIndex
    if len(vectors) <= SCANNED_ROWS and FastScanIndex.fits(vectors.shape[1]):
        base = FastScanIndex.build(vectors)
    else:
        base = HnswIndex.build(vectors)
    temporary = folder / _UNFINISHED
    faiss.write_index(base.index, str(temporary))
    manifest = {"rows": len(base), "vectors": _digest(vectors), "graph": checksum(temporary)}
    # The manifest names the graph, so that one beside an older manifest is recognised and built again.
    temporary.rename(folder / _GRAPH)
    (folder / _MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return base


def load_base(folder: Path, snapshot: Snapshot) -> SealedIndex | None:
    """Load the saved graph if it belongs to the first rows of the snapshot.

    For the start, while no other is built. Returns None if it does not, or cannot be read; it is deleted
    then, since it holds copies of vectors that may have been erased. A snapshot without vectors owns none.
    """
    (folder / _UNFINISHED).unlink(missing_ok=True)
    if snapshot.dense is not None:
        try:
            manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
            rows = int(manifest["rows"])
            # faiss trusts what it reads: a damaged graph would crash the process.
            if (
                rows <= len(snapshot)
                and _digest(snapshot.dense.vectors[:rows]) == manifest["vectors"]
                and checksum(folder / _GRAPH) == manifest["graph"]
            ):
                index = faiss.read_index(str(folder / _GRAPH))
                return FastScanIndex(index) if isinstance(index, faiss.IndexPQFastScan) else HnswIndex(index)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError):
            pass
    for name in (_GRAPH, _MANIFEST):
        (folder / name).unlink(missing_ok=True)
    return None


def _digest(vectors: Float32s) -> str:
    return xxhash.xxh3_64(np.ascontiguousarray(vectors).data).hexdigest()
