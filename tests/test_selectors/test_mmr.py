"""Maximal marginal relevance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.arrays import unit_rows
from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors import mmr
from kshot.selectors.mmr import Mmr
from tests import oracles
from tests.strategies import random_candidates


def test_three_rows_by_hand():
    # Row 1 repeats row 0; row 2 is orthogonal. After row 0: 0.5 * 0.8 - 0.5 * 1 against 0.5 * 0.5 - 0.
    picks = mmr([0.9, 0.8, 0.5], [[1, 0], [1, 0], [0, 1]], k=3, diversity=0.5)
    assert picks.indices.tolist() == [0, 2, 1]
    np.testing.assert_allclose(picks.gains, [0.45, 0.25, -0.1])
    assert picks.scores.tolist() == [0.9, 0.5, 0.8]


def test_no_diversity_is_plain_similarity():
    candidates = random_candidates(seed=1, n=40)
    picks = mmr(candidates.relevance, candidates.vectors, 12, diversity=0)
    assert picks.indices.tolist() == oracles.top_k(candidates.relevance, 12)


def test_full_diversity_is_farthest_first_from_the_best_match():
    candidates = random_candidates(seed=2, n=40)
    chosen = [int(candidates.relevance.argmax())]
    while len(chosen) < 12:
        likeness = (candidates.vectors @ candidates.vectors[chosen].T).max(axis=1)
        likeness[chosen] = np.inf
        chosen.append(int(likeness.argmin()))
    assert mmr(candidates.relevance, candidates.vectors, 12, diversity=1).indices.tolist() == chosen


@pytest.mark.parametrize("diversity", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_thirty_rows_equal_brute_force(diversity, seed):
    candidates = random_candidates(seed=seed, n=30)
    picks = mmr(candidates.relevance, candidates.vectors, 15, diversity)
    assert picks.indices.tolist() == oracles.mmr(candidates.relevance, candidates.vectors, 15, diversity)


@settings(max_examples=50)
@given(
    relevance=st.lists(st.integers(-4, 4).map(lambda i: i / 4), min_size=1, max_size=7),
    data=st.data(),
    k=st.integers(1, 8),
    diversity=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
)
def test_rows_along_the_axes_tie_exactly_as_in_brute_force(relevance, data, k, diversity):
    axes = data.draw(st.lists(st.integers(0, 3), min_size=len(relevance), max_size=len(relevance)))
    vectors = np.eye(4)[axes]
    picks = mmr(relevance, vectors, k, diversity)
    assert picks.indices.tolist() == oracles.mmr(relevance, vectors, k, diversity)


def test_equal_rows_at_any_place_tie_to_the_first():
    # BLAS rounds products of equal rows differently near the end of a matrix; 131 rows make that visible.
    rng = np.random.default_rng(3)
    rows = unit_rows(np.vstack([rng.standard_normal(384), np.tile(rng.standard_normal(384), (130, 1))]))
    relevance = np.r_[1.0, np.full(130, 0.5)]
    assert mmr(relevance, rows, 6, diversity=0.3).indices.tolist() == [0, 1, 2, 3, 4, 5]


def test_the_method_passes_its_parameter_on():
    candidates = random_candidates(seed=5, n=50)
    for diversity in (0.0, 0.6):
        picks = Mmr(diversity=diversity).select(candidates, 9, np.random.default_rng(0))
        direct = mmr(candidates.relevance, candidates.vectors, 9, diversity)
        assert picks.indices.tolist() == direct.indices.tolist()
    assert Mmr().diversity == 0.1


@pytest.mark.parametrize("diversity", [-0.1, 1.1, float("nan")])
def test_diversity_outside_zero_to_one_is_refused(diversity):
    with pytest.raises(InvalidParameter, match="diversity is"):
        mmr([1.0], [[1.0]], 1, diversity)


def test_rows_must_be_as_many_as_relevances():
    with pytest.raises(InvalidShape, match="vectors has shape"):
        mmr([1.0, 2.0], [[1.0]], 1, 0.5)
