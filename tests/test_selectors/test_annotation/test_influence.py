"""Influence maximisation: against every world of small graphs, and its bounds against every choice."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.selectors.annotation import influence as module
from kshot.selectors.annotation.influence import _greedy_cover, _guarantee, maximise_influence
from tests.oracles import influence
from tests.test_selectors.test_annotation.graphs import Reports, Stopped
from tests.test_selectors.test_annotation.test_reachable_sets import EDGES, as_lists, draw, matrix

NONE = np.zeros(12, bool)


def test_the_hub_of_a_star_comes_first_and_reaches_all():
    star = matrix([(4, leaf, 1.0) for leaf in range(9) if leaf != 4], 9)
    picks = maximise_influence(star, 3, np.zeros(9, bool))
    # Then nothing is left to gain, and rows follow in their order.
    assert picks.indices.tolist() == [4, 0, 1]
    assert picks.gains.tolist() == [9, 0, 0]
    assert picks.diagnostics["influence"] == 9
    assert picks.diagnostics["standard_error"] == 0
    # All 4,096 sets are covered; by hand: (sqrt(4096 + 1.576) - sqrt(3.545))^2 - 0.394 = 3859.6 of
    # (sqrt(4096 + 3.545) + sqrt(3.545))^2 = 4344.2.
    assert picks.diagnostics["sets"] == 4_096
    assert picks.diagnostics["guarantee"] == pytest.approx(3859.6 / 4344.2, rel=1e-4)


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_three_picks_come_near_the_best_three(data):
    pairs = st.tuples(st.integers(0, 14), st.integers(0, 14))
    drawn = data.draw(st.sets(pairs.filter(lambda pair: pair[0] != pair[1]), min_size=1, max_size=9))
    edges = [(i, j, data.draw(st.sampled_from([0.2, 0.5, 0.9, 1.0]))) for i, j in sorted(drawn)]
    true = influence(edges, 15)
    picks = maximise_influence(matrix(edges, 15), 3, np.zeros(15, bool))
    best = max(true(rows) for rows in itertools.combinations(range(15), 3))
    reached = true(picks.indices.tolist())
    assert reached >= (1 - 1 / np.e) * best
    # What is said of the plan is true of it: within five standard errors, and at least as good as guaranteed.
    error = max(picks.diagnostics["standard_error"], 1e-9)
    assert picks.diagnostics["influence"] == pytest.approx(reached, abs=5 * error)
    assert reached >= picks.diagnostics["guarantee"] * best


def test_gains_add_up_to_the_influence():
    picks = maximise_influence(matrix(EDGES, 12), 12, NONE)
    true = influence(EDGES, 12)
    assert sorted(picks.indices.tolist()) == list(range(12))
    assert picks.gains.sum() == pytest.approx(12)
    assert (np.diff(picks.gains) <= 0).all()
    # 4,096 sets: a standard error of at most 12 * 0.5 / 64.
    for size in range(1, 12):
        assert picks.gains[:size].sum() == pytest.approx(true(picks.indices[:size].tolist()), abs=5 * 0.094)


def test_picks_cover_greedily():
    sets = draw(EDGES, 12, 300, seed=7)
    left = as_lists(sets)
    cover = _greedy_cover(sets, NONE, 12, {1, 2, 3})
    chosen: list[int] = []
    for row, newly in zip(cover.order.tolist(), cover.newly.tolist(), strict=True):
        counts = {i: sum(i in members for members in left) for i in range(12) if i not in chosen}
        best = max(counts.values())
        assert (row, newly) == (min(i for i in counts if counts[i] == best), best)
        left = [members for members in left if row not in members]
        chosen.append(row)


@pytest.mark.parametrize("labelled", [[], [0], [3, 6]])
def test_no_choice_covers_more_than_the_bound(labelled):
    sets = draw(EDGES, 12, 300, seed=8)
    mask = np.isin(np.arange(12), labelled)
    left = [members for members in as_lists(sets) if not set(members) & set(labelled)]
    cover = _greedy_cover(sets, mask, 9, {1, 2, 3, 4})
    for size, bound in cover.bound.items():
        best = max(
            sum(bool(set(members) & set(rows)) for members in left)
            for rows in itertools.combinations(np.flatnonzero(~mask).tolist(), size)
        )
        assert best <= bound <= len(left)
        assert cover.newly[:size].sum() <= best
    # The best single row is known exactly.
    assert cover.bound[1] == cover.newly[0]


def test_labelled_rows_are_active_already():
    whole = maximise_influence(matrix(EDGES, 12), 12, NONE)
    first = whole.indices[:2]
    rest = maximise_influence(matrix(EDGES, 12), 12, np.isin(np.arange(12), first))
    assert rest.indices.tolist() == whole.indices[2:].tolist()
    assert rest.gains.tolist() == whole.gains[2:].tolist()
    assert rest.diagnostics["influence"] == 12
    # The influence is that of labelled rows and picks together.
    one = maximise_influence(matrix(EDGES, 12), 1, np.isin(np.arange(12), first))
    true = influence(EDGES, 12)([*first.tolist(), *one.indices.tolist()])
    assert one.diagnostics["influence"] == pytest.approx(true, abs=5 * one.diagnostics["standard_error"])


def test_if_all_is_labelled_nothing_is_left_to_do():
    picks = maximise_influence(matrix(EDGES, 12), 3, ~NONE)
    assert len(picks) == 0
    assert picks.diagnostics["influence"] == 12


def test_larger_plans_go_on_where_smaller_ones_end():
    edges = matrix(EDGES, 12)
    whole = maximise_influence(edges, 12, NONE, seed=5).indices.tolist()
    for budget in range(1, 12):
        assert maximise_influence(edges, budget, NONE, seed=5).indices.tolist() == whole[:budget]
    assert maximise_influence(edges, 99, NONE, seed=5).indices.tolist() == whole


def test_the_seed_decides():
    rows = np.random.default_rng(9)
    edges = matrix([(i, int(j), 0.25) for i in range(200) for j in rows.choice(200, 4, replace=False)], 200)
    none = np.zeros(200, bool)

    def plan(seed):
        return maximise_influence(edges, 20, none, seed)

    same = plan(1)
    assert plan(1).indices.tolist() == same.indices.tolist()
    assert plan(np.random.default_rng(1)).indices.tolist() == same.indices.tolist()
    assert plan(2).indices.tolist() != same.indices.tolist()
    # Chance decides between rows, hardly about what they reach.
    error = 5 * np.hypot(same.diagnostics["standard_error"], plan(2).diagnostics["standard_error"])
    assert plan(2).diagnostics["influence"] == pytest.approx(same.diagnostics["influence"], abs=error)


def test_sets_are_doubled_until_they_tell_enough(monkeypatch):
    monkeypatch.setattr(module, "SETS_PER_ROW", 2)
    monkeypatch.setattr(module, "LEAST_SETS", 30)
    edges = matrix([(i, (i + 1) % 40, 0.2) for i in range(40)], 40)
    picks = maximise_influence(edges, 8, np.zeros(40, bool))
    assert picks.diagnostics["sets"] == 2 * 40 * 2**module.DOUBLINGS
    # Enough are drawn where little is asked for ...
    monkeypatch.setattr(module, "SLACK", 1.0)
    assert maximise_influence(edges, 8, np.zeros(40, bool)).diagnostics["sets"] == 80
    # ... and no more than there is room for.
    monkeypatch.setattr(module, "SLACK", -1.0)
    monkeypatch.setattr(module, "MOST_MEMBERS", 250)
    assert maximise_influence(edges, 8, np.zeros(40, bool)).diagnostics["sets"] == 240


def test_more_sets_tell_more():
    # 0.01 / 12 is the chance that either bound fails; ln 1200 = 7.09. By hand for 1,000 of 1,100:
    # (sqrt(1000 + 1.576) - sqrt(3.545))^2 - 0.394 = 885.6; (sqrt(1100 + 3.545) + sqrt(3.545))^2 = 1232.2.
    assert _guarantee(1_000, 1_100.0) == pytest.approx(885.6 / 1232.2, rel=1e-4)
    shares = [_guarantee(10 * size, 11.0 * size) for size in (1, 10, 100, 1_000, 10**6)]
    assert shares == sorted(shares)
    assert shares[0] < 0.2
    assert shares[-1] == pytest.approx(10 / 11, abs=3e-3)
    assert _guarantee(0, 10.0) >= 0


def test_progress_is_told_and_a_report_can_stop(monkeypatch):
    monkeypatch.setattr(module, "_BATCH_SETS", 1_000)
    reports = Reports()
    maximise_influence(matrix(EDGES, 12), 3, NONE, report=reports)
    assert reports.seen[:2] == [(1_000, 5_000), (2_000, 5_000)]
    assert reports.seen[-1][0] == reports.seen[-1][1]
    with pytest.raises(Stopped):
        maximise_influence(matrix(EDGES, 12), 3, NONE, report=Reports(stop_after=2))
