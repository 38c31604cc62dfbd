"""Coverage of the dimensions of a sentence vector."""

import numpy as np
import pytest

from kshot.arrays import Candidates, unit_rows
from kshot.errors import InvalidShape
from kshot.selectors import cosine_partial_scores
from kshot.selectors.set_cosine import SetCosine
from tests import oracles
from tests.strategies import random_candidates

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("n", [1, 64, 65, 300])
def test_the_dimensions_of_each_row_add_up_to_its_cosine(n):
    candidates = random_candidates(seed=n, n=n, d=48)
    partial = cosine_partial_scores(candidates.query_vector, candidates.vectors)
    assert partial.shape == (n, 48)
    assert partial.flags.f_contiguous
    assert partial.dtype == np.float32
    np.testing.assert_array_equal(partial, candidates.vectors * candidates.query_vector)
    np.testing.assert_allclose(partial.sum(axis=1), candidates.relevance, atol=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_the_method_covers_the_dimensions_as_the_loop_does(seed):
    candidates = random_candidates(seed=seed, n=60, d=5)
    picks = SetCosine().select(candidates, 9, RNG)
    expected, resets = oracles.coverage_greedy(candidates.vectors * candidates.query_vector, 9)
    assert picks.indices.tolist() == expected
    assert picks.diagnostics["resets"] == resets
    np.testing.assert_allclose(picks.scores, candidates.relevance[expected], atol=1e-6)


def test_the_second_pick_matches_the_dimension_that_the_first_lacks():
    query = unit_rows([[0.6, 0.6, 0.5]])[0]
    vectors = unit_rows([[0.8, 0.6, 0.0], [0.8, 0.4, 0.0], [0.0, 0.0, 1.0]])
    relevance = (vectors @ query).astype(np.float64)
    assert relevance[1] > relevance[2]
    candidates = Candidates(rows=np.arange(3), relevance=relevance, query_vector=query, vectors=vectors)
    assert SetCosine().select(candidates, 2, RNG).indices.tolist() == [0, 2]


def test_the_query_must_have_the_dimensions_of_the_rows():
    with pytest.raises(InvalidShape, match=r"vectors has shape \(2, 2\), wanted \(any, 3\)"):
        cosine_partial_scores([1.0, 0.0, 0.0], np.eye(2))
