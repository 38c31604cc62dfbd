"""Fast vote-k against votes counted anew in fractions, and against picks of the published code."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.arrays import unit_rows
from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors import fast_vote_k, knn_graph
from kshot.selectors.annotation import PLANNERS, PlanCandidates
from kshot.selectors.annotation.fast_vote_k import FastVoteK
from kshot.selectors.annotation.neighbour_graph import NeighbourGraph
from kshot.selectors.annotation.votes import Votes
from tests.oracles import vote_k as slow_vote_k
from tests.test_selectors.test_annotation.graphs import Reports, Stopped, graphs, random_rows

GOLDEN = json.loads((Path(__file__).parent / "golden" / "fast_vote_k.json").read_text())
DISCOUNTS = st.sampled_from([1.0, 1.1, 1.5, 2.0, 3.7, 10.0, 1e5, 1e300])


def golden_rows(case):
    rows = np.random.default_rng(case["seed"]).standard_normal((case["n"], case["d"])).astype(np.float32)
    return rows - rows.mean(0)


def planned_on(graph, budget, **arguments):
    """Plan on a graph whose rows have no meaningful vectors."""
    return fast_vote_k(np.eye(len(graph)), budget, graph=graph, **arguments)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"seed{case['seed']}")
def test_parity_picks_are_those_of_the_published_code(case):
    picks = fast_vote_k(golden_rows(case), case["budget"], case["n_neighbors"], parity="reference")
    assert picks.indices.tolist() == case["picks"]


def test_a_plan_for_all_rows_repeats_none():
    # The published code repeats rows where it reads its votes back from a file, and where votes run out.
    case = GOLDEN[0]
    for parity in ("none", "reference"):
        picks = fast_vote_k(golden_rows(case), case["n"], case["n_neighbors"], parity=parity)
        assert sorted(picks.indices.tolist()) == list(range(case["n"]))
        assert picks.diagnostics["without_votes"] > 0


@given(graph=graphs(), discount=DISCOUNTS, data=st.data())
def test_picks_are_those_of_counting_all_votes_anew(graph, discount, data):
    labelled = data.draw(st.sets(st.integers(0, len(graph) - 1), max_size=3))
    budget = data.draw(st.integers(1, len(graph)))
    picks = planned_on(graph, budget, discount=discount, labelled=np.array(sorted(labelled), np.int64))
    wanted = min(budget, len(graph) - len(labelled))
    expected, gains = slow_vote_k(graph.indices.tolist(), wanted, discount, labelled)
    voted = wanted - picks.diagnostics["without_votes"]
    assert len(picks) == wanted
    assert picks.indices[:voted].tolist() == expected
    assert picks.gains[:voted].tolist() == pytest.approx(gains, rel=1e-14, abs=0)
    assert not picks.gains[voted:].any()


@pytest.mark.parametrize("seed", range(3))
def test_larger_pools_agree_as_well(seed):
    graph = knn_graph(random_rows(seed, 90), 12)
    expected, gains = slow_vote_k(graph.indices.tolist(), 90, 10.0)
    picks = planned_on(graph, 90)
    assert picks.indices[: len(expected)].tolist() == expected
    assert picks.gains[: len(gains)].tolist() == pytest.approx(gains, rel=1e-14)


def test_votes_by_hand():
    graph = NeighbourGraph(
        np.array([[3, 4], [3, 5], [3, 4], [0, 4], [0, 5], [3, 4]], np.int32),
        np.zeros((6, 2), np.float32),
        center=False,
    )
    picks = planned_on(graph, 4, discount=10.0)
    # 3 and 4 have four votes each. Then 4 has those of 0, 2 and 5, a tenth each by now; 5 has 1 of 4 and 0.1
    # of 1; 0 has 1 of 4. Then 4 has 0.1 of 0 and 0.1 of 2; 0 has 0.1 of 4. Then nobody is left to vote for 0.
    assert picks.indices.tolist() == [3, 5, 4, 0]
    assert picks.gains.tolist() == pytest.approx([4, 1.1, 0.2, 0])


def best_of(votes, rows=None):
    return votes.best(rows)


def test_sums_of_votes_are_compared_exactly():
    graph = knn_graph(random_rows(4, 40), 30)
    votes = Votes(graph, 10.0, np.zeros(40, bool), 40)
    votes._counts[:] = 0
    # Three tenths, in tenths or with hundredths, tie, however floating-point sums come out.
    votes._counts[7, 1] = 3
    votes._counts[5, 1:4] = [2, 9, 10]
    votes._counts[3, 2] = 30
    votes._counts[9, 1] = 2
    votes._sums = votes._counts @ votes._weights
    assert best_of(votes) == (3, pytest.approx(0.3))
    # The faintest vote on top decides, though no floating-point sum can tell.
    votes._counts[7, 15] += 1
    votes._sums = votes._counts @ votes._weights
    assert best_of(votes) == (7, pytest.approx(0.3))
    assert best_of(votes, np.array([5, 3, 9])) == (5, pytest.approx(0.3))


def test_without_discount_it_is_the_number_of_votes_of_unchosen_rows():
    graph = knn_graph(random_rows(5, 60), 7)
    chosen: list[int] = []
    for index, gain in zip(*picked(planned_on(graph, 40, discount=1.0)), strict=True):
        votes = np.bincount(
            [u for v, own in enumerate(graph.indices.tolist()) if v not in chosen for u in own], minlength=60
        )
        votes[chosen] = -1
        assert (index, gain) == (int(np.argmax(votes)), votes.max())
        chosen.append(index)
    # Nearly no discount changes nothing where the numbers of votes differ.
    assert planned_on(graph, 1, discount=1 + 1e-9).indices.tolist() == chosen[:1]


def picked(picks):
    return picks.indices.tolist(), picks.gains.tolist()


@pytest.mark.parametrize("parity", ["none", "reference"])
def test_two_far_clusters_are_both_served_by_two_picks(parity):
    rng = np.random.default_rng(6)
    cluster = np.repeat([[5.0, 0, 0, 0], [0, 5.0, 0, 0]], 40, axis=0)
    vectors = unit_rows(cluster + rng.standard_normal((80, 4)) * 0.3)
    picks = fast_vote_k(vectors, 2, n_neighbors=10, parity=parity)
    assert sorted(picks.indices // 40) == [0, 1]


@pytest.mark.parametrize("parity", ["none", "reference"])
def test_no_budget_repeats_a_row_and_larger_ones_go_on(parity):
    vectors = random_rows(7, 40)
    whole = fast_vote_k(vectors, 40, n_neighbors=4, parity=parity).indices.tolist()
    assert sorted(whole) == list(range(40))
    for budget in range(1, 40):
        picks = fast_vote_k(vectors, budget, n_neighbors=4, parity=parity)
        assert picks.indices.tolist() == whole[:budget]
    assert fast_vote_k(vectors, 99, n_neighbors=4, parity=parity).indices.tolist() == whole


@pytest.mark.parametrize("parity", ["none", "reference"])
def test_a_plan_goes_on_from_what_is_labelled(parity):
    vectors = random_rows(8, 60)
    whole = fast_vote_k(vectors, 50, n_neighbors=6, parity=parity)
    mask = np.zeros(60, bool)
    mask[whole.indices[:20]] = True
    rest = fast_vote_k(vectors, 30, n_neighbors=6, parity=parity, labelled=mask)
    assert rest.indices.tolist() == whole.indices[20:].tolist()
    assert rest.gains.tolist() == pytest.approx(whole.gains[20:].tolist())


def test_once_votes_run_out_the_farthest_rows_follow():
    # Every row votes for one of the first two only. Angles in degrees, not centred.
    angles = np.deg2rad([0, 5, 10, 20, 90, 170, 180])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    graph = NeighbourGraph(
        np.array([[1], [0], [0], [0], [0], [0], [0]], np.int32), np.zeros((7, 1), np.float32), center=False
    )
    picks = fast_vote_k(vectors, 6, graph=graph)
    # 0 has all votes but its own, which is for 1 and gone with it. Farthest from 0 is 180; then 90, then 20.
    assert picks.indices.tolist() == [0, 6, 4, 3, 2, 5]
    assert picks.gains.tolist() == [6, 0, 0, 0, 0, 0]
    assert picks.diagnostics == {"without_votes": 5, "graph_recall": 1.0}


def test_rows_at_the_same_distance_follow_in_row_order():
    vectors = np.tile(random_rows(9, 1, d=384), (50, 1))
    graph = NeighbourGraph(
        np.array([[1], *[[0]] * 49], np.int32), np.zeros((50, 1), np.float32), center=False
    )
    assert fast_vote_k(vectors, 50, graph=graph).indices.tolist() == list(range(50))


@pytest.mark.parametrize("parity", ["none", "reference"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_or_identical_rows_are_all_chosen(n, parity):
    for vectors in (np.eye(3)[:n], np.ones((n, 3))):
        assert sorted(fast_vote_k(vectors, 5, parity=parity).indices.tolist()) == list(range(n))
        assert len(fast_vote_k(vectors, 5, labelled=np.ones(n, bool), parity=parity)) == 0


def test_more_neighbours_than_rows_are_all_of_them():
    vectors = random_rows(10, 12)
    assert (
        fast_vote_k(vectors, 6, n_neighbors=150).indices.tolist()
        == fast_vote_k(vectors, 6, n_neighbors=11).indices.tolist()
    )


def test_progress_is_told_and_a_report_can_stop():
    vectors = random_rows(11, 30)
    reports = Reports()
    fast_vote_k(vectors, 30, n_neighbors=3, report=reports)
    assert reports.seen[0] == (30, 30)
    assert [done for done, _ in reports.seen[1:]][-1] == 30
    with pytest.raises(Stopped):
        fast_vote_k(vectors, 30, n_neighbors=3, report=Reports(stop_after=5))


def test_the_planner_is_the_function():
    vectors = random_rows(12, 50)
    labelled = np.arange(50) % 7 == 0
    assert PLANNERS.get("fast_vote_k") is FastVoteK
    planner = FastVoteK(n_neighbors=5, discount=3.0, center=False)
    graph = knn_graph(vectors, planner.graph.n_neighbors, center=planner.graph.center)
    picks = planner.plan(PlanCandidates(labelled, vectors, graph), 20, np.random.default_rng(0))
    expected = fast_vote_k(vectors, 20, 5, 3.0, False, labelled=np.flatnonzero(labelled))
    assert picks.indices.tolist() == expected.indices.tolist()
    assert picks.gains.tolist() == picks.scores.tolist() == expected.gains.tolist()
    assert not labelled[picks.indices].any()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"budget": 0}, InvalidParameter, "budget is 0"),
        ({"n_neighbors": 0}, InvalidParameter, "n_neighbors is 0"),
        ({"discount": 0.9}, InvalidParameter, "discount is 0.9"),
        ({"discount": np.inf}, InvalidParameter, "discount is inf"),
        ({"discount": np.nan}, InvalidParameter, "discount is nan"),
        ({"parity": "exact"}, InvalidParameter, "parity is 'exact'"),
        ({"vectors": [[1.0, np.nan]]}, InvalidShape, "vectors holds nan"),
        ({"vectors": [[0.0, 0.0]]}, InvalidShape, "length zero"),
        ({"labelled": [3]}, InvalidShape, "labelled names rows"),
        ({"graph": knn_graph(np.eye(4), 1)}, InvalidShape, "the graph has 4 rows, wanted 3"),
    ],
)
def test_senseless_input_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        fast_vote_k(**{"vectors": np.eye(3), "budget": 1, **arguments})
