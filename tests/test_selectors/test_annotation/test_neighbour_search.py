"""Neighbours against every pair compared in fractions; insertion against a new search."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.errors import InvalidInput, InvalidParameter, InvalidShape
from kshot.selectors import extend_graph, knn_graph
from kshot.selectors.annotation import neighbour_search, neighbour_tiles
from kshot.selectors.annotation.neighbour_graph import NeighbourGraph
from kshot.selectors.annotation.neighbour_search import ranked_neighbours
from tests.oracles import nearest_rows
from tests.test_selectors.test_annotation.graphs import Reports, Stopped, crowded_rows, graphs, random_rows


def same(a, b):
    return np.array_equal(a.indices, b.indices) and np.array_equal(a.similarities, b.similarities)


def in_small_blocks(monkeypatch, rows, spare=64):
    """Search tiles of few rows, a few lines at a time; insert rows block by block."""
    monkeypatch.setattr(neighbour_tiles, "_TILE_ROWS", rows)
    monkeypatch.setattr(neighbour_tiles, "_CACHED_BYTES", 24 * rows)
    monkeypatch.setattr(neighbour_tiles, "_LEAST_SPARE", spare)
    monkeypatch.setattr(neighbour_search, "_BLOCK_BYTES", 800 * rows)


@given(vectors=crowded_rows(), k=st.integers(1, 9), center=st.booleans())
def test_neighbours_are_those_of_comparing_every_pair(vectors, k, center):
    graph = knn_graph(vectors, k, center=center)
    assert graph.indices.tolist() == nearest_rows(vectors, k, center=center)
    assert graph.n_neighbors == min(k, len(vectors) - 1)
    assert (graph.center, graph.recall) == (center, 1.0)


def test_similarities_are_cosines_seen_from_the_mean():
    # Seen from the mean (2, 2) the rows point right, up, left and down.
    vectors = [[3, 2], [2, 3], [1, 2], [2, 1]]
    graph = knn_graph(vectors, 3)
    assert graph.indices.tolist() == [[1, 3, 2], [0, 2, 3], [1, 3, 0], [0, 2, 1]]
    assert graph.similarities.tolist() == [[0, 0, -1]] * 4
    assert graph.mean is not None
    assert graph.mean.tolist() == [2, 2]
    # Seen from the origin: (3, 2) and (2, 3) at 12/13, (3, 2) and (2, 1) at 8/sqrt(65).
    graph = knn_graph(vectors, 1, center=False)
    assert graph.indices.tolist() == [[3], [2], [1], [0]]
    assert graph.similarities.ravel().tolist() == pytest.approx([8 / np.sqrt(65)] * 4)
    assert graph.mean is None


def test_a_row_at_the_mean_is_as_similar_to_all():
    graph = knn_graph([[1, 0], [3, 0], [2, 0]], 2)
    assert graph.indices.tolist() == [[2, 1], [2, 0], [0, 1]]
    assert graph.similarities.tolist() == [[0, -1], [0, -1], [0, 0]]


@pytest.mark.parametrize("center", [True, False])
def test_equal_rows_come_in_row_order_whatever_the_block(monkeypatch, center):
    vectors = np.repeat(random_rows(1, 6, d=384), 30, axis=0)[np.random.default_rng(2).permutation(180)]
    whole = knn_graph(vectors, 40, center=center)
    expected = nearest_by_group(vectors, 40, center)
    assert whole.indices.tolist() == expected
    for rows in (1, 7, 64):
        for spare in (0, 64):
            in_small_blocks(monkeypatch, rows, spare)
            assert same(knn_graph(vectors, 40, center=center), whole)


@given(
    vectors=crowded_rows(max_rows=20),
    k=st.integers(1, 20),
    rows=st.integers(1, 9),
    spare=st.sampled_from([0, 1, 5]),
)
def test_neighbours_do_not_depend_on_tiles(vectors, k, rows, spare):
    whole = knn_graph(vectors, k)
    with pytest.MonkeyPatch.context() as patch:
        in_small_blocks(patch, rows, spare)
        assert same(knn_graph(vectors, k), whole)


@pytest.mark.parametrize("order", ["nearest last", "nearest first", "mixed"])
def test_the_order_in_which_near_rows_are_met_does_not_matter(monkeypatch, order):
    # On an arc: seen from the last row, or the first, every tile is nearer than all before.
    angles = np.linspace(0, 1.5, 300) ** 2
    angles = {
        "nearest last": angles,
        "nearest first": angles[::-1],
        "mixed": np.random.default_rng(3).permutation(angles),
    }[order]
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    whole = knn_graph(vectors, 12, center=False)
    in_small_blocks(monkeypatch, 40, spare=0)
    assert same(knn_graph(vectors, 12, center=False), whole)
    nearest = np.argsort(np.abs(angles[:, None] - angles), axis=1, kind="stable")[:, 1:13]
    assert [set(own) for own in whole.indices.tolist()] == [set(own) for own in nearest.tolist()]


def nearest_by_group(vectors, k, center):
    """Rank groups of equal rows by their cosine, far apart in these data, and within them by row."""
    rows = vectors.astype(np.float64)
    rows = rows - rows.mean(axis=0) if center else rows
    rows /= np.linalg.norm(rows, axis=1)[:, None]
    cosines = np.round(rows @ rows.T, 6)
    return [
        sorted((j for j in range(len(rows)) if j != i), key=lambda j: (-cosines[i, j], j))[:k]
        for i in range(len(rows))
    ]


@pytest.mark.parametrize("n", [1, 2, 5])
def test_identical_rows_are_neighbours_in_row_order(n):
    graph = knn_graph(np.tile([[0.6, 0.8]], (n, 1)).astype(np.float32), 3)
    assert graph.indices.tolist() == [[j for j in range(n) if j != i][:3] for i in range(n)]
    assert graph.similarities.shape == (n, min(3, n - 1))
    assert not graph.similarities.any()


def test_no_rows_have_no_neighbours():
    assert knn_graph(np.empty((0, 4)), 3).indices.shape == (0, 0)


def test_centring_what_is_centred_changes_nothing():
    vectors = random_rows(3, 50).astype(np.float64)
    centred = vectors - vectors.mean(axis=0)
    assert same(knn_graph(vectors, 9), knn_graph(centred, 9))


def test_the_length_of_all_rows_does_not_matter():
    vectors = random_rows(4, 30).astype(np.float64)
    for scale in (2.0**-600, 2.0**600):
        assert same(knn_graph(vectors * scale, 5), knn_graph(vectors, 5))


@given(vectors=crowded_rows(), old=st.integers(1, 9), k=st.integers(1, 9), center=st.booleans())
def test_inserting_rows_equals_a_new_search_with_the_same_mean(vectors, old, k, center):
    before = knn_graph(vectors[:old], k, center=center)
    holds_every_pair = before.n_neighbors == min(old, len(vectors)) - 1
    extended = extend_graph(before, vectors, n_neighbors=k if holds_every_pair else None)
    assert same(extended, knn_graph(vectors, k, center=center, mean=before.mean))


def test_inserting_rows_block_by_block(monkeypatch):
    vectors = random_rows(5, 200, d=16)
    whole = knn_graph(vectors, 12, mean=vectors[:120].mean(axis=0))
    before = knn_graph(vectors[:120], 12, mean=vectors[:120].mean(axis=0))
    in_small_blocks(monkeypatch, 7)
    extended = extend_graph(before, vectors)
    assert same(extended, whole)
    assert extended.mean is before.mean
    # In two steps as well, and nothing changes where nothing is new.
    assert same(extend_graph(extend_graph(before, vectors[:150]), vectors), whole)
    assert same(extend_graph(whole, vectors), whole)


def test_an_extended_graph_does_not_forget_what_it_missed():
    vectors = random_rows(6, 20)
    known = knn_graph(vectors[:10], 3)
    approximate = NeighbourGraph(known.indices, known.similarities, center=True, recall=0.97, mean=known.mean)
    assert extend_graph(approximate, vectors).recall == 0.97


def test_progress_is_told_and_a_report_can_stop(monkeypatch):
    vectors = random_rows(7, 40)
    in_small_blocks(monkeypatch, 10)
    reports = Reports()
    graph = knn_graph(vectors, 5, report=reports)
    # Four tiles, and six pairs of them.
    assert reports.seen == [(4 * done, 40) for done in range(1, 11)]
    with pytest.raises(Stopped):
        knn_graph(vectors, 5, report=Reports(stop_after=2))
    reports = Reports()
    extend_graph(graph, np.concatenate([vectors, random_rows(8, 8)]), report=reports)
    assert reports.seen[-1] == (48, 48)
    assert [done for done, _ in reports.seen] == sorted(done for done, _ in reports.seen)


BAD_CALLS: list[Any] = [
    (lambda: knn_graph(np.eye(3), 0), InvalidParameter, "n_neighbors is 0"),
    (lambda: knn_graph([1.0], 1), InvalidShape, "vectors has shape"),
    (lambda: knn_graph([[1.0, float("nan")]], 1), InvalidShape, "vectors holds nan"),
    (lambda: knn_graph([[1, 0], [0, 0]], 1), InvalidShape, "vectors row 1 has length zero"),
    (lambda: knn_graph(np.eye(3), 1, mean=[0.0]), InvalidShape, "mean has shape"),
    (lambda: extend_graph(knn_graph(np.eye(3), 1), np.eye(3)[:2]), InvalidShape, "vectors has shape"),
    (
        lambda: extend_graph(knn_graph(np.eye(3), 1), np.eye(3), n_neighbors=2),
        InvalidParameter,
        "n_neighbors is 2, allowed <= 1",
    ),
    (
        lambda: extend_graph(
            NeighbourGraph(np.zeros((2, 1), np.int32), np.zeros((2, 1), np.float32), center=True),
            np.eye(3),
        ),
        InvalidInput,
        "which mean",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD_CALLS)
def test_senseless_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_what_another_search_found_is_ranked_by_the_same_rule():
    found = np.array([[4, 0, 2, 7, 1], [3, -1, 1, 0, 2]])
    cosines = np.array([[0.5, 1.0, 0.9, 0.9, 0.9 + 1e-9], [0.1, -3.4e38, 0.2, 1.0000001, 1.0]], np.float32)
    indices, similarities = ranked_neighbours(found, cosines, np.array([0, 1]), 3)
    # Row 0 is not its own neighbour; 1, 2 and 7 are equal in float32. Row 1: above 1 counts as 1.
    assert indices.tolist() == [[1, 2, 7], [0, 2, 3]]
    assert similarities.tolist() == [[np.float32(0.9)] * 3, [1, 1, pytest.approx(0.1)]]


@given(graph=graphs())
def test_voters_are_the_neighbours_turned_round(graph):
    offsets, rows = graph.voters()
    for u in range(len(graph)):
        assert rows[offsets[u] : offsets[u + 1]].tolist() == [
            v for v, own in enumerate(graph.indices.tolist()) if u in own
        ]


def test_without_neighbours_there_are_no_voters():
    offsets, rows = knn_graph([[1.0, 0.0]], 3).voters()
    assert (offsets.tolist(), rows.tolist()) == ([0, 0], [])
