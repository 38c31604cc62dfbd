"""Coverage within a token budget."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors import coverage_knapsack
from tests import oracles
from tests.strategies import grid


def test_gain_per_token_by_hand():
    # Within 60 tokens rows 1 and 2 cover 1.7; row 0 would need 100.
    picks = coverage_knapsack([[1.0, 0.9], [0.9, 0.0], [0.0, 0.8]], [100, 20, 20], max_tokens=60)
    assert picks.indices.tolist() == [1, 2]
    np.testing.assert_allclose(picks.gains, [0.9, 0.8])
    assert picks.diagnostics == {"rule": "gain", "tokens": 40, "coverage": pytest.approx(1.7)}


def test_gain_per_token_beats_gain_where_long_rows_crowd_out_short_ones():
    # Row 0 alone fills the budget; rows 1 to 3 cover more together for less.
    scores = [[0.5, 0.3, 0.0], [0.5, 0.0, 0.0], [0.0, 0.4, 0.0], [0.0, 0.0, 0.6]]
    picks = coverage_knapsack(scores, [90, 20, 20, 40], max_tokens=100)
    assert picks.indices.tolist() == [1, 2, 3]
    assert picks.diagnostics == {"rule": "gain_per_token", "tokens": 80, "coverage": pytest.approx(1.5)}


def test_gain_beats_gain_per_token_where_a_short_row_keeps_out_the_good_one():
    picks = coverage_knapsack([[0.02], [1.0]], [1, 100], max_tokens=100)
    assert picks.indices.tolist() == [1]
    assert picks.diagnostics["rule"] == "gain"


@pytest.mark.parametrize("seed", range(60))
def test_the_result_reaches_its_share_of_the_optimum(seed):
    rng = np.random.default_rng(seed)
    scores = rng.random((8, 4)) ** 3 - 0.05
    lengths = rng.integers(1, 40, size=8)
    budget = int(rng.integers(1, 90))
    picks = coverage_knapsack(scores, lengths, budget)
    best = oracles.coverage_within(scores, lengths, budget)
    assert picks.diagnostics["coverage"] >= (1 - 1 / math.e) / 2 * best - 1e-12
    assert picks.diagnostics["coverage"] <= best + 1e-12


@settings(max_examples=60)
@given(data=st.data(), n=st.integers(1, 8), budget=st.integers(0, 60), k=st.integers(1, 9))
def test_the_budget_holds_and_every_pick_adds_something(data, n, budget, k):
    scores = data.draw(grid((n, 3), -4, 16, 1 / 64))
    lengths = data.draw(grid(n, 1, 30)).astype(np.int64)
    picks = coverage_knapsack(scores, lengths, budget, k=k)
    assert lengths[picks.indices].sum() == picks.diagnostics["tokens"] <= budget
    assert len(picks) <= k
    assert (picks.gains > 0).all()
    covered = np.vstack([np.zeros((1, 3)), scores[picks.indices]]).max(axis=0)
    assert picks.gains.sum() == picks.diagnostics["coverage"] == covered.sum()
    np.testing.assert_array_equal(picks.scores, scores[picks.indices].sum(axis=1))


def test_with_room_for_all_it_is_plain_coverage_up_to_the_first_full_cover():
    scores = np.random.default_rng(0).random((40, 6))
    expected, resets = oracles.coverage_greedy(scores, 6)
    assert resets == 0
    assert coverage_knapsack(scores, np.ones(40, np.int64), 10_000, k=6).indices.tolist() == expected


def test_nothing_is_chosen_where_nothing_fits_or_nothing_helps():
    assert len(coverage_knapsack([[1.0]], [5], 4)) == 0
    assert len(coverage_knapsack([[-1.0, -0.5]], [5], 10)) == 0
    assert len(coverage_knapsack(np.zeros((0, 2)), [], 10)) == 0


def test_equal_rows_go_to_the_first():
    assert coverage_knapsack(np.full((4, 3), 0.25), [7] * 4, 100).indices.tolist() == [0]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"k": 0}, InvalidParameter, "k is 0"),
        ({"max_tokens": -1}, InvalidParameter, "max_tokens is -1"),
        ({"lengths": [1, 0]}, InvalidParameter, "lengths go down to 0, allowed >= 1"),
        ({"lengths": [1]}, InvalidShape, "lengths has shape"),
        ({"partial_scores": [[np.nan], [1.0]]}, InvalidShape, "nan at"),
    ],
)
def test_senseless_input_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        coverage_knapsack(
            **{"partial_scores": [[1.0], [2.0]], "lengths": [1, 1], "max_tokens": 5, **arguments}
        )
