"""Coverage within a token budget: the method's best rows, weighed against their lengths."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kshot.arrays import Floats, Int64s, Picks
from kshot.selectors import coverage_knapsack

LEAST_CONTENDERS = 64
CONTENDERS_PER_PICK = 8


@dataclass(frozen=True, slots=True)
class Room:
    """What is left of ``max_tokens``, and how to find out how long rows are.

    Attributes
    ----------
    tokens : int
        At least 0.
    lengths : callable
        Takes row numbers of the snapshot and returns prompt tokens, at least 1 each.
    """

    tokens: int
    lengths: Callable[[Int64s], Int64s]


@dataclass(frozen=True, slots=True)
class Packed:
    """What fits.

    ``missing`` are the places that nothing left fits into; ``seen_all`` tells whether every candidate was
    weighed.
    """

    picks: Picks
    missing: int
    seen_all: bool


def packed(run: Callable[[int], Picks], covered: Floats, rows: Int64s, k: int, room: Room) -> Packed:
    """Choose up to ``k`` rows that cover the most within a budget.

    Parameters
    ----------
    run : callable
        The method: takes how many rows are wanted and returns picks among the candidates.
    covered : array, shape (n, L)
        The partial scores that the method covers with.
    rows : int64 array, shape (n,)
        Row numbers of the candidates.
    k : int
    room : Room

    Returns
    -------
    Packed
        First the picks of `coverage_knapsack` among the ``max(64, 8 k)`` rows that the method puts first,
        with its gains; then, in the method's order and with gains 0, what else fits, counted in the
        diagnostics as ``filled``.
    """
    most = min(len(rows), max(LEAST_CONTENDERS, CONTENDERS_PER_PICK * k))
    ranked = run(most)
    order = np.argsort(ranked.indices)
    # Ascending, so that ties go to the example ingested first.
    contenders = ranked.indices[order]
    lengths = room.lengths(rows[contenders])
    best = coverage_knapsack(covered[contenders], lengths, room.tokens, k=k)
    left = room.tokens - int(lengths[best.indices].sum())
    place_of = np.argsort(order)
    filling: list[int] = []
    for place in place_of.tolist():
        if len(best) + len(filling) == k:
            break
        if place not in best.indices and lengths[place] <= left:
            filling.append(place)
            left -= int(lengths[place])
    places = np.concatenate([best.indices, np.array(filling, np.int64)])
    picks = Picks(
        contenders[places],
        gains=np.concatenate([best.gains, np.zeros(len(filling))]),
        scores=ranked.scores[order][places],
        diagnostics={**best.diagnostics, "filled": len(filling)},
    )
    return Packed(picks, min(k, len(contenders)) - len(picks), len(contenders) == len(rows))
