"""When the greedy over some rows is provably the greedy over all."""

import numpy as np
import pytest

from kshot.arrays import Candidates, Exactness, Picks, exactness
from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors import certified_steps, coverage_greedy
from kshot.selectors.set_bsr import SetBsr
from tests import oracles

FOUR = [[1.0, 1.0], [0.5, 0.2], [0.2, 0.5], [0.9, 0.9]]


def cut(rng, *, levels):
    """Return a pool, the rows best at some part of the query, and what no other row exceeds at each part."""
    n, length = int(rng.integers(20, 120)), int(rng.integers(2, 8))
    scores = rng.integers(0, levels, size=(n, length)) * rng.integers(0, 2, size=(n, length)) / levels
    depth = int(rng.integers(2, 24))
    kept = np.unique(np.argsort(-scores, axis=0, kind="stable")[:depth])
    left_out = np.delete(scores, kept, axis=0)
    return scores, kept, left_out.max(axis=0, initial=-np.inf)


@pytest.mark.parametrize("add_cand_score", [None, 4.0])
@pytest.mark.parametrize("levels", [4, 32, 2**20])
def test_certified_steps_are_those_of_the_greedy_over_all_rows(levels, add_cand_score):
    rng = np.random.default_rng(levels)
    certified = resets = partly = 0
    for _ in range(60):
        scores, kept, outside = cut(rng, levels=levels)
        k = int(rng.integers(1, 12))
        picks = coverage_greedy(scores[kept], k, add_cand_score=add_cand_score)
        proven = certified_steps(scores[kept], picks, outside, add_cand_score=add_cand_score)
        count = int(proven.sum())
        assert proven.tolist() == [True] * count + [False] * (len(picks) - count)
        whole, _ = oracles.coverage_greedy(scores, k, add_cand_score=add_cand_score)
        assert kept[picks.indices[:count]].tolist() == whole[:count]
        if len(kept) == len(scores):
            continue
        certified += count
        partly += 0 < count < len(picks)
        resets += count > 0 and picks.diagnostics["rounds"][count - 1] > 0
    # Or the test would hold for a function that never certifies anything.
    assert certified > 40
    assert partly >= 5
    assert resets > 0


def test_a_step_and_a_new_round_are_certified_by_hand():
    picks = coverage_greedy(FOUR, 3)
    # 2 > 1.6; nothing goes on beyond (1, 1), and 1.8 > 1.6; the next round has 0.7 < 1.6.
    assert certified_steps(FOUR, picks, [0.8, 0.8]).tolist() == [True, True, False]
    # A row left out may reach 1.1 and go on with the first round.
    assert certified_steps(FOUR, picks, [1.1, 0.1]).tolist() == [True, False, False]
    # It gains no more than (1.1 - 1) + 0 over the first row, but the round was given up.
    assert certified_steps(FOUR[:3], coverage_greedy(FOUR[:3], 1), [2.0, 0.1]).tolist() == [False]


def test_equal_totals_are_never_certified():
    # The row left out, [0.5, 0.5], came first and would have been picked first.
    rows = [[0.75, 0.25]]
    assert certified_steps(rows, coverage_greedy(rows, 1), [0.5, 0.5]).tolist() == [False]
    assert certified_steps(rows, coverage_greedy(rows, 1), [0.5, 0.4375]).tolist() == [True]


def test_equal_gains_are_never_certified():
    rows = [[1.0, 0.0, 0.0], [0.0, 0.5, 0.0]]
    picks = coverage_greedy(rows, 2)
    assert certified_steps(rows, picks, [0.0, 0.25, 0.25]).tolist() == [True, False]
    assert certified_steps(rows, picks, [0.0, 0.25, 0.125]).tolist() == [True, True]


def test_where_no_row_was_left_out_everything_is_certified():
    scores = np.random.default_rng(0).random((30, 4))
    picks = coverage_greedy(scores, 30)
    assert picks.diagnostics["resets"] > 1
    assert certified_steps(scores, picks, np.full(4, -np.inf)).all()


def test_a_row_ahead_by_itself_and_behind_with_its_bonus_is_not_certified():
    rows = [[0.5, 0.5], [0.25, 0.0]]
    picks = coverage_greedy(rows, 1, add_cand_score=2.0)
    assert certified_steps(rows, picks, [0.5, 0.25], add_cand_score=2.0).tolist() == [True]
    assert certified_steps(rows, picks, [0.5, 0.5], add_cand_score=2.0).tolist() == [False]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"outside": [0.1]}, InvalidShape, "outside has shape"),
        ({"outside": [0.1, np.nan]}, InvalidShape, "NaN at 1"),
        ({"partial_scores": [0.1, 0.2]}, InvalidShape, "partial_scores has shape"),
        ({"add_cand_score": 0.0}, InvalidParameter, "add_cand_score is 0.0"),
        ({"picks": Picks(np.array([0]), np.ones(1), np.ones(1))}, InvalidParameter, "rounds None"),
    ],
)
def test_senseless_input_is_refused(arguments, error, message):
    usual = {"partial_scores": FOUR, "picks": coverage_greedy(FOUR, 2), "outside": [0.0, 0.0]}
    with pytest.raises(error, match=message):
        certified_steps(**{**usual, **arguments})


def shortlist(**known):
    return Candidates(
        rows=np.arange(4), relevance=np.zeros(4), partial_scores=np.array(FOUR, np.float32), **known
    )


@pytest.mark.parametrize(
    ("known", "steps", "said"),
    [
        ({}, 2, Exactness.EXACT),
        ({"complete": False}, 0, Exactness.APPROXIMATE),
        ({"complete": False, "outside": np.array([0.8, 0.8])}, 2, Exactness.CERTIFIED),
        ({"complete": False, "outside": np.array([1.1, 0.1])}, 1, Exactness.APPROXIMATE),
    ],
)
def test_the_method_says_how_many_steps_are_certified(known, steps, said):
    candidates = shortlist(**known)
    picks = SetBsr().select(candidates, 2, np.random.default_rng(0))
    assert picks.indices.tolist() == [0, 3]
    assert picks.diagnostics["certified_steps"] == steps
    assert exactness(candidates, picks) is said


def test_bounds_have_one_number_for_each_part_of_the_query():
    with pytest.raises(InvalidShape, match="outside has shape"):
        shortlist(complete=False, outside=np.zeros(3))
