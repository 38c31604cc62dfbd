"""Coverage against the budget: every number once more, row by row."""

import itertools
import statistics
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.arrays import unit_rows
from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors.annotation import curve as module
from kshot.selectors.annotation.curve import (
    coverage_curve,
    labels_needed,
    objective_curve,
    random_coverage,
)
from kshot.selectors.annotation.measuring import as_unit_rows, coverage_sample, log_budgets
from tests.strategies import grid


def slow_best(vectors, chosen, rows):
    """Look for each row's nearest chosen row, one by one; a chosen row has itself."""
    best = []
    for i in rows:
        cosines = [1.0 if i == j else float(np.dot(vectors[i], vectors[j])) for j in chosen]
        best.append(min(1.0, max(cosines)))
    return best


def slow_tenth(values):
    """Sort, and interpolate between the two values around the place (m - 1) / 10."""
    ranked = sorted(values)
    place = (len(ranked) - 1) / 10
    low = int(place)
    high = min(low + 1, len(ranked) - 1)
    return ranked[low] + (place - low) * (ranked[high] - ranked[low])


@st.composite
def plans(draw, max_rows=9):
    n = draw(st.integers(1, max_rows))
    vectors = unit_rows(draw(grid((n, 3), -2, 2)) + np.array([0.5, 0, 0])).astype(np.float64)
    labelled = draw(grid(n, 0, 1)).astype(bool)
    open_rows = np.flatnonzero(~labelled)
    order = draw(st.permutations(open_rows.tolist()))
    return vectors, np.array(order[: draw(st.integers(0, len(order)))], np.int64), labelled


def test_three_rows_by_hand():
    # Cosines: 0-1 0.6, 1-2 0.8, 0-2 0. Row 1 first: 0.6, 1, 0.8. Then row 0: 1, 1, 0.8. Then all.
    found = coverage_curve(np.array([[1, 0], [0.6, 0.8], [0, 1]]), [1, 0, 2])
    assert found.budgets.tolist() == [1, 2, 3]
    assert found.mean.tolist() == pytest.approx([0.8, 2.8 / 3, 1.0])
    # Sorted 0.6, 0.8, 1: a tenth of the two steps is a fifth of the first; 0.8, 1, 1 likewise.
    assert found.p10.tolist() == pytest.approx([0.64, 0.84, 1.0])
    assert np.isnan(found.each[0])
    assert found.each[1:].tolist() == found.mean.tolist()
    assert found.rows_measured == 3


def test_labelled_rows_cover_before_the_first_pick_and_are_not_measured():
    vectors = np.array([[1, 0], [0.6, 0.8], [0, 1]])
    found = coverage_curve(vectors, [2], [0, 1], labelled=np.array([1]))
    assert found.mean.tolist() == pytest.approx([0.7, 0.8])
    assert found.each.tolist() == found.mean.tolist()
    assert found.rows_measured == 2
    everywhere = coverage_curve(vectors, [2], [0, 1], labelled=np.array([1]), sample=[0, 1, 2])
    assert everywhere.mean.tolist() == pytest.approx([2.4 / 3, 2.6 / 3])


@given(plan=plans(), data=st.data())
def test_a_curve_equals_looking_row_by_row(plan, data):
    vectors, order, labelled = plan
    rows = data.draw(st.lists(st.integers(0, len(vectors) - 1), min_size=1, unique=True))
    start = 0 if labelled.any() else 1
    budgets = np.arange(start, len(order) + 1)
    found = coverage_curve(vectors, order, budgets, labelled=labelled, sample=rows)
    assert len(found.each) == len(order) + 1
    for place, budget in enumerate(budgets.tolist()):
        chosen = [*np.flatnonzero(labelled).tolist(), *order[:budget].tolist()]
        best = slow_best(vectors, chosen, rows)
        assert found.mean[place] == pytest.approx(statistics.mean(best), abs=1e-6)
        assert found.p10[place] == pytest.approx(slow_tenth(best), abs=1e-6)
        assert found.each[budget] == found.mean[place]


@given(plan=plans())
def test_coverage_never_falls_and_labelling_everything_gives_exactly_one(plan):
    vectors, order, labelled = plan
    rest = np.setdiff1d(np.flatnonzero(~labelled), order)
    found = coverage_curve(vectors, np.concatenate([order, rest]), labelled=labelled)
    for before, after in itertools.pairwise(range(len(found.budgets))):
        assert found.mean[before] <= found.mean[after]
        assert found.p10[before] <= found.p10[after]
    assert found.each[-1] == 1
    if len(found.budgets):
        assert (found.mean[-1], found.p10[-1]) == (1, 1)


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(5)
    vectors = unit_rows(rng.standard_normal((60, 7)))
    order, labelled = rng.permutation(60)[:25], np.array([3, 50, 51])
    order = np.setdiff1d(order, labelled)
    arguments: dict[str, Any] = {"labelled": labelled, "sample": np.arange(0, 60, 2)}
    whole = coverage_curve(vectors, order, **arguments)
    at_random = random_coverage(vectors, [1, 7, 20], 6, **arguments)
    monkeypatch.setattr(module, "_BLOCK", 1)
    monkeypatch.setattr(module, "_NARROWEST", 4)
    monkeypatch.setattr(module, "_KEPT", 200)
    seen = []
    parts = coverage_curve(vectors, order, **arguments, report=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 30) for done in (4, 8, 12, 16, 20, 24, 28, 30)]
    seen.clear()
    random_parts = random_coverage(
        vectors, [1, 7, 20], 6, **arguments, report=lambda done, total: seen.append((done, total))
    )
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (180, 180)
    for name in ("mean", "p10", "each"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=0, atol=1e-6)
        np.testing.assert_allclose(getattr(random_parts, name), getattr(at_random, name), rtol=0, atol=1e-6)


def test_raising_in_the_report_stops():
    class Stop(Exception):
        pass

    def stop(done, total):
        raise Stop

    with pytest.raises(Stop):
        coverage_curve(np.eye(3), [0], report=stop)


def test_random_coverage_is_that_of_its_orders():
    rng = np.random.default_rng(1)
    vectors = unit_rows(rng.standard_normal((40, 5)))
    labelled = np.array([0, 9])
    found = random_coverage(vectors, [0, 2, 11, 38], seeds=7, labelled=labelled, seed=3)
    left = np.setdiff1d(np.arange(40), labelled)
    curves = []
    for number in range(7):
        order = np.random.Generator(np.random.PCG64([3, number])).permutation(left)
        curves.append(coverage_curve(vectors, order, [0, 2, 11, 38], labelled=labelled))
    for name in ("mean", "p10"):
        values = np.array([getattr(curve, name) for curve in curves])
        np.testing.assert_allclose(getattr(found, name), values.mean(axis=0), atol=1e-6)
        for place in range(4):
            # Quantiles of seven values: a tenth of six steps lies between the first and the second.
            ranked = sorted(values[:, place])
            low = ranked[0] + 0.6 * (ranked[1] - ranked[0])
            high = ranked[6] - 0.6 * (ranked[6] - ranked[5])
            assert getattr(found, f"{name}_low")[place] == pytest.approx(low, abs=1e-6)
            assert getattr(found, f"{name}_high")[place] == pytest.approx(high, abs=1e-6)
    np.testing.assert_allclose(found.each, np.mean([curve.each for curve in curves], axis=0), atol=1e-6)
    assert (found.seeds, found.rows_measured) == (7, 38)


def test_the_same_seed_gives_the_same_random_coverage_and_another_does_not():
    vectors = unit_rows(np.random.default_rng(2).standard_normal((30, 4)))
    first, second, other = (random_coverage(vectors, [1, 5], 3, seed=seed).mean for seed in (4, 4, 5))
    assert first.tolist() == second.tolist()
    assert first.tolist() != other.tolist()


def test_labels_needed_is_the_first_budget_that_reaches_the_share():
    rng = np.random.default_rng(8)
    vectors = unit_rows(rng.standard_normal((50, 4)))
    order = rng.permutation(50)
    found = coverage_curve(vectors, order, [1, 50])
    for share in (0.5, 0.7, 0.9, 0.97, 1.0):
        reached = [
            budget
            for budget in range(1, 51)
            if statistics.mean(slow_best(vectors, order[:budget], range(50))) >= share - 1e-7
        ]
        assert labels_needed(found, share) == reached[0]


def test_labels_needed_may_be_none_at_all_or_more_than_there_are_picks():
    vectors = np.array([[1, 0], [0.6, 0.8], [0, 1]])
    assert labels_needed(coverage_curve(vectors, [1]), 0.81) is None
    assert labels_needed(coverage_curve(vectors, [1]), 0.8) == 1
    assert labels_needed(coverage_curve(vectors, [], labelled=np.array([1])), 0.7) == 0
    assert labels_needed(random_coverage(np.eye(4), [1, 4], 2), 1.0) == 4


@pytest.mark.parametrize("share", [0.0, 1.01, -1.0, float("nan")])
def test_a_share_is_above_nothing_and_at_most_all(share):
    with pytest.raises(InvalidParameter, match="share is"):
        labels_needed(coverage_curve(np.eye(2), [0]), share)


def test_the_objective_is_the_sum_of_gains():
    assert objective_curve([3.0, 1.0, 0.5], [0, 1, 3]).tolist() == [0.0, 3.0, 4.5]
    with pytest.raises(InvalidParameter):
        objective_curve([1.0], [2])
    with pytest.raises(InvalidShape):
        objective_curve([np.nan], [1])


@given(end=st.integers(0, 5000), count=st.integers(2, 40))
def test_budgets_start_at_one_end_at_the_end_and_are_about_as_many_as_asked(end, count):
    found = log_budgets(end, count).tolist()
    assert found == sorted(set(found))
    if end <= count:
        assert found == list(range(1, end + 1))
    else:
        assert (found[0], found[-1]) == (1, end)
        assert count <= len(found) <= count + 2


def test_the_sample_is_of_rows_that_are_not_labelled():
    assert coverage_sample(5, labelled=np.array([1, 3])).tolist() == [0, 2, 4]
    assert coverage_sample(3, labelled=np.ones(3, bool)).tolist() == [0, 1, 2]
    drawn = coverage_sample(1000, labelled=np.arange(500), most=100, seed=1)
    assert len(np.unique(drawn)) == len(drawn) == 100
    assert drawn.min() >= 500
    assert drawn.tolist() == coverage_sample(1000, labelled=np.arange(500), most=100, seed=1).tolist()
    assert drawn.tolist() != coverage_sample(1000, labelled=np.arange(500), most=100, seed=2).tolist()


def test_every_row_is_as_likely_in_the_sample_as_any_other():
    counts = np.zeros(20)
    for seed in range(2000):
        counts[coverage_sample(20, most=5, seed=seed)] += 1
    # Six standard deviations of a binomial with 2,000 draws of 1/4.
    assert np.abs(counts - 500).max() < 6 * np.sqrt(2000 * 0.25 * 0.75)


def test_unit_rows_pass_as_they_are_and_others_are_scaled():
    unit = unit_rows(np.random.default_rng(0).standard_normal((5, 3)))
    assert as_unit_rows(unit) is unit
    np.testing.assert_allclose(as_unit_rows(unit * np.float32(7)), unit, rtol=1e-6)
    assert coverage_curve(unit * 7, [0, 1]).mean.tolist() == pytest.approx(
        coverage_curve(unit, [0, 1]).mean.tolist()
    )


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"vectors": [[1.0, 0.0], [0.0, 0.0]]}, "row 1 has length zero"),
        ({"vectors": [[1.0, np.nan], [0.0, 1.0]]}, "only finite"),
        ({"vectors": np.empty((0, 2)), "order": []}, "no rows"),
        ({"vectors": [1.0, 0.0]}, "vectors has shape"),
        ({"order": [2]}, "order names rows 2 to 2, allowed 0 to 1"),
        ({"order": [0.5]}, "order has dtype float64"),
        ({"sample": []}, "sample names no rows"),
        ({"labelled": np.array([True])}, "labelled has shape"),
    ],
)
def test_what_is_no_pool_is_refused(arguments, problem):
    with pytest.raises(InvalidShape, match=problem):
        coverage_curve(**{"vectors": np.eye(2), "order": [0], **arguments})


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"order": [0, 0]}, "order names a row twice"),
        ({"sample": [1, 1]}, "sample names a row twice"),
        ({"budgets": [0, 1]}, "allowed ascending from 1 to 1"),
        ({"budgets": [2]}, "allowed ascending from 1 to 1"),
        ({"budgets": [1, 1]}, "allowed ascending"),
        ({"labelled": np.array([1]), "budgets": [-1]}, "allowed ascending from 0 to 1"),
    ],
)
def test_senseless_numbers_are_refused(arguments, problem):
    with pytest.raises(InvalidParameter, match=problem):
        coverage_curve(**{"vectors": np.eye(2), "order": [0], **arguments})
    with pytest.raises(InvalidParameter):
        random_coverage(np.eye(2), [1], 0)
    with pytest.raises(InvalidParameter):
        random_coverage(np.eye(2), [3])
    with pytest.raises(InvalidParameter):
        log_budgets(9, 1)
    with pytest.raises(InvalidParameter):
        coverage_sample(9, most=0)


def test_a_plan_without_picks_says_what_is_there_already():
    found = coverage_curve(np.eye(2), [], labelled=np.array([0, 1]))
    assert found.budgets.tolist() == []
    assert found.each.tolist() == [1.0]
