"""Neighbour graphs on disk, so that a plan that is cut short need not search again."""

import json
import logging
import os
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from kshot.arrays import Float32s
from kshot.index.neighbours import EXACT_ROWS, build_graph
from kshot.selectors.annotation.base import GraphSpec, Report, silent
from kshot.selectors.annotation.neighbour_graph import NeighbourGraph

_LOG = logging.getLogger(__name__)
_FORMAT = 1
_PREFIX, _SUFFIX, _TEMPORARY = "neighbours-", ".graph", "tmp-neighbours-"
_UNFINISHED_S = 3_600
KEPT = 3
"""Graphs that stay in a folder, those used last."""


def load_or_build_graph(
    folder: Path | None,
    vectors: Float32s,
    spec: GraphSpec,
    key: str,
    report: Report = silent,
    *,
    exact_rows: int = EXACT_ROWS,
) -> NeighbourGraph:
    """Return the neighbour graph of some rows: the saved one if there is one, else built and saved.

    Parameters
    ----------
    folder : Path or None
        Where graphs are kept; made, but not the folder above it, which goes with its pool. None: nothing is
        saved.
    vectors : float32 array, shape (n, d)
        Unit rows, not centred.
    spec : GraphSpec
    key : str
        Tells these rows from all others of that number, such as a pool's id and version and the rows taken.
    report, exact_rows
        As in `build_graph`.

    Notes
    -----
    A file appears under its name once every byte of it is written. One that is damaged, or of other rows, is
    built again. A folder that cannot be written to costs the next plan a search, and a line in the log.
    """
    if folder is None:
        return build_graph(vectors, spec, report, exact_rows=exact_rows)
    path = folder / _name(len(vectors), spec, key)
    graph = _load(path, len(vectors), spec, key)
    if graph is not None:
        report(len(vectors), len(vectors))
        return graph
    graph = build_graph(vectors, spec, report, exact_rows=exact_rows)
    try:
        _save(path, graph, spec, key)
        _drop_oldest(folder)
    except OSError as error:
        _LOG.warning("a neighbour graph was not saved: %s", error)
    return graph


def _name(rows: int, spec: GraphSpec, key: str) -> str:
    parts = json.dumps([_FORMAT, rows, spec.n_neighbors, spec.center, key])
    return f"{_PREFIX}{xxhash.xxh3_64(parts.encode()).hexdigest()}{_SUFFIX}"


def _save(path: Path, graph: NeighbourGraph, spec: GraphSpec, key: str) -> None:
    """Write one line of JSON about the arrays, then the arrays."""
    mean = np.empty(0) if graph.mean is None else graph.mean
    arrays = [np.ascontiguousarray(part) for part in (mean, graph.indices, graph.similarities)]
    digest = xxhash.xxh3_64()
    for array in arrays:
        digest.update(array.data)
    header = {
        "format": _FORMAT,
        "key": key,
        "n_neighbors": spec.n_neighbors,
        "center": spec.center,
        "shape": graph.indices.shape,
        "dimension": len(mean),
        "recall": graph.recall,
        "xxh3": digest.hexdigest(),
    }
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f"{_TEMPORARY}{uuid.uuid4().hex[:8]}")
    try:
        with temporary.open("wb") as file:
            file.write(json.dumps(header).encode() + b"\n")
            for array in arrays:
                file.write(array.data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _load(path: Path, rows: int, spec: GraphSpec, key: str) -> NeighbourGraph | None:
    """Read a graph; None if there is none, or not that one, or it is damaged."""
    try:
        with path.open("rb") as file:
            header: dict[str, Any] = json.loads(file.readline())
            asked = {"format": _FORMAT, "key": key, "n_neighbors": spec.n_neighbors, "center": spec.center}
            if any(header[name] != value for name, value in asked.items()) or header["shape"][0] != rows:
                return None
            content = file.read()
        if xxhash.xxh3_64(content).hexdigest() != header["xxh3"]:
            return None
        shape, dimension = tuple(header["shape"]), int(header["dimension"])
        count = shape[0] * shape[1]
        mean = np.frombuffer(content, np.float64, dimension)
        indices = np.frombuffer(content, np.int32, count, offset=mean.nbytes).reshape(shape)
        similarities = np.frombuffer(content, np.float32, count, offset=mean.nbytes + indices.nbytes)
        os.utime(path)
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None
    return NeighbourGraph(
        indices,
        similarities.reshape(shape),
        spec.center,
        float(header["recall"]),
        mean if spec.center else None,
    )


def _drop_oldest(folder: Path) -> None:
    """Keep the graphs used last; what a crash left unfinished goes too."""
    for rubbish in folder.glob(f"{_TEMPORARY}*"):
        # A younger one may be another plan's, which is about to finish it.
        if time.time() - rubbish.stat().st_mtime > _UNFINISHED_S:
            rubbish.unlink(missing_ok=True)
    graphs = sorted(folder.glob(f"{_PREFIX}*{_SUFFIX}"), key=lambda path: path.stat().st_mtime_ns)
    for old in graphs[:-KEPT]:
        old.unlink(missing_ok=True)
