"""Facility location: against its definition, an exhaustive optimum and its invariants."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.arrays import unit_rows
from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors import facility_location


def value(vectors, chosen):
    """The objective as the docstring defines it."""
    return sum(max(0.0, *(float(row @ vectors[s]) for s in chosen)) for row in vectors)


@st.composite
def unit_sets(draw, max_size=7):
    n = draw(st.integers(1, max_size))
    rows = draw(st.lists(st.tuples(*[st.integers(-3, 3)] * 3), min_size=n, max_size=n))
    return unit_rows([row if any(row) else (1, 0, 0) for row in rows]).astype(np.float64)


def test_the_one_that_stands_for_most_comes_first():
    angles = np.deg2rad([0, 10, 20, 90, 180])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    picks = facility_location(vectors, 3)
    # 20 degrees stands for the crowd and a little for 90; then the row at 180 stands alone.
    assert picks.indices.tolist() == [2, 4, 3]
    cos = {degrees: np.cos(np.deg2rad(degrees)) for degrees in (10, 20, 70)}
    assert picks.gains.tolist() == pytest.approx([cos[20] + cos[10] + 1 + cos[70], 1, 1 - cos[70]])


@given(vectors=unit_sets(), budget=st.integers(1, 8))
def test_each_pick_gains_most_and_gains_fall(vectors, budget):
    picks = facility_location(vectors, budget)
    chosen: list[int] = []
    for index, gain in zip(picks.indices.tolist(), picks.gains.tolist(), strict=True):
        before = value(vectors, chosen) if chosen else 0.0
        left = [i for i in range(len(vectors)) if i not in chosen]
        best = max(value(vectors, [*chosen, i]) for i in left) - before
        assert value(vectors, [*chosen, index]) - before == pytest.approx(best, abs=1e-9)
        assert gain == pytest.approx(best, abs=1e-9)
        chosen.append(index)
    assert len(chosen) == min(budget, len(vectors))
    assert all(after <= before + 1e-9 for before, after in itertools.pairwise(picks.gains))


@given(vectors=unit_sets(max_size=6), budget=st.integers(1, 3))
def test_the_choice_is_near_the_best(vectors, budget):
    picks = facility_location(vectors, budget)
    sets = itertools.combinations(range(len(vectors)), min(budget, len(vectors)))
    best = max(value(vectors, chosen) for chosen in sets)
    assert value(vectors, picks.indices.tolist()) >= (1 - 1 / np.e) * best - 1e-9


@given(vectors=unit_sets(), budget=st.integers(1, 6))
def test_a_larger_budget_goes_on_where_a_smaller_ends(vectors, budget):
    small, large = facility_location(vectors, budget), facility_location(vectors, budget + 1)
    assert large.indices[: len(small)].tolist() == small.indices.tolist()


def test_equal_rows_are_taken_in_their_order():
    rng = np.random.default_rng(3)
    crowd = np.repeat(unit_rows(rng.standard_normal((5, 64))).astype(np.float64), 40, axis=0)
    picks = facility_location(crowd, 200).indices.tolist()
    assert sorted(picks[:5]) == [0, 40, 80, 120, 160]
    assert picks[5:] == [i for i in range(200) if i % 40]


def test_fewer_rows_than_wanted_are_all_taken():
    assert sorted(facility_location(np.eye(3), 9).indices.tolist()) == [0, 1, 2]
    assert len(facility_location(np.empty((0, 4)), 2)) == 0


def test_what_makes_no_sense_is_refused():
    with pytest.raises(InvalidParameter):
        facility_location(np.eye(2), 0)
    with pytest.raises(InvalidShape):
        facility_location([1.0, 2.0], 1)
    with pytest.raises(InvalidShape):
        facility_location([[np.nan, 1.0]], 1)
