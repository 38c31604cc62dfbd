"""Vote-k: bands of confidence, what is taken from each, and what happens without confidences."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors import fast_vote_k, knn_graph, vote_k
from kshot.selectors.annotation import PLANNERS, PlanCandidates
from kshot.selectors.annotation.neighbour_graph import NeighbourGraph
from kshot.selectors.annotation.vote_k import VoteK
from tests.oracles import votes_for
from tests.test_selectors.test_annotation.graphs import Reports, Stopped, graphs, random_rows


def bands(confidence, chosen, size, count):
    """Sort what is left by confidence and cut the bands, as the published description says."""
    left = sorted((i for i in range(len(confidence)) if i not in chosen), key=lambda i: (confidence[i], i))
    return [left[t * size : (t + 1) * size] for t in range(count)]


def slow_phase2(neighbours, confidence, chosen, size, count, *, parity):
    """Count all votes anew for every band; under parity only rows of phase 1 discount them."""
    phase1 = list(chosen)
    picks: list[int] = []
    in_degree = {u: sum(u in own for own in neighbours) for u in range(len(neighbours))}
    for band in bands(confidence, phase1, size, count):
        taken = [*phase1, *picks]
        if parity:
            votes, rows = votes_for(neighbours, taken, 10, phase1, number=float), band
        else:
            votes, rows = votes_for(neighbours, taken, 10), sorted(band)
        best = max(rows, key=lambda u: votes[u])
        picks.append(best if votes[best] else max(rows, key=lambda u: in_degree[u]))
    return picks


@pytest.fixture
def pool():
    vectors = random_rows(0, 100)
    return vectors, knn_graph(vectors, 10), np.random.default_rng(1).random(100)


def test_phase_1_is_fast_vote_k_and_each_band_gives_one_row(pool):
    vectors, graph, confidence = pool
    picks = vote_k(vectors, 20, confidence, graph=graph)
    first = fast_vote_k(vectors, 10, graph=graph)
    assert picks.indices[:10].tolist() == first.indices.tolist()
    assert picks.gains[:10].tolist() == first.gains.tolist()
    # 10 rows are left to choose: bands of floor(0.9 * 100 / 10) = 9 rows.
    assert (picks.diagnostics["phase1"], picks.diagnostics["bucket_rows"]) == (10, 9)
    cut = bands(confidence, first.indices.tolist(), 9, 10)
    assert [len(band) for band in cut] == [9] * 10
    for index, band in zip(picks.indices[10:].tolist(), cut, strict=True):
        assert index in band


@pytest.mark.parametrize("parity", ["none", "reference"])
def test_each_band_gives_the_row_with_the_most_votes(pool, parity):
    vectors, graph, confidence = pool
    for budget, size in ((20, 9), (37, 3), (60, 1), (13, 30)):
        picks = vote_k(vectors, budget, confidence, graph=graph, parity=parity).indices.tolist()
        expected = slow_phase2(
            graph.indices.tolist(),
            confidence,
            picks[:10],
            size,
            budget - 10,
            parity=parity == "reference",
        )
        assert picks[10:] == expected


def test_confidences_of_the_surest_tenth_do_not_matter(pool):
    vectors, graph, confidence = pool
    first = fast_vote_k(vectors, 10, graph=graph).indices.tolist()
    left = [i for i in np.argsort(confidence).tolist() if i not in first]
    # Bands hold the first 90 rows; of 90 that are left, all. With conf_keep 0.5 the last 40 are passed over.
    surest = left[50:]
    changed = confidence.copy()
    changed[surest] = changed[surest[::-1]]
    before, after = (
        vote_k(vectors, 20, values, graph=graph, conf_keep=0.5).indices.tolist()
        for values in (confidence, changed)
    )
    assert before == after
    assert not set(before[10:]) & set(surest)
    changed[left[49]], changed[left[0]] = confidence[left[0]], confidence[left[49]]
    assert vote_k(vectors, 20, changed, graph=graph, conf_keep=0.5).indices.tolist() != before


def test_the_surest_tenth_is_passed_over_by_default():
    vectors = random_rows(2, 200)
    confidence = np.random.default_rng(3).random(200)
    picks = vote_k(vectors, 30, confidence, n_neighbors=8).indices
    # 10 of phase 1, then bands of floor(0.9 * 200 / 20) = 9 rows: 180 of 190.
    left = np.setdiff1d(np.arange(200), picks[:10])
    surest = left[np.argsort(confidence[left])][180:]
    assert not set(picks[10:]) & set(surest)
    changed = confidence.copy()
    changed[surest] = changed[np.roll(surest, 3)]
    assert vote_k(vectors, 30, changed, n_neighbors=8).indices.tolist() == picks.tolist()


def test_an_unknown_confidence_is_the_least():
    vectors = random_rows(4, 60)
    confidence = np.linspace(0.1, 1, 60)
    confidence[[7, 33]] = np.nan
    lowest = confidence.copy()
    lowest[7], lowest[33] = -2, -1
    expected = vote_k(vectors, 40, lowest, n_neighbors=6)
    picks = vote_k(vectors, 40, confidence, n_neighbors=6)
    assert picks.indices.tolist() == expected.indices.tolist()


def test_equal_confidences_come_in_row_order():
    vectors = random_rows(5, 45)
    picks = vote_k(vectors, 15, np.zeros(45), n_neighbors=5, phase1=0)
    assert picks.diagnostics["phase1"] == 0
    assert picks.diagnostics["bucket_rows"] == 2
    assert (picks.indices // 2).tolist() == list(range(15))


def test_ties_go_to_the_lowest_row_and_under_parity_to_the_least_confident():
    # A ring: every row is voted for once.
    graph = NeighbourGraph(
        np.array([[1], [2], [3], [4], [5], [0]], np.int32), np.zeros((6, 1), np.float32), center=False
    )
    confidence = np.array([0.3, 0.1, 0.2, 0.9, 0.7, 0.8])
    arguments: dict[str, Any] = {"phase1": 0, "conf_keep": 0.5, "graph": graph}
    # One band of the three least confident rows: 1, 2, 0.
    assert vote_k(np.eye(6), 1, confidence, **arguments).indices.tolist() == [0]
    assert vote_k(np.eye(6), 1, confidence, parity="reference", **arguments).indices.tolist() == [1]


def test_a_band_without_votes_gives_the_row_with_most_voters():
    # Only 0 and 1 vote for 2 and 3, and 0 for 3 as well; all others vote for 0 and 1.
    neighbours = [[2, 3], [0, 3], [0, 1], [0, 1], [0, 1], [0, 1]]
    graph = NeighbourGraph(np.array(neighbours, np.int32), np.zeros((6, 2), np.float32), center=False)
    confidence = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    picks = vote_k(np.eye(6), 4, confidence, phase1=2, conf_keep=1.0, graph=graph)
    # Phase 1: 0 (5 voters), then 1. Bands of 2: of 2 and 3 nobody votes any more, and 3 had two voters.
    assert picks.indices.tolist() == [0, 1, 3, 4]
    assert picks.gains[2:].tolist() == [0, 0]
    assert picks.diagnostics == {"phase1": 2, "bucket_rows": 2, "without_votes": 2, "graph_recall": 1.0}


@pytest.mark.parametrize("parity", ["none", "reference"])
def test_a_plan_goes_on_once_phase_1_is_labelled(pool, parity):
    vectors, graph, confidence = pool
    whole = vote_k(vectors, 40, confidence, graph=graph, parity=parity).indices
    first, second = whole[:10], whole[10:]
    rest = vote_k(vectors, 30, confidence, graph=graph, labelled=first, parity=parity)
    assert rest.indices.tolist() == second.tolist()
    assert rest.diagnostics["phase1"] == 0
    # Where fewer are labelled, phase 1 is completed first.
    rest = vote_k(vectors, 34, confidence, graph=graph, labelled=first[:6], parity=parity)
    assert rest.indices.tolist() == whole[6:].tolist()
    assert rest.diagnostics["phase1"] == 4


def test_a_larger_phase_1_is_a_tenth():
    vectors = random_rows(6, 400)
    picks = vote_k(vectors, 130, np.zeros(400), n_neighbors=5)
    assert picks.diagnostics["phase1"] == 13
    assert vote_k(vectors, 130, np.zeros(400), n_neighbors=5, phase1=40).diagnostics["phase1"] == 40
    # Phase 1 alone where no more is wanted.
    alone = vote_k(vectors, 7, np.zeros(400), n_neighbors=5)
    assert alone.indices.tolist() == fast_vote_k(vectors, 7, n_neighbors=5).indices.tolist()
    assert alone.diagnostics["bucket_rows"] == 0


@given(graph=graphs(), data=st.data())
def test_any_budget_gives_distinct_unlabelled_rows(graph, data):
    n = len(graph)
    labelled = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    confidence = np.array(
        data.draw(st.lists(st.sampled_from([0.0, 0.5, np.nan, 1.0]), min_size=n, max_size=n))
    )
    budget, phase1 = data.draw(st.integers(1, n + 2)), data.draw(st.none() | st.integers(0, n))
    parity = data.draw(st.sampled_from(["none", "reference"]))
    keep = data.draw(st.sampled_from([0.1, 0.9, 1.0]))
    picks = vote_k(
        np.eye(n),
        budget,
        confidence,
        phase1=phase1,
        conf_keep=keep,
        graph=graph,
        labelled=labelled,
        parity=parity,
    )
    assert len(picks) == min(budget, int((~labelled).sum()))
    assert not labelled[picks.indices].any()


def test_without_confidences_the_plan_is_that_of_fast_vote_k():
    vectors = random_rows(7, 50)
    picks = vote_k(vectors, 45, n_neighbors=5, labelled=np.array([3, 4]))
    expected = fast_vote_k(vectors, 45, n_neighbors=5, labelled=np.array([3, 4]))
    assert picks.indices.tolist() == expected.indices.tolist()
    assert picks.gains.tolist() == expected.gains.tolist()
    assert picks.diagnostics == {"fallback": "fast_vote_k", **expected.diagnostics}


def test_the_planner_is_the_function(pool):
    vectors, _, confidence = pool
    assert PLANNERS.get("vote_k") is VoteK
    planner = VoteK(n_neighbors=6, discount=3.0, phase1=5, conf_keep=0.7, center=False)
    graph = knn_graph(vectors, planner.graph.n_neighbors, center=planner.graph.center)
    labelled = np.arange(100) == 3
    for known in (confidence, None):
        candidates = PlanCandidates(labelled, vectors, graph, confidence=known)
        picks = planner.plan(candidates, 20, np.random.default_rng(0))
        expected = vote_k(vectors, 20, known, 6, 3.0, 5, 0.7, False, labelled=labelled)
        assert picks.indices.tolist() == expected.indices.tolist()
        assert picks.diagnostics == expected.diagnostics


def test_progress_is_told_and_a_report_can_stop(pool):
    vectors, graph, confidence = pool
    reports = Reports()
    vote_k(vectors, 25, confidence, graph=graph, report=reports)
    assert reports.seen[-1] == (25, 25)
    assert [done for done, _ in reports.seen[10:]] == list(range(11, 26))
    with pytest.raises(Stopped):
        vote_k(vectors, 25, confidence, graph=graph, report=Reports(stop_after=13))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"budget": 0}, InvalidParameter, "budget is 0"),
        ({"phase1": -1}, InvalidParameter, "phase1 is -1"),
        ({"conf_keep": 0.0}, InvalidParameter, "conf_keep is 0.0"),
        ({"conf_keep": 1.1}, InvalidParameter, "conf_keep is 1.1"),
        ({"discount": 0.0}, InvalidParameter, "discount is 0.0"),
        ({"confidence": [0.1]}, InvalidShape, "confidence has shape"),
        ({"confidence": [0.1, np.inf, 0.2]}, InvalidShape, "confidence holds an infinity"),
    ],
)
def test_senseless_input_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        vote_k(**{"vectors": np.eye(3), "budget": 1, "confidence": np.zeros(3), **arguments})
