"""Facility location: against its definition, an exhaustive optimum and its invariants."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.arrays import unit_rows
from kshot.errors import InvalidParameter, InvalidShape
from kshot.selectors import facility_location, knn_graph
from kshot.selectors.annotation import representation
from kshot.selectors.annotation.neighbour_graph import NeighbourGraph
from tests import oracles
from tests.test_selectors.test_annotation.graphs import (
    Reports,
    Stopped,
    crowded_rows,
    graphs,
    random_rows,
    scaled,
)


def along_edges(graph):
    """The similarities that count where only neighbours do, as a full matrix."""
    similarity = np.eye(len(graph))
    for i, (others, cosines) in enumerate(zip(graph.indices, graph.similarities, strict=True)):
        similarity[i, others] = np.clip(cosines, 0, 1)
    return similarity


unit_sets = crowded_rows(max_rows=7).map(scaled)


def test_the_one_that_stands_for_most_comes_first():
    angles = np.deg2rad([0, 10, 20, 90, 180])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    picks = facility_location(vectors, 3)
    # 20 degrees stands for the crowd and a little for 90; then the row at 180 stands alone.
    assert picks.indices.tolist() == [2, 4, 3]
    cos = {degrees: np.cos(np.deg2rad(degrees)) for degrees in (10, 20, 70)}
    assert picks.gains.tolist() == pytest.approx([cos[20] + cos[10] + 1 + cos[70], 1, 1 - cos[70]])
    assert picks.diagnostics["value"] == pytest.approx(picks.gains.sum())


def test_with_a_floor_of_minus_one_opposite_rows_are_told_from_unrelated_ones():
    # Cosines of row 0: 1, 0, 0, -1; of row 3, which is opposite to row 0: -1, 0, 0, 1; of rows 1 and 2 with
    # each other: -1. Above a floor of 0 every row gains 1; above -1 every row gains 2 + 1 + 1 + 0 = 4.
    vectors = [[1, 0], [0, 1], [0, -1], [-1, 0]]
    above_zero = facility_location(vectors, 4)
    above_minus_one = facility_location(vectors, 4, floor=-1)
    assert above_zero.gains.tolist() == [1, 1, 1, 1]
    # After row 0: row 1 brings itself from 0 to 1 and row 3 from -1 to 0; row 3 itself from -1 to 1.
    assert above_minus_one.gains.tolist() == [4, 2, 1, 1]
    assert above_minus_one.indices.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("seed", range(50))
def test_picks_are_those_of_a_naive_search(seed):
    vectors = np.random.default_rng(seed).standard_normal((200, 6))
    similarity = scaled(vectors) @ scaled(vectors).T
    labelled = np.random.default_rng(seed).choice(200, 3 * (seed % 3), replace=False).tolist()
    floor = -1.0 if seed % 5 == 0 else 0.0
    picks = facility_location(vectors, 25, labelled=np.array(labelled, np.int64), floor=floor)
    expected, gains = oracles.facility_location(similarity, 25, labelled, floor)
    assert picks.indices.tolist() == expected
    np.testing.assert_allclose(picks.gains, gains, atol=1e-5)
    value = oracles.facility_value(similarity, [*labelled, *picks.indices.tolist()], floor)
    assert value == pytest.approx(oracles.facility_value(similarity, [*labelled, *expected], floor), abs=1e-6)
    before = oracles.facility_value(similarity, labelled, floor)
    assert picks.diagnostics["value"] == pytest.approx(value - before, abs=1e-6)


@pytest.mark.parametrize("seed", range(50))
def test_along_neighbours_picks_are_those_of_a_naive_search(seed):
    vectors = random_rows(seed, n=200)
    labelled = np.random.default_rng(seed).choice(200, 3 * (seed % 3), replace=False).tolist()
    graph = knn_graph(vectors, 12, center=False)
    picks = facility_location(
        vectors, 25, labelled=np.array(labelled, np.int64), exact_rows=0, n_neighbors=12
    )
    expected, gains = oracles.facility_location(along_edges(graph), 25, labelled)
    assert picks.indices.tolist() == expected
    np.testing.assert_allclose(picks.gains, gains, atol=1e-5)
    assert not picks.diagnostics["exact"]


@given(graph=graphs(), data=st.data())
def test_ties_along_neighbours_go_to_the_lowest_row(graph, data):
    labelled = data.draw(st.sets(st.integers(0, len(graph) - 1), max_size=3))
    picks = facility_location(
        np.eye(len(graph)), 4, labelled=np.array(sorted(labelled), np.int64), graph=graph, exact_rows=0
    )
    expected, gains = oracles.facility_location(along_edges(graph), 4, sorted(labelled))
    assert picks.indices[: len(expected)].tolist() == expected
    assert picks.gains[: len(gains)].tolist() == gains


def test_where_all_are_neighbours_nothing_is_lost():
    vectors = random_rows(7, n=60)
    near = facility_location(vectors, 20, exact_rows=0, n_neighbors=59)
    assert near.indices.tolist() == facility_location(vectors, 20).indices.tolist()


def test_a_graph_is_used_where_there_are_too_many_rows_and_only_there():
    vectors = random_rows(8, n=40)
    nobody = NeighbourGraph(np.empty((40, 0), np.int32), np.empty((40, 0), np.float32), center=False)
    alone = facility_location(vectors, 5, graph=nobody, exact_rows=39)
    assert alone.indices.tolist() == [0, 1, 2, 3, 4]
    assert alone.gains.tolist() == [1, 1, 1, 1, 1]
    compared = facility_location(vectors, 5, graph=nobody, exact_rows=40)
    assert compared.indices.tolist() == facility_location(vectors, 5).indices.tolist() != [0, 1, 2, 3, 4]


def test_similarities_of_a_graph_count_between_zero_and_one():
    graph = NeighbourGraph(
        np.array([[1], [0], [0]], np.int32), np.array([[1.5], [-0.5], [0.25]], np.float32), center=False
    )
    picks = facility_location(np.eye(3), 3, graph=graph, exact_rows=0)
    # Row 1 stands for itself and row 0; row 0 for itself and a quarter of row 2.
    assert picks.indices.tolist() == [1, 2, 0]
    assert picks.gains.tolist() == [2, 1, 0]
    assert picks.diagnostics["filled"] == 1


@given(vectors=unit_sets, budget=st.integers(1, 8))
def test_each_pick_gains_most_and_gains_fall(vectors, budget):
    similarity = vectors @ vectors.T
    picks = facility_location(vectors, budget)
    chosen: list[int] = []
    for index, gain in zip(picks.indices.tolist(), picks.gains.tolist(), strict=True):
        before = oracles.facility_value(similarity, chosen)
        left = [i for i in range(len(vectors)) if i not in chosen]
        best = max(oracles.facility_value(similarity, [*chosen, i]) for i in left) - before
        assert oracles.facility_value(similarity, [*chosen, index]) - before == pytest.approx(best, abs=1e-6)
        assert gain == pytest.approx(best, abs=1e-6)
        chosen.append(index)
    assert len(chosen) == min(budget, len(vectors))
    assert all(after <= before for before, after in itertools.pairwise(picks.gains))


@given(vectors=crowded_rows(max_rows=6).map(scaled), budget=st.integers(1, 3))
def test_the_choice_is_near_the_best(vectors, budget):
    similarity = vectors @ vectors.T
    picks = facility_location(vectors, budget)
    sets = itertools.combinations(range(len(vectors)), min(budget, len(vectors)))
    best = max(oracles.facility_value(similarity, chosen) for chosen in sets)
    assert oracles.facility_value(similarity, picks.indices.tolist()) >= (1 - 1 / np.e) * best - 1e-9


def test_what_is_labelled_need_not_be_stood_for_again():
    vectors = scaled(np.array([[1, 0.1], [1, 0], [1, -0.1], [0, 1]]))
    assert facility_location(vectors, 2).indices.tolist() == [0, 3]
    picks = facility_location(vectors, 3, labelled=np.array([2]))
    assert picks.indices.tolist() == [3, 0, 1]
    similarity = vectors @ vectors.T
    whole = oracles.facility_value(similarity, range(4)) - oracles.facility_value(similarity, [2])
    assert picks.diagnostics["value"] == pytest.approx(whole)


def test_a_copy_of_a_labelled_row_comes_last():
    vectors = np.eye(3)[[0, 1, 0, 2]]
    for exact_rows in (4, 0):
        picks = facility_location(vectors, 3, labelled=np.array([2]), exact_rows=exact_rows)
        assert picks.indices.tolist() == [1, 3, 0]
        assert picks.gains.tolist() == [1, 1, 0]
        assert picks.diagnostics["filled"] == 1


def test_equal_rows_are_taken_in_their_order():
    rng = np.random.default_rng(3)
    crowd = np.repeat(unit_rows(rng.standard_normal((5, 64))), 40, axis=0)
    picks = facility_location(crowd, 200)
    assert sorted(picks.indices[:5].tolist()) == [0, 40, 80, 120, 160]
    assert picks.indices[5:].tolist() == [i for i in range(200) if i % 40]
    assert picks.diagnostics["filled"] == 195


def test_two_that_stand_for_each_other_gain_the_same():
    # Rows 2k and 2k + 1 are a pair, alike to each other and to nobody else: both gain 1.8.
    pairs = np.kron(np.eye(30), [[1, 0], [0.8, 0.6]])
    picks = facility_location(pairs, 60)
    assert picks.indices.tolist() == [*range(0, 60, 2), *range(1, 60, 2)]
    assert picks.gains.tolist() == pytest.approx([1.8] * 30 + [0.2] * 30, abs=1e-7)


@pytest.mark.parametrize("exact_rows", [200, 0])
def test_a_plan_for_all_rows_is_an_order_of_them(exact_rows):
    picks = facility_location(random_rows(2, n=200), 200, exact_rows=exact_rows)
    assert sorted(picks.indices.tolist()) == list(range(200))
    assert (picks.gains > 0).all()
    assert (np.diff(picks.gains) <= 0).all()


def test_blocks_do_not_show(monkeypatch):
    vectors = random_rows(4, n=90).astype(np.float64)
    whole = facility_location(vectors, 40, labelled=np.array([3, 80]))
    monkeypatch.setattr(representation, "_BLOCK", 7 * 90)
    pieces = facility_location(vectors, 40, labelled=np.array([3, 80]))
    assert pieces.indices.tolist() == whole.indices.tolist()
    assert pieces.gains.tolist() == whole.gains.tolist()


def test_fewer_rows_than_wanted_are_all_taken():
    assert sorted(facility_location(np.eye(3), 9).indices.tolist()) == [0, 1, 2]
    assert len(facility_location(np.empty((0, 4)), 2)) == 0


@pytest.mark.parametrize("exact_rows", [50, 0])
def test_progress_is_reported_and_may_be_stopped(exact_rows):
    reports = Reports()
    facility_location(random_rows(5, n=50), 7, exact_rows=exact_rows, report=reports)
    assert reports.seen[-1] == (7, 7)
    assert {done for done, total in reports.seen if total == 7} >= set(range(1, 8))
    with pytest.raises(Stopped):
        facility_location(random_rows(5, n=50), 7, exact_rows=exact_rows, report=Reports(stop_after=4))


def test_what_makes_no_sense_is_refused():
    with pytest.raises(InvalidParameter, match="budget is 0"):
        facility_location(np.eye(2), 0)
    for vectors in ([1.0, 2.0], [[np.nan, 1.0]], [[0.0, 0.0], [1.0, 0.0]]):
        with pytest.raises(InvalidShape, match="vectors"):
            facility_location(vectors, 1)
    for floor in (-1.1, 0.1):
        with pytest.raises(InvalidParameter, match="floor is"):
            facility_location(np.eye(2), 1, floor=floor)
    with pytest.raises(InvalidParameter, match="allowed 0 for more than 1 rows"):
        facility_location(np.eye(2), 1, floor=-1, exact_rows=1)
    with pytest.raises(InvalidParameter, match="n_neighbors is 0"):
        facility_location(np.eye(2), 1, exact_rows=1, n_neighbors=0)
    graph = knn_graph(np.eye(3), 1, center=False)
    with pytest.raises(InvalidShape, match="graph has 3 rows, wanted 2"):
        facility_location(np.eye(2), 1, exact_rows=1, graph=graph)
    with pytest.raises(InvalidParameter, match="centred"):
        facility_location(np.eye(3), 1, exact_rows=1, graph=replace(graph, center=True))
