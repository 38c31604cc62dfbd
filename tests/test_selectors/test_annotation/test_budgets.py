"""Budgets divided among strata, and spent on rows of different cost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.errors import InvalidParameter
from kshot.selectors.annotation.budgets import affordable, stratum_order

COUNTS = st.lists(st.integers(0, 12), min_size=1, max_size=6)


def test_every_stratum_comes_once_before_any_comes_twice_and_then_in_proportion():
    # 60 : 30 : 10 of 10: priorities after one each are 60/sqrt 2 = 42.4, 21.2, 7.1; then 24.5, 17.3, 13.4 ...
    order = stratum_order([60, 30, 10], 10)
    assert order.tolist() == [0, 1, 2, 0, 0, 1, 0, 0, 1, 0]
    assert np.bincount(order).tolist() == [6, 3, 1]


def test_wanted_shares_replace_sizes():
    assert np.bincount(stratum_order([100, 100], 8, shares=[3, 1])).tolist() == [6, 2]


def test_a_stratum_that_is_used_up_leaves_its_share_to_the_others():
    assert np.bincount(stratum_order([2, 100], 10, shares=[1, 1])).tolist() == [2, 8]


def test_a_stratum_without_a_share_comes_last():
    assert stratum_order([2, 3], 5, shares=[0, 1]).tolist() == [1, 1, 1, 0, 0]


def test_an_empty_stratum_gives_nothing():
    assert stratum_order([0, 2], 5).tolist() == [1, 1]
    assert stratum_order([0, 0], 5).tolist() == []


@given(COUNTS, st.integers(1, 60))
def test_quotas_stay_within_strata_and_never_shrink(counts, budget):
    order = stratum_order(counts, budget)
    quotas = np.bincount(order, minlength=len(counts))
    assert len(order) == min(budget, sum(counts))
    assert (quotas <= counts).all()
    assert stratum_order(counts, budget + 1)[: len(order)].tolist() == order.tolist()
    present = np.count_nonzero(counts)
    if len(order) >= present:
        assert (quotas[np.array(counts) > 0] >= 1).all()


def exhaustive_quotas(counts, budget):
    """Give seats one at a time, trying every stratum: the definition of equal proportions."""
    quotas = [0] * len(counts)
    for _ in range(min(budget, sum(counts))):
        best, best_value = -1, None
        for s, count in enumerate(counts):
            if quotas[s] < count:
                q = quotas[s]
                value = (float("inf"), count) if q == 0 else (count / (q * (q + 1)) ** 0.5, count)
                if best_value is None or value > best_value:
                    best, best_value = s, value
        quotas[best] += 1
    return quotas


@given(COUNTS, st.integers(1, 60))
def test_quotas_are_equal_proportions(counts, budget):
    order = stratum_order(counts, budget)
    assert np.bincount(order, minlength=len(counts)).tolist() == exhaustive_quotas(counts, budget)


def test_what_is_too_dear_is_passed_over():
    assert affordable([3, 4, 2, 1, 1], 6).tolist() == [True, False, True, True, False]
    assert affordable([0, 0], 0).tolist() == [True, True]
    assert affordable([], 5).tolist() == []


@given(st.lists(st.floats(0, 10), max_size=20), st.floats(0, 40))
def test_the_budget_holds_and_nothing_that_fits_at_the_end_is_left(costs, max_cost):
    taken = affordable(costs, max_cost)
    spent = 0.0
    for cost, is_taken in zip(costs, taken.tolist(), strict=True):
        assert is_taken == (spent + cost <= max_cost)
        spent += cost * is_taken
    assert spent <= max_cost


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stratum_order([1], 0), "budget is 0"),
        (lambda: stratum_order([1, -1], 1), r"counts\[1\] is -1"),
        (lambda: stratum_order([1, 1], 1, shares=[-2, 1]), r"shares\[0\] is -2"),
        (lambda: affordable([1, -3], 1), r"costs\[1\] is -3"),
    ],
)
def test_senseless_numbers_are_refused(call, message):
    with pytest.raises(InvalidParameter, match=message):
        call()
