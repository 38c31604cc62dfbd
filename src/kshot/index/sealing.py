"""The HNSW base of a large pool on disk: built beside the live index, saved, found again at start."""

import json
import os
from pathlib import Path
from typing import Any

import faiss as faiss_module
import numpy as np
import xxhash

from kshot.arrays import Float32s
from kshot.index.dense import EXACT_ROWS, HnswIndex
from kshot.index.snapshot import Snapshot

# The SWIG module's own type hints are incomplete.
faiss: Any = faiss_module
_GRAPH, _MANIFEST = "dense.faiss", "dense.json"


def wants_base(snapshot: Snapshot) -> bool:
    """Whether so many rows have to be scanned that a new base is worth its construction."""
    if snapshot.dense is None:
        return False
    covered = 0 if snapshot.dense.base is None else len(snapshot.dense.base)
    return len(snapshot) - covered > max(EXACT_ROWS, covered // 4)


def build_base(folder: Path, snapshot: Snapshot) -> HnswIndex:
    """Build an HNSW graph over all rows of a snapshot and save it. O(n log n); minutes for 10^5.. rows."""
    assert snapshot.dense is not None
    vectors = snapshot.dense.vectors
    base = HnswIndex.build(vectors)
    temporary = folder / f"tmp-{_GRAPH}"
    faiss.write_index(base.graph, str(temporary))
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    manifest = {"rows": len(base), "vectors": _digest(vectors), "bytes": temporary.stat().st_size}
    # The manifest names the vectors, so a graph beside an older manifest is recognised and built again.
    temporary.rename(folder / _GRAPH)
    (folder / _MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return base


def load_base(folder: Path, snapshot: Snapshot) -> HnswIndex | None:
    """Load the saved graph if it belongs to the first rows of the snapshot; None if there is none that does."""
    if snapshot.dense is None:
        return None
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        rows = int(manifest["rows"])
        if rows > len(snapshot) or (folder / _GRAPH).stat().st_size != manifest["bytes"]:
            return None
        if _digest(snapshot.dense.vectors[:rows]) != manifest["vectors"]:
            return None
        return HnswIndex(faiss.read_index(str(folder / _GRAPH)))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        return None


def _digest(vectors: Float32s) -> str:
    return xxhash.xxh3_64(np.ascontiguousarray(vectors).data).hexdigest()
