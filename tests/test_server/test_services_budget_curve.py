"""The budget curve of a plan: its points, its rivals, and the answer in one line."""

import numpy as np
import pytest

from kshot.arrays import Picks, unit_rows
from kshot.schemas.curves import BudgetCurve
from kshot.selectors import coverage_curve, random_coverage
from kshot.selectors.annotation.base import planned
from kshot.selectors.annotation.k_center import k_center
from kshot.server.services.planning import curve as module
from kshot.server.services.planning.curve import budget_curve

N = 120


@pytest.fixture(scope="module")
def vectors():
    """Twelve tight clusters of ten rows."""
    rng = np.random.default_rng(0)
    centres = unit_rows(rng.standard_normal((12, 8)))
    return unit_rows(np.repeat(centres, 10, axis=0) + 0.05 * rng.standard_normal((N, 8)))


def one_of_each_cluster(budget, labelled=()):
    """A nested plan: the first of every cluster, then the second of every cluster, ..."""
    order = np.arange(N).reshape(12, 10).T.ravel()
    order = order[~np.isin(order, labelled)][:budget]
    return planned(order, 1.0 / np.arange(1, len(order) + 1))


def test_the_points_are_those_of_the_plan_of_random_orders_and_of_k_center(vectors):
    picks = one_of_each_cluster(30)
    found = budget_curve(vectors, picks, None, method="clusters", seed=5)
    assert (found.method, found.budget, found.labelled, found.unlabelled) == ("clusters", 30, 0, N)
    assert found.rows_measured == N
    budgets = [point.budget for point in found.points]
    assert (budgets[0], budgets[-1]) == (1, 30)
    plain = coverage_curve(vectors, picks.indices, budgets)
    assert [point.mean for point in found.points] == pytest.approx(plain.mean.tolist(), abs=1e-6)
    assert [point.p10 for point in found.points] == pytest.approx(plain.p10.tolist(), abs=1e-6)
    assert found.random.seeds == 20
    drawn = random_coverage(vectors, [point.budget for point in found.random.points], 20, seed=5)
    for name in ("mean", "mean_low", "mean_high", "p10", "p10_low", "p10_high"):
        values = [getattr(point, name) for point in found.random.points]
        assert values == pytest.approx(getattr(drawn, name).tolist(), abs=1e-6)
    rival = coverage_curve(vectors, k_center(vectors, 30).indices, budgets)
    assert found.k_center is not None
    assert [point.budget for point in found.k_center] == budgets
    assert [point.mean for point in found.k_center] == pytest.approx(rival.mean.tolist(), abs=1e-6)
    sums = np.cumsum(picks.gains)
    assert [point.value for point in found.objective] == pytest.approx([sums[b - 1] for b in budgets])


def test_the_answer_is_the_first_budget_that_reaches_nine_tenths(vectors):
    found = budget_curve(vectors, one_of_each_cluster(30), None, method="clusters")
    needed = found.needed
    # Less than 12 labels leave a cluster out; the 12th comes near the last one's rows.
    whole = coverage_curve(vectors, one_of_each_cluster(30).indices).each
    assert needed.budget == next(b for b in range(1, 31) if whole[b] >= 0.9)
    assert 1 < needed.budget <= 12
    assert needed.random_budget is not None
    assert needed.random_budget > needed.budget
    assert needed.budget in [point.budget for point in found.points]
    assert needed.sentence == (
        f"{needed.budget} labels reach 90 % of the coverage of labelling everything "
        f"(random: {needed.random_budget})."
    )
    assert found.random.points[-1].budget >= needed.random_budget


def test_a_plan_that_is_too_short_is_gone_on_with(vectors):
    asked = []

    def extend(budget):
        asked.append(budget)
        return one_of_each_cluster(budget)

    whole = budget_curve(vectors, one_of_each_cluster(30), None, method="clusters")
    found = budget_curve(vectors, one_of_each_cluster(2), None, method="clusters", extend=extend)
    assert found.budget == 2
    assert found.needed.budget == whole.needed.budget
    assert found.needed.sentence == whole.needed.sentence
    assert asked == [4, 8, 16][: len(asked)]
    assert found.points[-1].budget >= (found.needed.budget or 0)
    assert 2 in [point.budget for point in found.points]
    assert found.k_center is not None
    assert [point.budget for point in found.k_center] == [1, 2]


def test_a_plan_that_cannot_go_on_says_how_far_it_comes(vectors):
    found = budget_curve(vectors, one_of_each_cluster(2), None, method="clusters")
    assert found.needed.budget is None
    assert (found.needed.tried, found.needed.random_tried >= 2) == (2, True)
    reached = int(100 * found.points[-1].mean)
    at_random = {point.budget: point.mean for point in found.random.points}
    assert found.needed.sentence == (
        f"2 labels reach {reached} % of the coverage of labelling everything "
        f"(random: {int(100 * at_random[2])} %); 90 % takes more."
    )


def test_another_plan_for_a_larger_budget_says_nothing_about_this_one(vectors):
    def other(budget):
        return planned(np.arange(budget)[::-1].copy(), np.ones(budget))

    found = budget_curve(vectors, one_of_each_cluster(2), None, method="clusters", extend=other)
    alone = budget_curve(vectors, one_of_each_cluster(2), None, method="clusters")
    assert found == alone


def test_rows_that_were_labelled_before_count(vectors):
    labelled = np.arange(0, 60, 10)
    picks = one_of_each_cluster(20, labelled)
    found = budget_curve(vectors, picks, labelled, method="clusters")
    assert (found.labelled, found.unlabelled, found.rows_measured) == (6, N - 6, N - 6)
    assert [points[0].budget for points in (found.points, found.random.points)] == [0, 0]
    assert found.points[0].mean == found.random.points[0].mean == found.random.points[0].mean_low
    assert found.objective[0].value == 0
    assert found.needed.sentence.startswith(f"{found.needed.budget} more labels reach 90 %")


def test_what_suffices_already_needs_nothing(vectors):
    found = budget_curve(
        vectors, one_of_each_cluster(3, np.arange(0, N, 10)), np.arange(0, N, 10), method="clusters"
    )
    assert found.needed.budget == found.needed.random_budget == 0
    assert found.needed.sentence == (
        "What is labelled already reaches 90 % of the coverage of labelling everything."
    )


def test_one_label_may_do():
    vectors = unit_rows(np.ones((5, 3)))
    found = budget_curve(vectors, planned([0], [5.0]), None, method="clusters")
    assert found.needed.sentence == (
        "1 label reaches 90 % of the coverage of labelling everything (random: 1)."
    )


def test_where_everything_is_labelled_there_is_nothing_to_plan(vectors):
    empty = planned([], [])
    found = budget_curve(vectors, empty, np.ones(N, bool), method="clusters", extend=one_of_each_cluster)
    assert found.needed.sentence == "Everything is labelled."
    assert [point.budget for point in found.points] == [0]
    assert found.points[0].mean == 1
    assert found.k_center is None


def test_a_large_pool_is_measured_on_a_sample_and_followed_up_to_a_limit(vectors, monkeypatch):
    monkeypatch.setattr(module, "MOST_MEASURED", 40)
    monkeypatch.setattr(module, "MOST_LABELS", 6)
    asked = []

    def extend(budget):
        asked.append(budget)
        return one_of_each_cluster(budget)

    found = budget_curve(vectors, one_of_each_cluster(4), None, method="clusters", extend=extend)
    assert found.rows_measured == 40
    assert asked == [6]
    assert found.needed.budget is None
    assert (found.needed.tried, found.needed.random_tried) == (6, 6)
    assert found.points[-1].budget == found.random.points[-1].budget == 6
    assert "6 labels reach" in found.needed.sentence
    assert found.k_center is not None
    assert found.k_center[-1].budget == 4


def test_a_plan_is_gone_on_with_only_as_far_as_the_rows_allow(vectors, monkeypatch):
    asked = []

    def extend(budget):
        asked.append(budget)
        return one_of_each_cluster(budget)

    monkeypatch.setattr(module, "MOST_STEPS", 5 * N)
    found = budget_curve(vectors, one_of_each_cluster(2), None, method="clusters", extend=extend)
    assert asked == [4, 5]
    assert (found.needed.budget, found.needed.tried) == (None, 5)
    # Random orders cost next to nothing, and are followed to the share all the same.
    assert found.needed.random_budget is not None
    asked.clear()
    assert (
        budget_curve(vectors, one_of_each_cluster(7), None, method="clusters", extend=extend).needed.tried
        == 7
    )
    assert asked == []


def test_k_center_is_left_out_where_it_would_take_too_long(vectors, monkeypatch):
    monkeypatch.setattr(module, "_K_CENTER_STEPS", N * 4 - 1)
    picks = one_of_each_cluster(4)
    assert budget_curve(vectors, picks, None, method="clusters").k_center is None
    monkeypatch.setattr(module, "_K_CENTER_STEPS", N * 4)
    assert budget_curve(vectors, picks, None, method="clusters").k_center is not None
    # k-center's own plan is there already.
    monkeypatch.setattr(module, "_K_CENTER_STEPS", 0)
    own = budget_curve(vectors, k_center(vectors, 4), None, method="k_center")
    assert own.k_center == own.points


def test_the_scouts_may_be_luckier_than_all_orders(vectors, monkeypatch):
    monkeypatch.setattr(module, "_MARGIN", 0.2)
    found = budget_curve(vectors, one_of_each_cluster(1), None, method="clusters")
    monkeypatch.undo()
    plain = budget_curve(vectors, one_of_each_cluster(1), None, method="clusters")
    assert plain.needed.random_budget is not None
    # Twice a fifth of what the scouts needed is less than what all orders need.
    assert found.needed.random_budget is None
    assert found.random.seeds == plain.random.seeds == 20


def test_gains_without_a_sum_give_no_objective(vectors):
    picks = Picks(np.arange(3), np.array([np.inf, 1.0, 1.0]), np.ones(3))
    assert budget_curve(vectors, picks, None, method="clusters").objective == []


def test_progress_never_falls_and_ends_at_the_whole(vectors):
    seen = []

    def report(done, total):
        seen.append((done, total))

    budget_curve(
        vectors, one_of_each_cluster(2), None, method="clusters", extend=one_of_each_cluster, report=report
    )
    done = [one for one, _ in seen]
    assert done == sorted(done)
    assert seen[-1] == (1000, 1000)
    assert {total for _, total in seen} == {1000}


def test_a_curve_survives_json(vectors):
    found = budget_curve(vectors, one_of_each_cluster(5), None, method="clusters")
    assert BudgetCurve.model_validate_json(found.model_dump_json()) == found


def test_the_same_seed_gives_the_same_curve(vectors):
    first, second = (
        budget_curve(vectors, one_of_each_cluster(9), None, method="clusters", seed=3) for _ in range(2)
    )
    assert first == second
