"""Inputs for planners that walk along neighbours."""

import numpy as np
from hypothesis import strategies as st

from kshot.arrays import unit_rows
from kshot.selectors.annotation.neighbour_graph import NeighbourGraph
from tests.strategies import grid


@st.composite
def graphs(draw, max_rows=9):
    """Neighbours drawn at random, all as similar: any graph whatever."""
    n = draw(st.integers(2, max_rows))
    k = draw(st.integers(1, n - 1))
    others = [draw(st.permutations([j for j in range(n) if j != i]))[:k] for i in range(n)]
    return NeighbourGraph(np.array(others, np.int32), np.full((n, k), 0.5, np.float32), center=False)


@st.composite
def crowded_rows(draw, max_rows=9):
    """Rows on a coarse grid: equal rows, equal similarities and opposite rows are common."""
    n = draw(st.integers(1, max_rows))
    rows = draw(grid((n, 3), -2, 2)).astype(np.float64)
    rows[~rows.any(axis=1)] = (1, 0, 0)
    return rows


def random_rows(seed, n, d=8):
    """Unit rows and, with probability one, no two similarities that are equal."""
    return unit_rows(np.random.default_rng(seed).standard_normal((n, d)))


class Stopped(Exception):
    """A report's way to stop."""


class Reports:
    """Remembers what was reported; with ``stop_after``, stops at that report."""

    def __init__(self, stop_after=None):
        self.seen: list[tuple[int, int]] = []
        self._stop_after = stop_after

    def __call__(self, done, total):
        self.seen.append((done, total))
        if self._stop_after is not None and len(self.seen) >= self._stop_after:
            raise Stopped


def scaled(rows):
    """Rows of length 1, in float64."""
    return rows / np.linalg.norm(rows, axis=1)[:, None]
