"""Which rows get exact scores, and that those are enough."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors import SELECTORS, coverage_contenders, coverage_greedy, ranking_contenders
from kshot.selectors.base import as_refining
from kshot.selectors.refinement import LEAST_RANKED, LOOK_AHEAD, RANKED_PER_PICK
from kshot.selectors.set_bsr import SetBsr
from tests.strategies import grid, random_candidates


class Scorer:
    """Gives exact scores and remembers for which rows."""

    def __init__(self, exact):
        self._exact = np.asarray(exact)
        self.asked: list[int] = []

    def __call__(self, rows):
        assert (np.diff(rows) > 0).all()
        self.asked += rows.tolist()
        return self._exact[rows]


@given(
    data=st.data(),
    n=st.integers(1, 60),
    length=st.integers(1, 4),
    k=st.integers(1, 12),
    add_cand_score=st.sampled_from([None, 0.5, 4.0]),
    with_relevance=st.booleans(),
)
def test_estimates_that_are_never_too_low_cost_no_pick(data, n, length, k, add_cand_score, with_relevance):
    exact = data.draw(grid((n, length), -4, 12, 1 / 64))
    too_high = data.draw(grid((n, length), 0, 6, 1 / 64))
    own = {"add_cand_score": add_cand_score}
    if with_relevance and add_cand_score is not None:
        own["relevance"] = data.draw(grid(n, 0, 12, 1 / 64))
    score = Scorer(exact)
    rows, scores = coverage_contenders(exact + too_high, k, score, **own)
    assert scores.tolist() == exact[rows].tolist()
    assert sorted(score.asked) == rows.tolist()
    whole = coverage_greedy(exact, k, **own)
    if "relevance" in own:
        own["relevance"] = own["relevance"][rows]
    some = coverage_greedy(scores, k, **own)
    assert rows[some.indices].tolist() == whole.indices.tolist()
    assert some.diagnostics == whole.diagnostics


def test_few_of_many_rows_are_scored():
    rng = np.random.default_rng(0)
    exact = rng.random((5_000, 9)) ** 3
    estimates = exact + rng.normal(0, 0.01, exact.shape)
    score = Scorer(exact)
    rows, scores = coverage_contenders(estimates, 8, score)
    assert len(rows) <= 2 * 8 * LOOK_AHEAD
    picks = coverage_greedy(scores, 8)
    assert rows[picks.indices].tolist() == coverage_greedy(exact, 8).indices.tolist()


def test_a_row_that_only_looked_good_makes_room_for_the_next():
    exact = np.array([[0.5, 0.5], [0.1, 0.1], [0.0, 0.9]])
    estimates = exact.copy()
    estimates[1] = 0.8
    rows, scores = coverage_contenders(estimates, 2, Scorer(exact))
    assert rows[coverage_greedy(scores, 2).indices].tolist() == [0, 2]


def test_identical_rows_are_picked_in_row_order():
    exact = np.full((200, 3), 0.25)
    rows, scores = coverage_contenders(exact, 5, Scorer(exact))
    assert rows[coverage_greedy(scores, 5).indices].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("k", [1, 8, 40])
def test_a_ranking_scores_the_best_by_estimate(k):
    rng = np.random.default_rng(k)
    exact = rng.random((1_000, 3))
    score = Scorer(exact)
    rows, scores = ranking_contenders(exact.sum(axis=1), k, score)
    count = max(LEAST_RANKED, RANKED_PER_PICK * k)
    assert rows.tolist() == sorted(np.argsort(-exact.sum(axis=1))[:count].tolist())
    assert scores.tolist() == exact[rows].tolist()


def test_a_ranking_of_few_rows_scores_all():
    rows, _ = ranking_contenders(np.array([0.5, 0.1]), 8, Scorer(np.zeros((2, 1))))
    assert rows.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"k": 0}, InvalidParameter, "k is 0"),
        ({"approximate": [0.1, 0.2]}, InvalidShape, "approximate has shape"),
        ({"add_cand_score": -1.0}, InvalidParameter, "add_cand_score is -1"),
        ({"add_cand_score": 1.0, "relevance": [0.1]}, InvalidShape, "relevance has shape"),
    ],
)
def test_senseless_input_is_refused(arguments, error, message):
    usual = {"approximate": np.zeros((2, 2)), "k": 1, "score": Scorer(np.zeros((2, 2)))}
    with pytest.raises(error, match=message):
        coverage_contenders(**{**usual, **arguments})


@pytest.mark.parametrize(
    "selector",
    [
        *(SELECTORS.get(name)() for name in SELECTORS.names() if as_refining(SELECTORS.get(name)())),
        SetBsr(add_cand_score=2.0),
        SetBsr(add_cand_score=2.0, relevance="fused"),
    ],
    ids=repr,
)
def test_a_method_that_refines_picks_what_it_picks_from_all_candidates(selector):
    for seed in range(10):
        candidates = random_candidates(seed, n=400)
        score = Scorer(candidates.partial_scores)
        rows, scores = selector.refine(candidates, 8, score)
        assert (np.diff(rows) > 0).all()
        assert 8 <= len(rows) < 400
        assert sorted(score.asked) == rows.tolist()
        np.testing.assert_allclose(scores, candidates.partial_scores[rows], rtol=1e-6)
        refined = replace(candidates.take(rows), partial_scores=scores)
        picks, whole = (selector.select(one, 8, np.random.default_rng(0)) for one in (refined, candidates))
        assert rows[picks.indices].tolist() == whole.indices.tolist()


def test_the_methods_that_read_tokens_refine():
    refining = {name for name in SELECTORS.names() if as_refining(SELECTORS.get(name)())}
    assert refining >= {"bsr", "set_bsr", "fused"}
