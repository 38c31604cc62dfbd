"""Token budgets."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors import PackingPolicy, pack, prompt_order

LENGTHS = [40, 90, 10, 30, 30]
RELEVANCE = [0.5, 0.9, 0.1, 0.8, 0.5]

picks_and_budget = st.tuples(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 4)), max_size=10), st.integers(0, 150)
)


def kept(policy, budget, *, lengths=LENGTHS, relevance=None):
    return pack(policy, lengths, budget, relevance=relevance).tolist()


@pytest.mark.parametrize(
    ("policy", "budget", "expected"),
    [
        ("prefix_stop", 140, [0, 1, 2]),
        ("prefix_stop", 139, [0, 1]),
        ("prefix_stop", 39, []),
        ("prefix_skip", 100, [0, 2, 3]),
        ("prefix_skip", 110, [0, 2, 3, 4]),
        ("rank_prefix", 121, [1, 3]),
        ("rank_prefix", 120, [1]),
        ("drop_farthest", 120, [1, 3]),
        ("drop_farthest", 119, [1]),
        ("knapsack", 109, [0, 3, 4]),
        ("knapsack", 110, [0, 2, 3, 4]),
        ("knapsack", 90, [2, 3, 4]),
        ("knapsack", 40, [2, 3]),
        ("knapsack", 39, [3]),
        ("knapsack", 9, []),
    ],
)
def test_fixed_lengths_by_hand(policy, budget, expected):
    assert kept(policy, budget, relevance=RELEVANCE) == expected


def test_without_relevance_earlier_picks_count_as_nearer():
    assert kept("drop_farthest", 140) == [0, 1, 2]
    assert kept("rank_prefix", 140) == [0, 1]
    # 5 / 40, 4 / 90, 3 / 10, 2 / 30, 1 / 30 a token.
    assert kept("knapsack", 80) == [0, 2, 3]


def test_of_equally_relevant_picks_the_one_farther_in_the_prompt_is_dropped():
    assert kept("drop_farthest", 160, relevance=RELEVANCE) == [1, 3, 4]
    assert kept("rank_prefix", 161, relevance=RELEVANCE) == [0, 1, 3]


@given(case=picks_and_budget, policy=st.sampled_from(list(PackingPolicy)))
def test_no_policy_exceeds_the_budget(case, policy):
    picks, budget = case
    lengths = np.array([length for length, _ in picks], dtype=np.int64)
    positions = pack(policy, lengths, budget, relevance=[score for _, score in picks])
    assert lengths[positions].sum() <= budget
    assert (np.diff(positions) > 0).all()
    assert positions.dtype == np.int64


@given(case=picks_and_budget)
def test_prefix_stop_keeps_the_longest_prefix_that_fits(case):
    picks, budget = case
    lengths = [length for length, _ in picks]
    positions = kept("prefix_stop", budget, lengths=lengths)
    assert positions == list(range(len(positions)))
    assert len(positions) == len(lengths) or sum(lengths[: len(positions) + 1]) > budget


@given(case=picks_and_budget)
def test_prefix_skip_leaves_no_pick_out_that_would_have_fitted_in_its_turn(case):
    picks, budget = case
    lengths = [length for length, _ in picks]
    positions = kept("prefix_skip", budget, lengths=lengths)
    for position in set(range(len(lengths))) - set(positions):
        assert sum(lengths[p] for p in positions if p < position) + lengths[position] > budget


@given(case=picks_and_budget)
def test_rank_prefix_stays_below_the_budget_as_searchsorted_does(case):
    picks, budget = case
    lengths = np.array([length for length, _ in picks], dtype=np.int64)
    relevance = np.array([score for _, score in picks])
    ranked = np.argsort(-relevance, kind="stable")
    count = np.searchsorted(np.cumsum(lengths[ranked]), budget)
    assert kept("rank_prefix", budget, lengths=lengths, relevance=relevance) == sorted(
        ranked[:count].tolist()
    )


@given(case=picks_and_budget)
def test_knapsack_reaches_half_of_the_best_sum(case):
    picks, budget = case
    positions = kept("knapsack", budget, lengths=[a for a, _ in picks], relevance=[b for _, b in picks])
    subsets = (s for m in range(len(picks) + 1) for s in itertools.combinations(picks, m))
    best = max(sum(b for _, b in s) for s in subsets if sum(a for a, _ in s) <= budget)
    assert best / 2 <= sum(picks[i][1] for i in positions) <= best


def test_knapsack_takes_the_one_good_pick_that_cheap_ones_would_keep_out():
    assert kept("knapsack", 100, lengths=[1, 100], relevance=[0.02, 1.0]) == [1]


def test_knapsack_keeps_a_pick_of_no_relevance_that_fits_beside_the_others():
    assert kept("knapsack", 30, lengths=[10, 10, 11], relevance=[-0.5, 0.2, 0.0]) == [0, 1]
    assert kept("knapsack", 31, lengths=[10, 10, 11, 0], relevance=[-0.5, 0.2, 0.0, -1.0]) == [0, 1, 2, 3]


@given(case=picks_and_budget)
def test_drop_farthest_is_the_end_of_the_prompt(case):
    picks, budget = case
    lengths, relevance = [length for length, _ in picks], [score for _, score in picks]
    prompt = prompt_order("nearest_last", relevance).tolist()
    while sum(lengths[i] for i in prompt) > budget:
        prompt.pop(0)
    assert kept("drop_farthest", budget, lengths=lengths, relevance=relevance) == sorted(prompt)


@pytest.mark.parametrize("policy", list(PackingPolicy))
def test_nothing_to_pack_is_valid(policy):
    assert kept(policy, 0, lengths=[]) == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("best_fit", [1], 5), InvalidParameter, "policy is 'best_fit', allowed prefix_stop"),
        (("prefix_stop", [1], -5), InvalidParameter, "budget is -5"),
        (("prefix_stop", [1, -1], 5), InvalidParameter, "lengths go down to -1"),
        (("prefix_stop", [[1]], 5), InvalidShape, "lengths has shape"),
    ],
)
def test_senseless_input_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        pack(*arguments)


def test_relevances_must_be_as_many_as_lengths():
    with pytest.raises(InvalidShape, match="relevance has shape"):
        pack("rank_prefix", [1, 2], 5, relevance=[1.0])
