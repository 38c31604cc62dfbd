"""Dense retrieval."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.selectors.similarity import Similarity
from tests.strategies import candidate_sets


@settings(max_examples=50)
@given(candidates=candidate_sets(), k=st.integers(1, 15))
def test_picks_are_a_stable_sort_by_cosine(candidates, k):
    picks = Similarity().select(candidates, k, np.random.default_rng(0))
    expected = np.argsort(-candidates.relevance, kind="stable")[:k]
    assert picks.indices.tolist() == expected.tolist()
    assert np.array_equal(picks.scores, candidates.relevance[expected])
    assert np.array_equal(picks.gains, picks.scores)
