"""Greedy set coverage, and the method that covers the query's tokens with it."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.arrays import Candidates
from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors import coverage_greedy
from kshot.selectors.set_bsr import SetBsr
from tests import oracles
from tests.strategies import grid, random_candidates

RNG = np.random.default_rng(0)
PUBLISHED = json.loads((Path(__file__).parent / "golden" / "coverage_greedy.json").read_text())


@pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: str(case["seed"]))
def test_picks_are_those_of_the_published_implementation(case):
    scores = np.random.default_rng(case["seed"]).random((case["n"], case["length"]))
    if case["rounded"]:
        scores = np.round(scores, 1)
    scores = scores / case["length"]
    for layout in (np.ascontiguousarray, np.asfortranarray):
        for parity in ("none", "reference"):
            picks = coverage_greedy(layout(scores), case["k"], parity=parity)
            assert picks.indices.tolist() == case["pick_order"]
            assert picks.diagnostics["resets"] == case["resets"]


def test_four_rows_with_two_resets_by_hand():
    picks = coverage_greedy([[1.0, 1.0], [0.5, 0.2], [0.2, 0.5], [0.9, 0.9]], k=3)
    assert picks.indices.tolist() == [0, 3, 1]
    np.testing.assert_allclose(picks.gains, [2.0, 1.8, 0.7])
    np.testing.assert_allclose(picks.scores, [2.0, 1.8, 0.7])
    assert picks.diagnostics == {"resets": 2, "rounds": [0, 1, 2], "stopped_by_budget": False}


def test_the_second_pick_covers_what_the_first_leaves_open():
    # Row 1 is better than row 2 by itself, but row 0 covers what it has.
    picks = coverage_greedy([[0.9, 0.1], [0.8, 0.1], [0.1, 0.6]], k=2)
    assert picks.indices.tolist() == [0, 2]
    np.testing.assert_allclose(picks.gains, [1.0, 0.5])


def instance(seed):
    """Scores whose sums are exact in binary, so that ties are ties, in one of many shapes."""
    rng = np.random.default_rng(seed)
    n, length = int(rng.integers(1, 40)), int(rng.integers(1, 12))
    levels = int(rng.choice([2, 8, 1024]))
    scores = rng.integers(-levels // 4, levels, size=(n, length)) / 1024
    return rng, scores.astype(rng.choice(["float32", "float64"]))


@pytest.mark.parametrize("block", range(5))
def test_five_hundred_instances_equal_the_loop(block):
    for seed in range(100 * block, 100 * block + 100):
        rng, scores = instance(seed)
        k = int(rng.integers(1, 12))
        lengths = rng.integers(1, 30, size=len(scores))
        max_tokens = int(rng.integers(0, 120)) if seed % 2 else None
        picks = coverage_greedy(scores, k, lengths=lengths, max_tokens=max_tokens)
        expected, resets = oracles.coverage_greedy(scores, k, lengths, max_tokens)
        assert picks.indices.tolist() == expected, seed
        assert picks.diagnostics["resets"] == resets, seed


def test_rows_beyond_the_first_looked_at_equal_the_loop():
    # Thousands of rows, so that lazy steps leave most of them out; few levels, so that many tie.
    for seed, levels in ((0, 4), (1, 64), (2, 2**20)):
        rng = np.random.default_rng(seed)
        scores = rng.integers(0, levels, size=(2_500, 6)) * rng.integers(0, 2, size=(2_500, 6)) / 2**20
        picks = coverage_greedy(scores, 9)
        expected, resets = oracles.coverage_greedy(scores, 9)
        assert picks.indices.tolist() == expected
        assert picks.diagnostics["resets"] == resets


@pytest.mark.parametrize("seed", range(40))
def test_own_scores_join_in_as_in_the_loop(seed):
    rng, scores = instance(seed)
    discount = float(rng.choice([0.5, 2.0, 8.0]))
    picks = coverage_greedy(scores, 8, add_cand_score=discount)
    expected, resets = oracles.coverage_greedy(scores, 8, add_cand_score=discount)
    assert picks.indices.tolist() == expected
    assert picks.diagnostics["resets"] == resets


def test_parity_ends_rounds_by_the_total_with_own_scores():
    # Totals are coverage plus twice the own sum. Rows 1 and 2 go on with what row 0 covers.
    scores = [[0.9, 0.0, 0.4], [0.8, 0.2, 0.1], [0.1, 0.3, 0.0], [0.0, 0.25, 0.0]]
    picks = coverage_greedy(scores, 3, add_cand_score=0.5)
    assert (picks.indices.tolist(), picks.diagnostics["rounds"]) == ([0, 1, 2], [0, 0, 0])
    np.testing.assert_allclose(picks.gains, [1.3, 0.2, 0.1])
    picks = coverage_greedy(scores, 3, add_cand_score=0.5, parity="reference")
    # But row 0 reached 1.3 + 2.6 and row 1 makes it 1.5 + 2.2: a new round, of 1.1 + 2.2. There row 2 makes
    # it 1.2 + 0.8.
    assert (picks.indices.tolist(), picks.diagnostics["rounds"]) == ([0, 1, 2], [0, 1, 2])
    np.testing.assert_allclose(picks.gains, [1.3, 1.1, 0.4])


def test_parity_equals_the_loop_and_differs_from_the_default():
    differ = 0
    for seed in range(500):
        rng, scores = instance(seed)
        k = int(rng.integers(1, 12))
        lengths = rng.integers(1, 30, size=len(scores))
        options: Any = {
            "lengths": lengths,
            "max_tokens": int(rng.integers(0, 120)) if seed % 2 else None,
            "add_cand_score": float(rng.choice([0.5, 2.0, 8.0])) if seed % 3 else None,
        }
        picks = coverage_greedy(scores, k, parity="reference", **options)
        expected, resets = oracles.coverage_greedy(scores, k, by_total=True, **options)
        assert picks.indices.tolist() == expected, seed
        assert picks.diagnostics["resets"] == resets, seed
        differ += picks.indices.tolist() != coverage_greedy(scores, k, **options).indices.tolist()
    assert differ > 20


def test_another_relevance_may_take_the_place_of_own_scores():
    scores = [[0.9, 0.1], [0.8, 0.1], [0.1, 0.3]]
    picks = coverage_greedy(scores, 2, add_cand_score=0.5, relevance=[0.0, 0.0, 1.0])
    assert picks.indices.tolist() == [2, 0]
    np.testing.assert_allclose(picks.gains, [0.4, 0.8])
    np.testing.assert_allclose(picks.scores, [0.4, 1.0])


def test_own_scores_lean_towards_relevance():
    scores = [[0.9, 0.1], [0.8, 0.1], [0.1, 0.3]]
    assert coverage_greedy(scores, 2).indices.tolist() == [0, 2]
    # Row 1 adds nothing; counted in full its own sum wins, so a second round begins with it.
    picks = coverage_greedy(scores, 2, add_cand_score=0.5)
    assert picks.indices.tolist() == [0, 1]
    assert picks.diagnostics["resets"] == 1
    np.testing.assert_allclose(picks.gains, [1.0, 0.9])


@pytest.mark.parametrize("seed", range(30))
def test_the_first_round_reaches_its_share_of_the_optimum(seed):
    scores = np.random.default_rng(seed).random((10, 5)) ** 3
    picks = coverage_greedy(scores, 3)
    assert picks.diagnostics["resets"] == 0
    reached = oracles.coverage(scores, picks.indices)
    assert reached == pytest.approx(picks.gains.sum())
    assert reached >= (1 - 1 / math.e) * oracles.best_coverage(scores, 3)


@settings(max_examples=50)
@given(data=st.data(), n=st.integers(1, 10), length=st.integers(1, 5))
def test_within_a_round_gains_fall_and_add_up_to_the_coverage(data, n, length):
    scores = data.draw(grid((n, length), 0, 16, 1 / 64))
    picks = coverage_greedy(scores, n)
    rounds = np.array(picks.diagnostics["rounds"])
    assert picks.diagnostics["resets"] == rounds[-1]
    for number in range(rounds[-1] + 1):
        within = rounds == number
        assert (np.diff(picks.gains[within]) <= 0).all()
        assert picks.gains[within].sum() == oracles.coverage(scores, picks.indices[within])


def test_the_budget_stops_at_the_first_row_that_does_not_fit():
    scores = [[0.9, 0.0, 0.0], [0.0, 0.8, 0.0], [0.0, 0.0, 0.7]]
    picks = coverage_greedy(scores, 3, lengths=[5, 9, 1], max_tokens=10)
    assert picks.indices.tolist() == [0]
    assert picks.diagnostics["stopped_by_budget"] is True
    exact = coverage_greedy(scores, 3, lengths=[5, 9, 1], max_tokens=15)
    assert exact.indices.tolist() == [0, 1, 2]
    assert exact.diagnostics["stopped_by_budget"] is False


def test_more_wanted_than_there_are_stops_at_all():
    assert sorted(coverage_greedy(np.ones((4, 3)), 99).indices.tolist()) == [0, 1, 2, 3]


def test_equal_rows_begin_a_round_each():
    picks = coverage_greedy(np.full((5, 3), 0.25), 4)
    assert picks.indices.tolist() == [0, 1, 2, 3]
    assert picks.diagnostics["rounds"] == [0, 1, 2, 3]


def test_negative_scores_are_covered_from_below():
    picks = coverage_greedy([[-0.5, -0.1], [-0.1, -0.6], [-0.4, -0.4]], 2)
    assert picks.indices.tolist() == [0, 1]
    np.testing.assert_allclose(picks.gains, [-0.6, 0.4])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"k": 0}, InvalidParameter, "k is 0"),
        ({"add_cand_score": 0.0}, InvalidParameter, "add_cand_score is 0.0"),
        ({"add_cand_score": 1e-320}, InvalidParameter, "too small to divide own scores by"),
        ({"parity": "paper"}, InvalidParameter, "parity is 'paper', allowed none, reference"),
        ({"relevance": [1.0, 2.0]}, InvalidParameter, "only together with add_cand_score"),
        ({"relevance": [1.0], "add_cand_score": 1.0}, InvalidShape, "relevance has shape"),
        ({"max_tokens": 5}, InvalidParameter, "needs the lengths"),
        ({"max_tokens": 5, "lengths": [1, -2]}, InvalidParameter, "lengths go down to -2"),
        ({"max_tokens": 5, "lengths": [1]}, InvalidShape, "lengths has shape"),
        ({"partial_scores": [1.0]}, InvalidShape, "partial_scores has shape"),
        ({"partial_scores": [[np.nan], [1.0]]}, InvalidShape, "nan at"),
        ({"partial_scores": [[1.0], [np.inf]]}, InvalidShape, "inf at"),
    ],
)
def test_senseless_input_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        coverage_greedy(**{"partial_scores": [[1.0], [2.0]], "k": 1, **arguments})


def test_the_method_covers_the_partial_scores():
    candidates = random_candidates(seed=3, n=80)
    for add_cand_score in (None, 4.0):
        picks = SetBsr(add_cand_score=add_cand_score).select(candidates, 8, RNG)
        expected, _ = oracles.coverage_greedy(candidates.partial_scores, 8, add_cand_score=add_cand_score)
        assert picks.indices.tolist() == expected
        np.testing.assert_allclose(picks.scores, candidates.partial_scores[expected].sum(axis=1))


def test_a_query_without_tokens_is_served_by_similarity():
    candidates = Candidates(
        rows=np.arange(3), relevance=np.array([0.2, 0.9, 0.5]), partial_scores=np.zeros((3, 0))
    )
    picks = SetBsr().select(candidates, 2, RNG)
    assert picks.indices.tolist() == [1, 2]
    assert picks.diagnostics == {"fallback": "similarity"}
