"""Organisations of demonstrations, and the entropy of labels that chooses among them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors import best_organisation, label_entropy, organisations
from kshot.selectors.mdl import Mdl
from tests.strategies import random_candidates

NAN, INF = float("nan"), float("inf")


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


# --- organisations ---


@pytest.mark.parametrize("count", [1, 2, 10, 40])
@pytest.mark.parametrize(("n", "k"), [(30, 8), (8, 8), (5, 8), (1, 1)])
def test_the_first_is_the_plain_top_k_and_the_others_are_distinct_draws(n, k, count):
    drawn = organisations(n, k, count, generator())
    size = min(k, n)
    assert drawn[0].tolist() == list(range(size))
    assert 1 <= len(drawn) <= min(count, math.perm(n, size))
    assert len({tuple(row) for row in drawn.tolist()}) == len(drawn)
    for row in drawn.tolist():
        assert len(set(row)) == size
        assert set(row) <= set(range(n))


def test_one_organisation_is_the_top_k():
    assert organisations(30, 3, 1, generator()).tolist() == [[0, 1, 2]]


def test_where_few_exist_all_are_found_and_no_more():
    drawn = organisations(3, 2, 500, generator())
    assert {tuple(row) for row in drawn.tolist()} == {(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)}


def test_nothing_to_choose_from_is_one_empty_organisation():
    assert organisations(0, 4, 10, generator()).shape == (1, 0)


def test_draws_follow_the_generator_and_nothing_else():
    assert np.array_equal(organisations(30, 8, 10, generator(3)), organisations(30, 8, 10, generator(3)))
    assert not np.array_equal(organisations(30, 8, 10, generator(3)), organisations(30, 8, 10, generator(4)))
    # More organisations go on where fewer ended.
    assert np.array_equal(organisations(30, 8, 20, generator(3))[:10], organisations(30, 8, 10, generator(3)))


def test_every_place_is_drawn_equally_often_in_every_position():
    drawn = organisations(5, 3, 4_000, generator())
    # All 5 * 4 * 3 ordered subsets exist once, so each place stands 4 * 3 times in every position.
    assert len(drawn) == 60
    for position in range(3):
        assert np.bincount(drawn[:, position]).tolist() == [12] * 5


@pytest.mark.parametrize(("n", "k", "count"), [(-1, 1, 1), (5, 0, 1), (5, 1, 0)])
def test_numbers_that_are_too_small_are_refused(n, k, count):
    with pytest.raises(InvalidParameter):
        organisations(n, k, count, generator())


# --- entropy ---


@pytest.mark.parametrize("labels", [1, 2, 3, 77])
@pytest.mark.parametrize("nats", [-3.0, 0.0, -800.0])
def test_equally_likely_labels_have_the_entropy_ln_c(labels, nats):
    assert label_entropy(np.full((2, labels), nats)).tolist() == pytest.approx([math.log(labels)] * 2)


def test_two_labels_by_hand():
    # softmax(ln 3, 0) = (3/4, 1/4): H = ln 4 - 3/4 ln 3.
    expected = math.log(4) - 0.75 * math.log(3)
    assert label_entropy([[math.log(3), 0.0]])[0] == pytest.approx(expected, abs=1e-12)
    # The same after any shift.
    assert label_entropy([[math.log(3) - 50, -50.0]])[0] == pytest.approx(expected, abs=1e-12)


def test_a_label_of_no_chance_adds_nothing_and_a_single_certain_one_leaves_none():
    found = label_entropy([[-1.0, -INF], [0.0, -5_000.0], [-INF, -2.0], [-2.0, -2.0]])
    assert found[:3].tolist() == [0.0, 0.0, 0.0]
    assert found[3] == pytest.approx(math.log(2))


@pytest.mark.filterwarnings("error")
def test_what_is_not_known_is_nan_and_nothing_else_is():
    found = label_entropy([[NAN, -1.0], [-INF, -INF], [-1.0, -2.0]])
    assert np.isnan(found).tolist() == [True, True, False]
    assert label_entropy(np.empty((0, 2))).shape == (0,)


@settings(max_examples=100)
@given(data=st.data(), labels=st.integers(1, 8))
def test_labels_may_stand_in_any_order(data, labels):
    number = st.one_of(st.floats(-50, 0), st.just(-INF))
    row = data.draw(st.lists(number, min_size=labels, max_size=labels))
    order = data.draw(st.permutations(range(labels)))
    there, back = label_entropy([row, [row[place] for place in order]]).tolist()
    assert there == back or (math.isnan(there) and math.isnan(back))
    assert math.isnan(there) or 0.0 <= there <= math.log(labels) + 1e-12


@pytest.mark.filterwarnings("error")
def test_a_baseline_is_subtracted():
    # The model says "a" whatever it is asked; beyond that it leans to neither.
    assert label_entropy([[-1.0, -4.0]], [[-0.5, -3.5]])[0] == pytest.approx(math.log(2))
    # Ruled out with and without the query: still ruled out. Without it only: no number.
    found = label_entropy(
        [[-1.0, -INF], [-1.0, -2.0], [-1.0, -INF]], [[-1.0, -INF], [-1.0, -INF], [-1.0, -2.0]]
    )
    assert found[0] == 0.0
    assert math.isnan(found[1])
    assert found[2] == 0.0


@pytest.mark.parametrize(
    ("nats", "baseline"),
    [([1.0], None), (np.empty((3, 0)), None), ([[INF]], None), ([[0.0]], [[0.0, 1.0]]), ([[0.0]], [[INF]])],
)
def test_malformed_likelihoods_are_refused(nats, baseline):
    with pytest.raises(InvalidShape):
        label_entropy(nats, baseline)


# --- choice ---


def test_the_organisation_that_is_certain_wins():
    entropies = label_entropy([[-1.0, -1.0], [-1.0, -1.2], [-0.1, -9.0]])
    assert best_organisation(entropies) == 2
    assert best_organisation(entropies, "local_e") == 0


@pytest.mark.parametrize("objective", ["mdl", "local_e"])
def test_the_first_wins_a_tie_and_the_unknown_never_wins(objective):
    assert best_organisation([0.5, 0.5, 0.5], objective) == 0
    assert best_organisation([NAN, 0.5, 0.5], objective) == 1
    assert best_organisation([NAN, NAN], objective) is None
    assert best_organisation([], objective) is None


def test_one_label_keeps_the_plain_top_k():
    assert best_organisation(label_entropy([[-3.0], [-0.1], [-7.0]])) == 0


def test_malformed_choices_are_refused():
    with pytest.raises(InvalidShape):
        best_organisation([INF])
    with pytest.raises(InvalidShape):
        best_organisation([[0.1]])
    with pytest.raises(InvalidParameter, match="allowed mdl, local_e"):
        best_organisation([0.1], "entropy")  # type: ignore[arg-type]  # on purpose


# --- the method by itself ---


def test_without_likelihoods_it_is_the_plain_top_k():
    candidates = random_candidates(seed=2, n=40)
    picks = Mdl().select(candidates, 8, generator())
    assert picks.indices.tolist() == np.argsort(-candidates.relevance, kind="stable")[:8].tolist()


@pytest.mark.parametrize("given", [{"objective": "entropy"}, {"calibration": "n/a"}, {"organisations": 0}])
def test_parameters_outside_their_choices_are_refused(given):
    with pytest.raises(InvalidParameter, match=next(iter(given))):
        Mdl(**given)
