"""Random demonstrations."""

import numpy as np

from kshot.selectors.uniform import Uniform
from tests.strategies import random_candidates


def test_another_seed_gives_other_picks():
    candidates = random_candidates(seed=0, n=200)
    first, second = (Uniform().select(candidates, 8, np.random.default_rng(seed)) for seed in (0, 1))
    assert first.indices.tolist() != second.indices.tolist()


def test_scores_are_cosines_and_gains_zero():
    candidates = random_candidates(seed=0, n=20)
    picks = Uniform().select(candidates, 8, np.random.default_rng(0))
    assert np.array_equal(picks.scores, candidates.relevance[picks.indices])
    assert not picks.gains.any()


def test_every_ordered_pair_is_equally_likely():
    candidates = random_candidates(seed=0, n=4)
    rng = np.random.default_rng(7)
    draws = 6_000
    counts = np.zeros((4, 4))
    for _ in range(draws):
        first, second = Uniform().select(candidates, 2, rng).indices
        counts[first, second] += 1
    pairs = counts[~np.eye(4, dtype=bool)]
    assert counts.trace() == 0
    # Binomial with p = 1/12: five standard deviations.
    assert np.abs(pairs - draws / 12).max() < 5 * np.sqrt(draws * (1 / 12) * (11 / 12))
