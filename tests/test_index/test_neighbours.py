"""Neighbour graphs of large pools: how many true neighbours they hold, and graphs kept on disk."""

import os

import numpy as np
import pytest

from kshot.arrays import unit_rows
from kshot.index import neighbour_files, neighbours
from kshot.index.neighbour_files import load_or_build_graph
from kshot.index.neighbours import LEAST_RECALL, build_graph
from kshot.selectors import knn_graph
from kshot.selectors.annotation.base import GraphSpec

SPEC = GraphSpec(n_neighbors=12, center=True)


@pytest.fixture(autouse=True)
def small_sample(monkeypatch):
    monkeypatch.setattr(neighbours, "SAMPLED_ROWS", 500)


@pytest.fixture(scope="module")
def vectors():
    """Return rows in a thousand loose clusters."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((1_000, 24))
    return unit_rows(centres[rng.integers(0, 1_000, 4_000)] + 0.8 * rng.standard_normal((4_000, 24)))


@pytest.fixture(scope="module")
def exact(vectors):
    return knn_graph(vectors, 12)


def same(a, b):
    return (
        np.array_equal(a.indices, b.indices)
        and np.array_equal(a.similarities, b.similarities)
        and (a.center, a.recall) == (b.center, b.recall)
        and (a.mean is b.mean is None or np.array_equal(a.mean, b.mean))
    )


def shared(graph, exact):
    """Share of the true neighbours that a graph holds."""
    pairs = zip(graph.indices.tolist(), exact.indices.tolist(), strict=True)
    return np.mean([len(set(found) & set(true)) / len(true) for found, true in pairs])


def test_a_small_pool_is_searched_exactly(vectors, exact):
    assert same(build_graph(vectors, SPEC), exact)
    assert same(build_graph(vectors, SPEC, exact_rows=4_000), exact)


@pytest.mark.parametrize(("dimension", "center"), [(24, True), (24, False), (23, True)])
def test_a_large_pool_holds_nearly_all_true_neighbours_and_says_how_many(vectors, dimension, center):
    # Codes of pairs of dimensions need an even number of them.
    vectors = unit_rows(vectors[:, :dimension])
    true = knn_graph(vectors, 12, center=center)
    graph = build_graph(vectors, GraphSpec(12, center), exact_rows=3_999)
    assert LEAST_RECALL <= graph.recall < 1
    # The sample is an eighth of the rows; 0.012 are three standard errors of it.
    assert shared(graph, true) == pytest.approx(graph.recall, abs=0.012)
    assert graph.indices.shape == (4_000, 12)
    assert (graph.indices != np.arange(4_000)[:, None]).all()
    assert all(len(set(row)) == 12 for row in graph.indices.tolist())
    assert (np.diff(graph.similarities, axis=1) <= 0).all()
    same_edges = graph.indices == true.indices
    assert np.abs(graph.similarities - true.similarities)[same_edges].max() < 1e-6
    assert (graph.mean is None) == (true.mean is None) == (not center)


def test_the_same_vectors_give_the_same_graph(vectors):
    assert same(build_graph(vectors, SPEC, exact_rows=0), build_graph(vectors, SPEC, exact_rows=0))


def test_more_lists_are_searched_until_enough_is_found(vectors, exact, monkeypatch):
    monkeypatch.setattr(neighbours, "LEAST_RECALL", 0.999)
    graph = build_graph(vectors, SPEC, exact_rows=0)
    assert graph.recall >= 0.999
    monkeypatch.setattr(neighbours, "LEAST_RECALL", 2.0)
    graph = build_graph(vectors, SPEC, exact_rows=0)
    # Every list was searched.
    assert graph.recall == 1
    assert shared(graph, exact) == 1


def test_a_row_in_too_small_a_list_is_searched_for_everywhere(vectors, monkeypatch):
    # Lists are of a hundred rows or so, and 300 neighbours are wanted of the first alone.
    monkeypatch.setattr(neighbours, "LEAST_RECALL", 0.0)
    monkeypatch.setattr(neighbours, "_FIRST_PROBES", 1)
    graph = build_graph(vectors, GraphSpec(300, center=True), exact_rows=0)
    true = knn_graph(vectors, 300)
    assert (graph.indices >= 0).all()
    assert shared(graph, true) > 0.9


def test_equal_rows_are_each_others_neighbours_in_row_order(vectors):
    crowd = np.repeat(vectors[:400], 5, axis=0)
    graph = build_graph(crowd, GraphSpec(4, center=True), exact_rows=0)
    twins = [[5 * (i // 5) + j for j in range(5) if j != i % 5] for i in range(2_000)]
    assert graph.indices.tolist() == twins


def test_any_of_many_equal_rows_is_as_good(vectors):
    crowd = np.repeat(vectors[:8], 250, axis=0)
    graph = build_graph(crowd, GraphSpec(20, center=True), exact_rows=0)
    assert (graph.indices // 250 == np.arange(2_000)[:, None] // 250).all()
    assert graph.recall == 1
    assert graph.similarities == pytest.approx(1)


def test_more_neighbours_than_rows_are_all_of_them(vectors):
    graph = build_graph(vectors[:40], GraphSpec(99, center=True), exact_rows=0)
    assert graph.indices.shape == (40, 39)
    assert [sorted(row) for row in graph.indices.tolist()] == [
        [j for j in range(40) if j != i] for i in range(40)
    ]


def test_progress_is_told_and_a_report_can_stop(vectors):
    seen = []
    build_graph(vectors, SPEC, lambda done, total: seen.append((done, total)), exact_rows=0)
    assert seen[0] == (0, 4_000)
    assert seen[-1] == (4_000, 4_000)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)

    def stop(done, total):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        build_graph(vectors, SPEC, stop, exact_rows=0)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def builds(monkeypatch):
    """Count searches."""
    count: list[int] = []

    def counted(vectors, *arguments, **options):
        count.append(len(vectors))
        return build_graph(vectors, *arguments, **options)

    monkeypatch.setattr(neighbour_files, "build_graph", counted)
    return count


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("n", [1, 2, 60])
def test_a_graph_is_found_again(tmp_path, vectors, builds, center, n):
    spec = GraphSpec(7, center)
    folder = tmp_path / "graphs"
    built = load_or_build_graph(folder, vectors[:n], spec, "tickets 3")
    seen = []
    again = load_or_build_graph(folder, vectors[:n], spec, "tickets 3", lambda *told: seen.append(told))
    assert same(built, again)
    assert len(builds) == 1
    assert seen == [(n, n)]
    assert len(files(folder)) == 1


def test_an_approximate_graph_keeps_its_recall(tmp_path, vectors, builds):
    built = load_or_build_graph(tmp_path, vectors, SPEC, "a", exact_rows=0)
    again = load_or_build_graph(tmp_path, vectors, SPEC, "a", exact_rows=0)
    assert same(built, again)
    assert again.recall < 1
    assert len(builds) == 1


def test_without_a_folder_nothing_is_kept(vectors, builds):
    for _ in range(2):
        load_or_build_graph(None, vectors[:30], SPEC, "a")
    assert len(builds) == 2


def test_another_graph_is_not_mistaken_for_it(tmp_path, vectors, builds):
    load_or_build_graph(tmp_path, vectors[:40], SPEC, "a")
    for rows, spec, key in (
        (40, SPEC, "b"),
        (41, SPEC, "a"),
        (40, GraphSpec(11, center=True), "a"),
        (40, GraphSpec(12, center=False), "a"),
    ):
        graph = load_or_build_graph(tmp_path, vectors[:rows], spec, key)
        assert same(graph, knn_graph(vectors[:rows], spec.n_neighbors, center=spec.center))
    assert len(builds) == 5
    # Not even under its name.
    a, b = (tmp_path / neighbour_files._name(40, SPEC, key) for key in "ac")
    load_or_build_graph(tmp_path, vectors[:40], SPEC, "a")
    b.write_bytes(a.read_bytes())
    load_or_build_graph(tmp_path, vectors[:40], SPEC, "c")
    assert len(builds) == 7


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "header", "no json", "folder"])
def test_a_damaged_file_is_replaced(tmp_path, vectors, builds, damage):
    built = load_or_build_graph(tmp_path, vectors[:50], SPEC, "a")
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    spoiled = {
        "flipped": content[:-3] + bytes([content[-3] ^ 1]) + content[-2:],
        "cut": content[:-100],
        "empty": b"",
        "header": content.replace(b'"xxh3"', b'"sum"'),
        "no json": b"[1, 2]\n" + content,
    }
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        path.write_bytes(spoiled[damage])
    assert same(load_or_build_graph(tmp_path, vectors[:50], SPEC, "a"), built)
    assert len(builds) == 2
    if damage != "folder":
        assert path.read_bytes() == content
    assert same(load_or_build_graph(tmp_path, vectors[:50], SPEC, "a"), built)
    assert len(builds) == (3 if damage == "folder" else 2)
    assert len(files(tmp_path)) == 1


def test_the_graphs_used_last_stay(tmp_path, vectors, builds):
    kept = neighbour_files.KEPT
    for number in range(kept):
        load_or_build_graph(tmp_path, vectors[:30], SPEC, str(number))
        # Files made within one tick of the clock would have no order.
        path = tmp_path / neighbour_files._name(30, SPEC, str(number))
        os.utime(path, ns=(number, number))
    load_or_build_graph(tmp_path, vectors[:30], SPEC, "0")
    load_or_build_graph(tmp_path, vectors[:30], SPEC, "new")
    expected = ["0", *map(str, range(2, kept)), "new"]
    assert files(tmp_path) == sorted(neighbour_files._name(30, SPEC, key) for key in expected)


def test_what_was_left_unfinished_is_removed_once_it_is_old(tmp_path, vectors):
    old, young = tmp_path / "tmp-neighbours-1", tmp_path / "tmp-neighbours-2"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    load_or_build_graph(tmp_path, vectors[:30], SPEC, "a")
    assert not old.exists()
    assert young.exists()


def test_a_folder_that_cannot_be_written_to_does_not_stop_a_plan(tmp_path, vectors, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    graph = load_or_build_graph(blocked / "graphs", vectors[:30], SPEC, "a")
    assert same(graph, knn_graph(vectors[:30], 12))
    assert "was not saved" in caplog.text


def test_the_folder_of_a_pool_that_was_deleted_is_not_made_again(tmp_path, vectors, caplog):
    graph = load_or_build_graph(tmp_path / "pool" / "graphs", vectors[:30], SPEC, "a")
    assert same(graph, knn_graph(vectors[:30], 12))
    assert not (tmp_path / "pool").exists()
    assert "was not saved" in caplog.text


def test_nothing_is_left_of_a_search_that_was_stopped(tmp_path, vectors):
    def stop(done, total):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        load_or_build_graph(tmp_path / "graphs", vectors[:30], SPEC, "a", stop)
    assert not (tmp_path / "graphs").exists()
