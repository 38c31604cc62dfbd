"""Inputs for property tests: candidates full of ties, and candidates without any."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kshot.arrays import Candidates, Moments, Signal, unit_rows

SIGNALS = tuple(Signal)
LABEL_NAMES = ("billing", "delivery", "login", "returns", "set up")


def grid(shape: Any, low: int, high: int, step: float = 1.0) -> st.SearchStrategy[Any]:
    """Arrays of few distinct values whose sums are exact in binary, so that ties are real ties."""
    return arrays(np.int64, shape, elements=st.integers(low, high)).map(lambda a: a * step)


@st.composite
def candidate_sets(draw, min_size=1, max_size=12, max_tokens=5):
    """Candidates with every feature, on a coarse grid: equal rows, equal scores and zeros are common."""
    n = draw(st.integers(min_size, max_size))
    n_tokens = draw(st.integers(1, max_tokens))
    vectors = unit_rows(draw(grid((n, 3), -2, 2)) + np.array([5.0, 0, 0]))
    moments = {signal: Moments(0.25, draw(st.sampled_from([0.0, 0.5]))) for signal in SIGNALS}
    return Candidates(
        rows=np.cumsum(draw(grid(n, 1, 3)).astype(np.int64)),
        relevance=draw(grid(n, -8, 8, 1 / 8)),
        query_vector=unit_rows([[1, 0, 0]])[0],
        vectors=vectors,
        partial_scores=draw(grid((n, n_tokens), -4, 16, 1 / 64)).astype(
            draw(st.sampled_from([np.float32, np.float64]))
        ),
        bm25=draw(grid(n, 0, 4, 0.5)),
        structure_scores=draw(grid((n, draw(st.integers(0, 4))), 0, 2, 1 / 4)).astype(np.float64),
        labels=draw(grid(n, -1, 3)).astype(np.int64),
        label_names=LABEL_NAMES,
        difficulty=draw(grid(n, 0, 4)),
        lengths=draw(grid(n, 0, 40)).astype(np.int64),
        moments=moments,
    )


def random_candidates(seed, n, d=8, n_tokens=6, n_labels=3):
    """Return candidates with every feature and, with probability one, no ties."""
    rng = np.random.default_rng(seed)
    vectors = unit_rows(rng.standard_normal((n, d)))
    query = unit_rows(rng.standard_normal((1, d)))[0]
    return Candidates(
        rows=np.sort(rng.choice(10 * n, size=n, replace=False)),
        relevance=(vectors @ query).astype(np.float64),
        query_vector=query,
        vectors=vectors,
        partial_scores=rng.random((n, n_tokens)) / n_tokens,
        bm25=rng.gamma(2.0, size=n),
        labels=rng.integers(0, n_labels, size=n),
        label_names=LABEL_NAMES,
        lengths=rng.integers(5, 60, size=n),
        moments={signal: Moments(rng.random(), 0.1 + rng.random()) for signal in SIGNALS},
        difficulty=rng.random(n),
        structure_scores=rng.random((n, 3)) * (rng.random((n, 3)) < 0.5),
    )


def rearranged(candidates, order):
    """Return the candidates that ``order`` lists, as they would come under other row numbers."""

    def take(part):
        return None if part is None else part[order]

    return Candidates(
        rows=np.arange(len(order)),
        relevance=candidates.relevance[order],
        query_vector=candidates.query_vector,
        vectors=take(candidates.vectors),
        partial_scores=take(candidates.partial_scores),
        bm25=take(candidates.bm25),
        structure_scores=take(candidates.structure_scores),
        labels=take(candidates.labels),
        label_names=candidates.label_names,
        difficulty=take(candidates.difficulty),
        lengths=take(candidates.lengths),
        moments=candidates.moments,
    )
