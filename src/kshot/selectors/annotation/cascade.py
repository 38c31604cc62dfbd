"""Influence spreading along neighbours: who activates whom, and in which round."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from kshot.arrays import Float64s, Int64s
from kshot.errors import InvalidParameter
from kshot.selectors.annotation.base import labelled_mask
from kshot.selectors.annotation.neighbour_graph import NeighbourGraph


def activation_probabilities(graph: NeighbourGraph) -> Float64s:
    """Return how likely a row, once active, activates each of its neighbours.

    In proportion to the similarities, so that a row activates one other on average. Negative similarities
    count as 0; if none is positive, all neighbours are as likely.

    Returns
    -------
    float64 array, shape (n, k)
        Aligned with ``graph.indices``; every row adds up to 1.
    """
    weights: Float64s = np.maximum(graph.similarities.astype(np.float64), 0.0)
    weights[~weights.any(axis=1)] = 1.0
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


@dataclass(frozen=True, slots=True)
class CascadeLayers:
    """The rows that a cascade reaches, in the order in which it does.

    Attributes
    ----------
    rows : int64 array, shape (m,)
        Without the rows that it starts from; within a layer in row order.
    layers : int64 array, shape (m,)
        The round in which each row was activated, from 1; never falling.
    """

    rows: Int64s
    layers: Int64s

    def __len__(self) -> int:
        return len(self.rows)


def ideal_layers(
    graph: NeighbourGraph, seeds: ArrayLike, seed: int = 0, max_rows: int | None = None
) -> CascadeLayers:
    """Let influence spread once from annotated rows, for a model to annotate the rest layer by layer.

    The first layer holds rows that an annotated row activated, the second those that one of the first layer
    did, and so on: each is to be annotated with the help of those before it, and keeps its layer, so that
    one can tell later how far a label is from a person's.

    Parameters
    ----------
    graph : NeighbourGraph
    seeds : bool array of shape (n,), or row numbers
        Annotated rows.
    seed : int
        For the one cascade.
    max_rows : int, optional
        Rows wanted at most, at least 1; the last layer is cut.

    Raises
    ------
    InvalidShape
        ``seeds`` are out of range.
    InvalidParameter
        ``max_rows`` below 1.

    Notes
    -----
    O(k) per row reached. The cascade may end early; another seed gives another. No layer is empty.

    References
    ----------
    .. [1] Zhang et al. (2024), "IDEAL: influence-driven selective annotations empower in-context learners in
       large language models", ICLR, section 3.3.
    """
    if max_rows is not None and max_rows < 1:
        raise InvalidParameter(f"max_rows is {max_rows}, allowed >= 1")
    active = labelled_mask(np.asarray(seeds), len(graph))
    probabilities = activation_probabilities(graph)
    rng = np.random.default_rng(seed)
    newest = np.flatnonzero(active)
    reached: list[Int64s] = []
    count = 0
    while len(newest) and (max_rows is None or count < max_rows):
        tried = rng.random((len(newest), graph.n_neighbors)) < probabilities[newest]
        hit = np.unique(graph.indices[newest][tried])
        newest = hit[~active[hit]].astype(np.int64)
        active[newest] = True
        reached.append(newest)
        count += len(newest)
    rows = np.concatenate([np.empty(0, np.int64), *reached])
    layers = np.repeat(np.arange(1, len(reached) + 1), [len(layer) for layer in reached])
    return CascadeLayers(rows[:max_rows], layers[:max_rows])
