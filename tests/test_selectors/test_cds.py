"""One demonstration of each level of difficulty."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.arrays import Candidates
from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors import curriculum
from kshot.selectors.cds import Cds
from tests import oracles
from tests.strategies import grid, random_candidates

NAN = float("nan")


def test_three_bins_by_hand():
    # Bins by difficulty: rows 4, 1 | 5, 0 | 2, 3.
    picks = curriculum([0.1, 0.9, 0.3, 0.8, 0.5, 0.2], [4, 2, 5, 6, 1, 3], k=3)
    assert picks.indices.tolist() == [1, 5, 3]
    assert picks.gains.tolist() == picks.scores.tolist() == [0.9, 0.2, 0.8]
    assert picks.diagnostics == {"levels": 6, "unknown": 0}


@pytest.mark.parametrize("k", [1, 2, 3, 7, 30, 50])
@pytest.mark.parametrize("seed", range(3))
def test_each_bin_gives_its_most_similar_row(seed, k):
    candidates = random_candidates(seed=seed, n=30)
    picks = curriculum(candidates.relevance, candidates.difficulty, k)
    bins = min(k, 30)
    ordered = np.argsort(candidates.difficulty)
    for number in range(bins):
        rows = ordered[number * 30 // bins : (number + 1) * 30 // bins]
        assert picks.indices[number] == rows[candidates.relevance[rows].argmax()]


@settings(max_examples=60)
@given(data=st.data(), n=st.integers(1, 10), k=st.integers(1, 12))
def test_rows_of_equal_difficulty_equal_the_loop(data, n, k):
    relevance, difficulty = data.draw(grid(n, -3, 3, 0.25)), data.draw(grid(n, 0, 3))
    picks = curriculum(relevance, difficulty, k)
    assert picks.indices.tolist() == oracles.curriculum(relevance, difficulty, k)
    assert len(set(picks.indices.tolist())) == min(k, n)
    assert (np.diff(difficulty[picks.indices]) >= 0).all()


def test_one_pick_is_the_most_similar_row():
    candidates = random_candidates(seed=4, n=40)
    picks = curriculum(candidates.relevance, candidates.difficulty, 1)
    assert picks.indices.tolist() == [candidates.relevance.argmax()]


def test_one_level_is_plain_similarity():
    relevance = random_candidates(seed=5, n=20).relevance
    assert curriculum(relevance, np.full(20, 3.0), 6).indices.tolist() == oracles.top_k(relevance, 6)


def test_fewer_levels_than_bins_give_their_most_similar_rows():
    # Half easy, half hard: two bins each.
    relevance = [0.1, 0.5, 0.9, 0.7, 0.2, 0.8, 0.4, 0.6]
    assert curriculum(relevance, [0, 0, 0, 0, 1, 1, 1, 1], 4).indices.tolist() == [2, 3, 5, 7]


def test_ties_in_similarity_go_to_the_lowest_row_however_hard():
    assert curriculum([0.5, 0.5, 0.5], [3, 2, 1], 1).indices.tolist() == [0]


def test_rows_without_a_difficulty_count_as_the_median():
    relevance = [0.1, 0.2, 0.3, 0.9, 0.4]
    picks = curriculum(relevance, [1, 2, 3, NAN, NAN], k=3)
    # Unknown ones stand beside row 1: bins 0 | 1, 3 | 4, 2, of which the last begins at the median too.
    assert picks.indices.tolist() == [0, 3, 4]
    assert picks.diagnostics == {"levels": 3, "unknown": 2}


def test_rows_without_any_difficulty_are_of_one_level():
    picks = curriculum([0.1, 0.9, 0.5], [NAN] * 3, 2)
    assert picks.indices.tolist() == [1, 2]
    assert picks.diagnostics == {"levels": 0, "unknown": 3}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([1.0], [1.0], 0), InvalidParameter, "k is 0"),
        (([1.0], [1.0, 2.0], 1), InvalidShape, "difficulty has shape"),
        (([1.0], [np.inf], 1), InvalidShape, "difficulty holds an infinity"),
        (([np.nan], [1.0], 1), InvalidShape, "relevance holds nan"),
    ],
)
def test_senseless_input_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        curriculum(*arguments)


def test_candidates_refuse_infinite_difficulties():
    with pytest.raises(InvalidShape, match="difficulty holds an infinity"):
        Candidates(rows=np.arange(1), relevance=np.zeros(1), difficulty=np.array([np.inf]))


def test_the_method_reads_the_candidates_difficulty():
    candidates = random_candidates(seed=6, n=25)
    picks = Cds().select(candidates, 5, np.random.default_rng(0))
    assert (
        picks.indices.tolist() == curriculum(candidates.relevance, candidates.difficulty, 5).indices.tolist()
    )
    assert (np.diff(candidates.difficulty[picks.indices]) > 0).all()
