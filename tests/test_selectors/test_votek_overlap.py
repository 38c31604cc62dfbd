"""Rows with many voters, less those whose voters others have."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from kshot.arrays import unit_rows
from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors import votek_overlap
from kshot.selectors.votek_overlap import _not_covered
from tests.strategies import random_candidates


def voters_of(vectors, n_neighbors):
    """Return, by row, who has it among the nearest."""
    voters: dict[int, set[int]] = {i: set() for i in range(len(vectors))}
    for i in range(len(vectors)):
        others = [j for j in range(len(vectors)) if j != i]
        nearest = sorted(others, key=lambda j: (-float(vectors[i] @ vectors[j]), j))
        for j in nearest[:n_neighbors]:
            voters[j].add(i)
    return voters


def accepted_by_loop(vectors, k, n_neighbors, threshold):
    """Walk down the rows by number of voters and compare each with all before it."""
    voters = voters_of(vectors, n_neighbors)
    ranked = sorted((i for i in voters if voters[i]), key=lambda i: (-len(voters[i]), i))
    found = [
        i
        for place, i in enumerate(ranked)
        if not any(len(voters[i] & voters[j]) >= threshold * len(voters[i]) for j in ranked[:place])
    ]
    return found[:k]


def test_a_row_whose_voters_an_earlier_one_has_is_rejected():
    # Rows 0 and 1 are voted for by {2, 3, 4} and {2, 3}; row 5 by {3, 6}, which overlaps but is not covered.
    edges = [(2, 0), (3, 0), (4, 0), (2, 1), (3, 1), (3, 5), (6, 5)]
    voters, rows = np.array(edges).T
    votes = csr_array((np.ones(7), (voters, rows)), shape=(7, 7))
    ranked = np.array([0, 1, 5])
    assert _not_covered(votes, ranked, 1.0).tolist() == [True, False, True]
    assert _not_covered(votes, ranked, 0.5).tolist() == [True, False, False]
    assert _not_covered(votes, ranked, 1.01).tolist() == [True, True, True]


@pytest.mark.parametrize("n_neighbors", [1, 3, 6])
@pytest.mark.parametrize("threshold", [0.3, 1.0, 1.5])
def test_picks_equal_the_loop(n_neighbors, threshold):
    for seed in range(3):
        vectors = random_candidates(seed=seed, n=70).vectors.astype(np.float64)
        picks = votek_overlap(vectors, 12, n_neighbors=n_neighbors, overlap_threshold=threshold)
        expected = accepted_by_loop(vectors, 12, n_neighbors, threshold)
        assert picks.indices[: len(expected)].tolist() == expected
        assert picks.diagnostics == {"filled": 12 - len(expected)}
        voters = voters_of(vectors, n_neighbors)
        assert picks.scores.tolist() == picks.gains.tolist() == [len(voters[i]) for i in picks.indices]


def test_nothing_is_rejected_above_a_threshold_of_one():
    vectors = random_candidates(seed=5, n=60).vectors
    picks = votek_overlap(vectors, 30, overlap_threshold=1.5)
    assert picks.diagnostics == {"filled": 0}
    assert (np.diff(picks.scores) <= 0).all()


def test_places_left_are_drawn_with_the_seed():
    vectors = unit_rows(np.random.default_rng(0).standard_normal((40, 4)))
    drawn = {
        tuple(votek_overlap(vectors, 38, n_neighbors=1, seed=seed).indices.tolist()) for seed in (1, 1, 2)
    }
    assert len(drawn) == 2
    accepted = accepted_by_loop(vectors.astype(np.float64), 38, 1, 1.0)
    for picks in drawn:
        assert list(picks[: len(accepted)]) == accepted
        assert len(set(picks)) == 38


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_more_wanted_than_there_are_returns_all(n):
    vectors = random_candidates(seed=6, n=6).vectors[:n]
    assert sorted(votek_overlap(vectors, 9).indices.tolist()) == list(range(n))


def test_equal_rows_are_ranked_by_row_number():
    picks = votek_overlap(np.tile([[0.6, 0.8]], (6, 1)), 2, n_neighbors=2)
    # Rows 0 and 1 have everybody's votes but their own, row 2 those of these two.
    assert picks.scores.tolist() == [5, 5]
    assert picks.indices.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"k": 0}, InvalidParameter, "k is 0"),
        ({"n_neighbors": 0}, InvalidParameter, "n_neighbors is 0"),
        ({"overlap_threshold": 0.0}, InvalidParameter, "overlap_threshold is 0.0"),
        ({"vectors": [1.0]}, InvalidShape, "vectors has shape"),
    ],
)
def test_senseless_input_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        votek_overlap(**{"vectors": np.eye(3), "k": 1, **arguments})
