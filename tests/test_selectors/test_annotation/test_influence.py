"""Influence maximisation: against every world of small graphs, and its bounds against every choice."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.selectors.annotation import influence as module
from kshot.selectors.annotation.influence import _at_least, _at_most, _Cover, maximise_influence
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
    # All 4,096 sets are covered; by hand: (sqrt(4096 + 1.576) - sqrt(3.545))^2 - 0.394 = 3859.6 of half of
    # (sqrt(8192 + 3.545) + sqrt(3.545))^2 = 8540.
    assert picks.diagnostics["sets"] == 4_096
    assert picks.diagnostics["guarantee"] == pytest.approx(3859.6 / 4270.0, rel=1e-4)


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
    sets, others = draw(EDGES, 12, 300, seed=7), draw(EDGES, 12, 200, seed=8)
    left, watched = as_lists(sets), as_lists(others)
    cover = _Cover(sets, others, NONE)
    for _ in range(12):
        counts = {i: sum(i in members for members in left) for i in range(12) if i not in cover.order}
        cover.pick()
        row = cover.order[-1]
        best = max(counts.values())
        assert row == min(i for i in counts if counts[i] == best)
        left = [members for members in left if row not in members]
        watched = [members for members in watched if row not in members]
        assert cover.reached[-1] == 300 - len(left)
        assert cover.seen[-1] == 200 - len(watched)


@pytest.mark.parametrize("labelled", [[], [0], [3, 6]])
def test_no_choice_covers_more_than_the_bound(labelled, monkeypatch):
    # Without doubt about chance, the guarantee is a statement about the samples themselves.
    monkeypatch.setattr(module, "_DOUBT", 0.0)
    sets, others = draw(EDGES, 12, 300, seed=7), draw(EDGES, 12, 300, seed=8)
    mask = np.isin(np.arange(12), labelled)
    cover = _Cover(sets, others, mask)

    def covered(sample, rows):
        left = [members for members in as_lists(sample) if not set(members) & set(labelled)]
        return sum(bool(set(members) & set(rows)) for members in left)

    for size in range(1, 5):
        cover.pick()
        assert cover.reached[-1] == covered(sets, cover.order)
        assert cover.seen[-1] - cover.seen[0] == covered(others, cover.order)
        choices = list(itertools.combinations(np.flatnonzero(~mask).tolist(), size))
        together = max(covered(sets, rows) + covered(others, rows) for rows in choices)
        first = max(covered(sets, rows) for rows in choices)
        reached = cover.seen[-1] - cover.seen[0]
        least = (1 - 1 / np.e) * reached / cover.reached[-1]
        assert least - 1e-12 <= cover.guarantee() <= reached / min(together / 2, first) + 1e-12


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


def test_bounds_are_those_of_chance():
    # 0.01 / 12 is the chance that one of three bounds fails in one of four rounds; ln 1200 = 7.09.
    # By hand for 1,000: (sqrt(1000 + 1.576) - sqrt(3.545))^2 - 0.394 = 885.6; and
    # (sqrt(1000 + 3.545) + sqrt(3.545))^2 = 1126.4.
    assert _at_least(1_000) == pytest.approx(885.6, abs=0.1)
    assert _at_most(1_000) == pytest.approx(1126.4, abs=0.1)
    assert _at_least(0) == 0
    assert _at_most(0) == pytest.approx(2 * np.log(1200))
    rng = np.random.default_rng(10)
    for mean in (3.0, 40.0, 700.0):
        seen = rng.poisson(mean, 4_000)
        failed = [
            np.mean([_at_most(count) < mean for count in seen]),
            np.mean([_at_least(count) > mean for count in seen]),
        ]
        # One in 1,200 at most; five standard errors of that more.
        assert max(failed) <= 1 / 1200 + 5 * (1 / 1200 / 4_000) ** 0.5


def test_progress_is_told_and_a_report_can_stop(monkeypatch):
    monkeypatch.setattr(module, "_BATCH_SETS", 1_000)
    reports = Reports()
    maximise_influence(matrix(EDGES, 12), 3, NONE, report=reports)
    # 4,096 sets in five batches.
    assert reports.seen[:2] == [(820, 4_100), (1_640, 4_100)]
    assert reports.seen[-1][0] == reports.seen[-1][1]
    with pytest.raises(Stopped):
        maximise_influence(matrix(EDGES, 12), 3, NONE, report=Reports(stop_after=2))
