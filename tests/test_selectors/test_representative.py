"""Facility location."""

import itertools
import math

import numpy as np
import pytest

from kshot.arrays import unit_rows
from kshot.errors import InvalidParameter
from kshot.selectors.representative import facility_location


def represented(vectors, rows):
    likeness = np.maximum(vectors @ vectors[list(rows)].T, 0.0)
    return likeness.max(axis=1).sum()


def sphere(seed, n, d=3):
    return unit_rows(np.random.default_rng(seed).standard_normal((n, d))).astype(np.float64)


def test_two_groups_are_represented_by_one_row_each():
    vectors = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    picks = facility_location(vectors, 2)
    assert picks.indices.tolist() == [1, 0]
    assert picks.gains.tolist() == [3.0, 2.0]


@pytest.mark.parametrize("seed", range(10))
def test_picks_equal_greedy_from_scratch_and_reach_their_share_of_the_optimum(seed):
    vectors = sphere(seed, 12)
    picks = facility_location(vectors, 3).indices.tolist()
    greedy: list[int] = []
    for _ in range(3):
        left = [i for i in range(12) if i not in greedy]
        greedy.append(max(left, key=lambda i: represented(vectors, [*greedy, i])))
    assert picks == greedy
    optimum = max(represented(vectors, rows) for rows in itertools.combinations(range(12), 3))
    assert represented(vectors, picks) >= (1 - 1 / math.e) * optimum


def test_gains_never_rise_and_add_up():
    vectors = sphere(3, 60, d=8)
    picks = facility_location(vectors, 20)
    assert (np.diff(picks.gains) <= 1e-9).all()
    assert picks.gains.sum() == pytest.approx(represented(vectors, picks.indices))


def test_identical_rows_are_picked_by_row_number():
    picks = facility_location(np.tile([[1.0, 0.0]], (5, 1)), 9)
    assert picks.indices.tolist() == [0, 1, 2, 3, 4]
    assert picks.gains.tolist() == [5.0, 0.0, 0.0, 0.0, 0.0]


def test_a_budget_of_nothing_is_refused():
    with pytest.raises(InvalidParameter, match="k is 0"):
        facility_location(np.eye(2), 0)
