"""Costs and quality: a dial per request that changes nothing that was learnt, and a budget."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.errors import InvalidParameter, InvalidShape, StateCorrupt
from kshot.selectors.bandits import POLICIES, Situation, outcomes
from kshot.selectors.bandits.costs import (
    CostBook,
    affordable,
    budget_threshold,
    cost_penalties,
    length_bucket,
)
from kshot.selectors.bandits.snapshots import Snapshot, to_bytes

INTERCEPT = np.array([1.0])


def learnt(policy):
    """Quality .8 of arm a and .7 of arm b, a hundred outcomes each."""
    arms, rewards = ["a"] * 100 + ["b"] * 100, np.repeat([0.8, 0.7], 100)
    return policy.fold(policy.init(1), outcomes(arms, np.tile(INTERCEPT, (200, 1)), rewards))


def shares(policy, state, price):
    penalties = cost_penalties([10.0, 1.0], price, reference=5.0)
    return policy.choose(state, Situation(("a", "b"), INTERCEPT, penalties)).probabilities


@pytest.mark.parametrize("name", ["square_cb", "lin_thompson", "lin_ucb", "epsilon_greedy", "rff_thompson"])
def test_the_dial_turns_from_the_better_arm_to_the_cheaper_one(name):
    policy = POLICIES.get(name)()
    state = learnt(policy)
    before = state.to_bytes()
    prices = [0.0, 0.01, 0.03, 0.05, 0.06, 0.1, 0.5, 10.0]
    spent = [float(shares(policy, state, price) @ [10.0, 1.0]) for price in prices]
    assert spent == sorted(spent, reverse=True)
    # .1 of quality is what 9 / 5 of the reference costs at a price of .0556.
    assert shares(policy, state, 0.0).argmax() == 0
    assert shares(policy, state, 10.0).argmax() == 1
    assert shares(policy, state, 0.05).argmax() == 0
    assert shares(policy, state, 0.06).argmax() == 1
    assert state.to_bytes() == before


def test_means_are_by_arm_and_length():
    book = CostBook()
    for arm, tokens, cost in (("a", 10, 1.0), ("a", 12, 3.0), ("a", 100, 8.0), ("b", 10, 0.5)):
        book = book.with_cost(arm, length_bucket(tokens), cost)
    assert book.expected(["a", "b"], length_bucket(15)).tolist() == [2.0, 0.5]
    assert book.expected(["a"], length_bucket(100)).tolist() == [8.0]
    # Unknown lengths have the arm's mean, unknown arms that of all costs.
    assert book.expected(["a", "b", "new"], 0).tolist() == [4.0, 0.5, 3.125]
    assert book.reference == 3.125
    assert (CostBook().expected(["a"], 3).tolist(), CostBook().reference) == ([0.0], 1.0)


def test_lengths_double_from_bucket_to_bucket():
    assert [length_bucket(n) for n in (0, 1, 2, 3, 4, 7, 8, 1000)] == [0, 1, 2, 2, 3, 3, 4, 10]


COSTS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.floats(0, 1e9) | st.sampled_from([0.1, 0.2, 0.3]))
)


@given(COSTS, st.randoms(use_true_random=False), st.integers(0, 20))
def test_order_and_parts_do_not_matter(costs, random, cut):
    def booked(some):
        book = CostBook()
        for one in some:
            book = book.with_cost(*one)
        return book

    whole = booked(costs)
    shuffled = random.sample(costs, len(costs))
    assert booked(shuffled).to_bytes() == whole.to_bytes()
    assert booked(costs[:cut]).merge(booked(costs[cut:])).to_bytes() == whole.to_bytes()
    assert CostBook.from_bytes(whole.to_bytes()) == whole
    empty = whole
    for one in shuffled:
        empty = empty.with_cost(*one, count=-1)
    assert empty == CostBook()


def test_a_damaged_book_is_refused():
    blob = bytearray(CostBook().with_cost("a", 1, 2.0).to_bytes())
    blob[20] ^= 1
    with pytest.raises(StateCorrupt):
        CostBook.from_bytes(bytes(blob))
    with pytest.raises(StateCorrupt, match="other"):
        CostBook.from_bytes(to_bytes(Snapshot("other", 1, {}, [])))


def test_the_threshold_rises_from_a_third_of_the_low_end_to_the_high_end():
    found = [budget_threshold(z, 0.1, 1.0) for z in (0, 0.25, 0.5, 0.75, 1)]
    np.testing.assert_allclose(found, [0.0368, 0.0840, 0.1918, 0.4380, 1.0], atol=5e-5)
    by_formula = [(1.0 * math.e / 0.1) ** z * 0.1 / math.e for z in (0, 0.3, 0.9)]
    np.testing.assert_allclose([budget_threshold(z, 0.1, 1.0) for z in (0, 0.3, 0.9)], by_formula, rtol=1e-12)
    assert budget_threshold(1.01, 0.1, 1.0) == math.inf


def test_arms_that_are_worth_their_cost_are_kept():
    # Rewards per cost: .08, .7, 5 and one that is free.
    rewards, costs = [0.8, 0.7, 0.5, 0.0], [10.0, 1.0, 0.1, 0.0]
    assert affordable(rewards, costs, 0.0368).tolist() == [True] * 4
    assert affordable(rewards, costs, 0.5).tolist() == [False, True, True, True]
    assert affordable(rewards, costs, math.inf).tolist() == [False, False, False, True]


@given(
    st.lists(st.tuples(st.floats(0, 1), st.sampled_from([0.5, 1.0, 2.0])), min_size=1, max_size=6),
    st.floats(0, 3),
)
def test_one_arm_is_always_left(arms, spent):
    rewards, costs = np.array(arms).T
    kept = affordable(rewards, costs, budget_threshold(spent, 0.1, 1.0))
    assert kept.any()
    assert kept[costs == costs.min()].any()
    # The more is spent, the fewer are left.
    later = affordable(rewards, costs, budget_threshold(spent + 0.1, 0.1, 1.0))
    assert not (later & ~kept).any()


def test_of_the_cheapest_the_better_one_is_kept():
    assert affordable([0.1, 0.3, 0.3], [1.0, 1.0, 1.0], math.inf).tolist() == [False, True, False]


def test_a_budget_lasts():
    """Spending by the threshold ends at the budget and never beyond it, and buys more than the dear arm."""
    rng = np.random.default_rng(0)
    budget, spent, earned = 200.0, 0.0, 0.0
    for _ in range(1_000):
        rewards, costs = rng.uniform(0.2, 1.0, 2), np.array([1.0, 0.02])
        kept = affordable(rewards, costs, budget_threshold(spent / budget, 0.1, 1.0))
        arm = int(np.argmax(np.where(kept, rewards, -1)))
        spent, earned = spent + costs[arm], earned + rewards[arm]
    assert spent <= budget + 1_000 * 0.02
    assert earned > 0.6 * 1_000


@pytest.mark.parametrize(
    "call",
    [
        lambda: length_bucket(-1),
        lambda: CostBook().with_cost("a", 1, -1.0),
        lambda: CostBook().with_cost("a", 1, math.nan),
        lambda: CostBook().with_cost("a", 1, 1.0, count=2),
        lambda: cost_penalties([-1.0], 1.0, 1.0),
        lambda: cost_penalties([1.0], -1.0, 1.0),
        lambda: cost_penalties([1.0], math.nan, 1.0),
        lambda: cost_penalties([1.0], 1.0, 0.0),
        lambda: budget_threshold(-0.1, 0.1, 1.0),
        lambda: budget_threshold(math.nan, 0.1, 1.0),
        lambda: budget_threshold(0.5, 0.0, 1.0),
        lambda: budget_threshold(0.5, 2.0, 1.0),
    ],
)
def test_what_makes_no_sense_is_refused(call):
    with pytest.raises(InvalidParameter):
        call()
    with pytest.raises(InvalidShape):
        cost_penalties([math.nan], 1.0, 1.0)
    with pytest.raises(InvalidShape):
        affordable([1.0, 2.0], [1.0], 1.0)
