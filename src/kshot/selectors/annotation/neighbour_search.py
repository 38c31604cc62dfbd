"""Exact nearest neighbours of every row, and of rows that come later."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kshot.arrays import Float32s, Floats, Int64s, require_shape
from kshot.errors import InvalidInput, InvalidParameter, InvalidShape
from kshot.selectors.annotation.base import Report, silent
from kshot.selectors.annotation.directions import directions
from kshot.selectors.annotation.neighbour_graph import Int32s, NeighbourGraph
from kshot.selectors.annotation.neighbour_keys import SCALE, STEPS, keys_of, ranked
from kshot.selectors.annotation.neighbour_tiles import nearest_rows

_BLOCK_BYTES = 1 << 25


def knn_graph(
    vectors: ArrayLike,
    n_neighbors: int,
    *,
    center: bool = True,
    mean: ArrayLike | None = None,
    report: Report = silent,
) -> NeighbourGraph:
    """Find the nearest other rows of every row, by cosine, exactly.

    Parameters
    ----------
    vectors : float array, shape (n, d)
        Unit rows.
    n_neighbors : int
        At least 1; n - 1 if there are no more other rows.
    center : bool
        Subtract the mean of all rows first: cosines then tell rows apart that share a direction.
    mean : float array, shape (d,), optional
        Subtracted instead, if ``center``.
    report : callable
        Told of rows done after every block.

    Returns
    -------
    NeighbourGraph
        Nearest first; equal similarities in row order.

    Raises
    ------
    InvalidShape
        ``vectors`` is no matrix, is not finite, or has a row of length zero.
    InvalidParameter
        ``n_neighbors`` below 1.

    Notes
    -----
    O(n^2 d) time, every pair being compared once; O(n (d + k)) memory and a tile of products of up to 128 MB.
    Similarities are summed in float64 and rounded to 24 binary places, so that equal rows tie exactly
    whatever the order in which BLAS adds, and a pair has the same similarity wherever it is computed. A row
    at the mean has similarity 0 to every other.

    Examples
    --------
    >>> knn_graph([[1, 0], [0.6, 0.8], [0.8, 0.6], [1, 0]], 2, center=False).indices
    array([[3, 2],
           [2, 0],
           [1, 0],
           [0, 2]], dtype=int32)
    """
    _require_neighbours(n_neighbors)
    units, subtracted = directions(vectors, center=center, mean=mean)
    n = len(units)
    k = min(n_neighbors, max(n - 1, 0))
    units *= SCALE
    indices, similarities = nearest_rows(units, k, report)
    return NeighbourGraph(indices, similarities, center, mean=subtracted)


def graph_of(
    vectors: ArrayLike, graph: NeighbourGraph | None, n_neighbors: int, *, center: bool, report: Report
) -> NeighbourGraph:
    """Return the graph over these vectors, built if there is none."""
    if graph is None:
        return knn_graph(vectors, n_neighbors, center=center, report=report)
    rows = len(np.asarray(vectors))
    if len(graph) != rows:
        raise InvalidShape(f"the graph has {len(graph)} rows, wanted {rows}")
    return graph


def extend_graph(
    graph: NeighbourGraph,
    vectors: ArrayLike,
    *,
    n_neighbors: int | None = None,
    report: Report = silent,
) -> NeighbourGraph:
    """Insert rows: look for the neighbours of each new one, and for old rows that it is a neighbour of.

    The result equals a graph built anew with the mean that the graph was built with.

    Parameters
    ----------
    graph : NeighbourGraph
        Over the first rows. Not changed.
    vectors : float array, shape (n, d)
        Old rows, then new ones.
    n_neighbors : int, optional
        At most as many as the graph has, which is the default; more only where the graph holds every pair.
    report : callable
        Told of rows done after every block.

    Raises
    ------
    InvalidShape
        ``vectors`` is no matrix, is not finite, has a row of length zero, or fewer rows than the graph.
    InvalidParameter
        More neighbours wanted than are known.
    InvalidInput
        The graph is centred and does not say with which mean.

    Notes
    -----
    O(n m d) for m new rows. ``recall`` stays what it was, though the edges added are exact.
    """
    if graph.center and graph.mean is None:
        raise InvalidInput("the graph is centred and does not say with which mean; build it anew")
    units, _ = directions(vectors, center=graph.center, mean=graph.mean)
    units *= SCALE
    n, old = len(units), len(graph)
    if n < old:
        require_shape("vectors", units, (old, None))
    wanted = graph.n_neighbors if n_neighbors is None else n_neighbors
    if n_neighbors is not None:
        _require_neighbours(n_neighbors)
    if wanted > graph.n_neighbors and graph.n_neighbors < old - 1:
        raise InvalidParameter(f"n_neighbors is {wanted}, allowed <= {graph.n_neighbors}, the graph's own")
    k = min(wanted, max(n - 1, 0))
    indices, similarities = np.empty((n, k), np.int32), np.empty((n, k), np.float32)
    for rows in _blocks(old, graph.n_neighbors + n - old):
        known = keys_of(graph.similarities[rows].astype(np.float64) * STEPS, graph.indices[rows])
        keys = keys_of(units[rows] @ units[old:].T, np.arange(old, n))
        indices[rows], similarities[rows] = ranked(np.concatenate([known, keys], axis=1), k)
        report(rows.stop, n)
    for rows in _blocks(n - old, n):
        new = slice(old + rows.start, old + rows.stop)
        keys = keys_of(units[new] @ units.T, np.arange(n))
        keys[np.arange(len(keys)), np.arange(new.start, new.stop)] = np.inf
        indices[new], similarities[new] = ranked(keys, k)
        report(new.stop, n)
    return NeighbourGraph(indices, similarities, graph.center, graph.recall, graph.mean)


def ranked_neighbours(
    found: NDArray[np.integer], cosines: Floats, rows: Int64s, k: int
) -> tuple[Int32s, Float32s]:
    """Rank what another search found by the rule of `knn_graph`.

    Parameters
    ----------
    found : int array, shape (m, c)
        Row numbers, distinct within a line; negative where nothing was found.
    cosines : float array, shape (m, c)
        Their similarities.
    rows : int64 array, shape (m,)
        The rows whose neighbours they are; a row is no neighbour of itself.
    k : int
        At most as many as were found for every row.

    Returns
    -------
    indices : int32 array, shape (m, k)
    similarities : float32 array, shape (m, k)
        Rounded to 24 binary places.
    """
    keys = keys_of(np.clip(cosines.astype(np.float64), -1.0, 1.0) * STEPS, found)
    keys[(found == rows[:, None]) | (found < 0)] = np.inf
    return ranked(keys, k)


def _require_neighbours(n_neighbors: int) -> None:
    if n_neighbors < 1:
        raise InvalidParameter(f"n_neighbors is {n_neighbors}, allowed >= 1")


def _blocks(rows: int, columns: int) -> Iterator[slice]:
    """Cut rows so that one number for each column fits into a block."""
    step = max(1, _BLOCK_BYTES // (8 * max(columns, 1)))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))
