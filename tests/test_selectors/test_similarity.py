"""Dense retrieval."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.arrays import Candidates
from kshot.selectors.similarity import Similarity
from tests.strategies import candidate_sets


def test_three_rows_by_hand():
    # Cosines to (0.6, 0.8): 0.6, 1.0, 0.8.
    query, vectors = np.array([0.6, 0.8]), np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    candidates = Candidates(rows=np.arange(3), relevance=vectors @ query)
    picks = Similarity().select(candidates, 2, np.random.default_rng(0))
    assert picks.indices.tolist() == [1, 2]
    np.testing.assert_allclose(picks.scores, [1.0, 0.8])


@settings(max_examples=50)
@given(candidates=candidate_sets(), k=st.integers(1, 15))
def test_picks_are_a_stable_sort_by_cosine(candidates, k):
    picks = Similarity().select(candidates, k, np.random.default_rng(0))
    expected = np.argsort(-candidates.relevance, kind="stable")[:k]
    assert picks.indices.tolist() == expected.tolist()
    assert np.array_equal(picks.scores, candidates.relevance[expected])
    assert np.array_equal(picks.gains, picks.scores)
