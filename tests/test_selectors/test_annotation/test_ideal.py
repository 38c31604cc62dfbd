"""IDEAL over vectors: whom rows influence, what is planned, and layers of one cascade."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.arrays import unit_rows
from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors import ideal, ideal_layers, knn_graph
from kshot.selectors.annotation import PLANNERS, PlanCandidates
from kshot.selectors.annotation.cascade import activation_probabilities
from kshot.selectors.annotation.ideal import Ideal
from kshot.selectors.annotation.neighbour_graph import NeighbourGraph
from tests.oracles import simulated_cascade
from tests.test_selectors.test_annotation.graphs import Reports, Stopped, graphs, random_rows


def graph_with(similarities, indices=None):
    n, k = np.shape(similarities)
    others = [[j for j in range(n) if j != i][:k] for i in range(n)] if indices is None else indices
    return NeighbourGraph(np.array(others, np.int32), np.array(similarities, np.float32), center=False)


def test_rows_influence_their_neighbours_in_proportion_to_similarity():
    graph = graph_with([[0.6, 0.2], [0.5, -0.3], [-0.1, -0.2]])
    # Of 0.8 in all; the negative one counts as 0; nothing is positive.
    assert activation_probabilities(graph) == pytest.approx(np.array([[0.75, 0.25], [1, 0], [0.5, 0.5]]))


def test_one_pick_for_each_of_two_clusters():
    rng = np.random.default_rng(0)
    centres = np.repeat([[5.0, 0, 0, 0], [0, 5.0, 0, 0]], 60, axis=0)
    vectors = unit_rows(centres + rng.standard_normal((120, 4)) * 0.3)
    picks = ideal(vectors, 2)
    assert sorted(picks.indices // 60) == [0, 1]
    # No edge leads from one to the other, so that neither reaches more than its own.
    assert (picks.gains <= 60).all()


def crowd_and_edge(n):
    """Return rows in a few crowds of very different size, in random order."""
    rng = np.random.default_rng(1)
    crowds = rng.choice(12, n, p=np.arange(1, 13) ** 2 / 650)
    return unit_rows(3 * rng.standard_normal((12, 16))[crowds] + rng.standard_normal((n, 16)))


def test_picks_reach_as_many_as_they_say_and_more_than_other_rows():
    vectors = crowd_and_edge(150)
    graph = knn_graph(vectors, 10)
    picks = ideal(vectors, 5, graph=graph)
    probabilities = activation_probabilities(graph).tolist()
    rng = np.random.default_rng(2)

    def reached(rows):
        sizes = [len(simulated_cascade(graph.indices.tolist(), probabilities, rows, rng)) for _ in range(600)]
        return np.mean(sizes), np.std(sizes) / 600**0.5

    mean, error = reached(picks.indices.tolist())
    diagnostics = picks.diagnostics
    assert diagnostics["influence"] == pytest.approx(
        mean, abs=5 * np.hypot(error, diagnostics["standard_error"])
    )
    least_wanted = np.argsort(np.bincount(graph.indices.ravel(), minlength=150), kind="stable")[:5]
    for others in (least_wanted.tolist(), [0, 1, 2, 3, 4]):
        other, other_error = reached(others)
        assert mean > other + 3 * np.hypot(error, other_error)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_or_identical_rows_are_all_chosen(n):
    for vectors in (np.eye(3)[:n], np.ones((n, 3))):
        picks = ideal(vectors, 5)
        assert sorted(picks.indices.tolist()) == list(range(n))
        assert picks.diagnostics["influence"] == n
        assert len(ideal(vectors, 5, labelled=np.ones(n, bool))) == 0


@given(graph=graphs(), data=st.data())
def test_any_budget_gives_distinct_unlabelled_rows(graph, data):
    n = len(graph)
    labelled = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    budget = data.draw(st.integers(1, n + 2))
    picks = ideal(np.eye(n), budget, graph=graph, labelled=labelled)
    assert len(picks) == min(budget, int((~labelled).sum()))
    assert not labelled[picks.indices].any()
    assert 0 <= picks.diagnostics["guarantee"] <= 1
    assert int(labelled.sum()) + len(picks) <= picks.diagnostics["influence"] + 1e-9 + n / 20


def test_negative_similarities_do_no_harm():
    # Opposite rows: all centred similarities to most neighbours are negative.
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    picks = ideal(np.stack([np.cos(angles), np.sin(angles)], axis=1), 4, n_neighbors=11)
    assert len(set(picks.indices.tolist())) == 4
    assert (picks.gains >= 0).all()


def test_the_planner_is_the_function():
    vectors = random_rows(3, 80)
    labelled = np.arange(80) % 9 == 0
    assert PLANNERS.get("ideal") is Ideal
    planner = Ideal(n_neighbors=5, center=False)
    graph = knn_graph(vectors, planner.graph.n_neighbors, center=planner.graph.center)
    picks = planner.plan(PlanCandidates(labelled, vectors, graph), 20, np.random.default_rng(7))
    expected = ideal(vectors, 20, 5, False, 7, labelled=np.flatnonzero(labelled))
    assert picks.indices.tolist() == expected.indices.tolist()
    assert picks.gains.tolist() == picks.scores.tolist() == expected.gains.tolist()
    assert picks.diagnostics == expected.diagnostics
    assert picks.diagnostics["graph_recall"] == 1


def test_progress_is_told_and_a_report_can_stop():
    vectors = random_rows(4, 60)
    reports = Reports()
    ideal(vectors, 5, report=reports)
    assert reports.seen[0] == (60, 60)
    assert reports.seen[-1][0] == reports.seen[-1][1] > 60
    with pytest.raises(Stopped):
        ideal(vectors, 5, report=Reports(stop_after=2))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"budget": 0}, InvalidParameter, "budget is 0"),
        ({"n_neighbors": 0}, InvalidParameter, "n_neighbors is 0"),
        ({"vectors": [[np.nan]]}, InvalidShape, "vectors holds nan"),
        ({"vectors": [[0.0]]}, InvalidShape, "length zero"),
        ({"graph": graph_with([[0.1], [0.2]])}, InvalidShape, "the graph has 2 rows, wanted 3"),
    ],
)
def test_senseless_input_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        ideal(**{"vectors": np.eye(3), "budget": 1, **arguments})


def test_layers_are_the_rounds_of_a_cascade():
    # A ring along which every row surely activates the next.
    ring = graph_with([[1.0]] * 6, [[(i + 1) % 6] for i in range(6)])
    layers = ideal_layers(ring, [0, 3])
    assert layers.rows.tolist() == [1, 4, 2, 5]
    assert layers.layers.tolist() == [1, 1, 2, 2]
    assert len(layers) == 4
    layers = ideal_layers(ring, np.array([True, False, False, True, False, False]), max_rows=3)
    assert layers.rows.tolist() == [1, 4, 2]
    assert layers.layers.tolist() == [1, 1, 2]
    assert len(ideal_layers(ring, range(6))) == 0
    assert len(ideal_layers(ring, np.zeros(6, bool))) == 0


def test_layers_are_as_large_as_those_of_simulated_cascades():
    graph = knn_graph(random_rows(5, 50), 6)
    probabilities = activation_probabilities(graph).tolist()
    rng = np.random.default_rng(6)
    slow = [
        [*simulated_cascade(graph.indices.tolist(), probabilities, [1, 2], rng).values()]
        for _ in range(2_000)
    ]
    fast = [ideal_layers(graph, [1, 2], seed=seed).layers.tolist() for seed in range(2_000)]
    for number in (1, 2, 3):
        a, b = ([rounds.count(number) for rounds in each] for each in (slow, fast))
        # Four standard errors.
        assert np.mean(a) == pytest.approx(np.mean(b), abs=4 * np.hypot(np.std(a), np.std(b)) / 2_000**0.5)


@given(graph=graphs(), seed=st.integers(0, 99), data=st.data())
def test_layers_have_no_gaps_and_lead_back_to_the_seeds(graph, seed, data):
    seeds = data.draw(st.sets(st.integers(0, len(graph) - 1), min_size=1))
    layers = ideal_layers(graph, sorted(seeds), seed)
    row_to_layer = dict.fromkeys(seeds, 0) | dict(
        zip(layers.rows.tolist(), layers.layers.tolist(), strict=True)
    )
    assert len(row_to_layer) == len(seeds) + len(layers)
    for row, layer in row_to_layer.items():
        if layer:
            assert any(
                row in own and row_to_layer.get(i) == layer - 1
                for i, own in enumerate(graph.indices.tolist())
            )
    assert layers.rows.tolist() == sorted(layers.rows.tolist(), key=lambda row: (row_to_layer[row], row))


def test_what_layers_cannot_start_from_is_refused():
    graph = knn_graph(np.eye(3), 1)
    with pytest.raises(InvalidShape, match="labelled names rows"):
        ideal_layers(graph, [3])
    with pytest.raises(InvalidParameter, match="max_rows is 0"):
        ideal_layers(graph, [0], max_rows=0)
