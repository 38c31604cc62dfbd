import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose

from kshot.arrays import unit_rows
from kshot.index import dense
from kshot.index.dense import DenseIndex, HnswIndex, walk_depth
from kshot.index.fast_scan import FastScanIndex
from tests import oracles
from tests.strategies import grid
from tests.test_index.builders import random_unit


def nearest(vectors, query, k, eligible):
    """Rank every eligible row by a full sort; equal similarities by row."""
    rows = np.flatnonzero(eligible)
    similarities = vectors[rows].astype(np.float64) @ query.astype(np.float64)
    return rows[oracles.top_k(similarities, k)].tolist()


def assert_nearest(found, vectors, query, k, eligible):
    assert found.rows.tolist() == nearest(vectors, query, k, eligible)
    assert found.similarities.tolist() == (vectors[found.rows] @ query).tolist()
    assert (found.rows.dtype, found.similarities.dtype) == (np.int64, np.float32)


@st.composite
def searches(draw):
    n = draw(st.integers(0, 12))
    vectors = draw(grid((n, 3), -2, 2)).astype(np.float32)
    query = draw(grid(3, -2, 2)).astype(np.float32)
    return vectors, query, draw(arrays(np.bool_, n)), draw(st.integers(-1, n + 2))


@given(search=searches(), give_rows=st.booleans())
def test_an_exact_search_equals_a_full_sort(search, give_rows):
    vectors, query, eligible, k = search
    rows = np.flatnonzero(eligible) if give_rows else None
    found = DenseIndex(vectors).search(query, k, eligible, rows)
    assert_nearest(found, vectors, query, max(k, 0), eligible)


class PartialBase:
    """Searches its rows exactly, and forgets some of what it found."""

    name = "hnsw"

    def __init__(self, vectors, forget=0):
        self._vectors = vectors
        self._forget = forget
        self.asked = []

    def __len__(self):
        return len(self._vectors)

    def search(self, query, k, eligible):
        self.asked.append(None if eligible is None else eligible.copy())
        mask = np.ones(len(self), np.bool_) if eligible is None else eligible[: len(self)]
        found = np.array(nearest(self._vectors, query, k, mask), np.int64)
        return found[self._forget :][::-1]


@given(search=searches(), data=st.data(), forget=st.integers(0, 2))
def test_a_search_joins_the_base_with_the_rows_behind_it_and_scans_where_the_base_falls_short(
    search, data, forget
):
    vectors, query, eligible, k = search
    base = PartialBase(vectors[: data.draw(st.integers(0, len(vectors)))], forget)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense, "_ROWS_PER_STEP", 0)
        found = DenseIndex(vectors, base).search(query, k, eligible)
    assert_nearest(found, vectors, query, max(k, 0), eligible)
    assert len(base.asked) == (k > 0 and bool(eligible.any()))
    for given_mask in base.asked:
        assert (given_mask is None) == bool(eligible.all())


def test_few_eligible_rows_are_scanned_and_many_are_not():
    rng = np.random.default_rng(1)
    n = 4000
    vectors, query = random_unit(rng, n, 4), random_unit(rng, 1, 4)[0]
    base = PartialBase(vectors)
    for count in (n // 10, n // 4):
        DenseIndex(vectors, base).search(query, 8, np.arange(n) < count)
    assert base.asked == []
    DenseIndex(vectors, base).search(query, 8, np.ones(n, np.bool_))
    assert len(base.asked) == 1


def test_similarities_are_cosines_of_all_rows_or_some():
    vectors = unit_rows([[1, 0], [3, 4], [0, -1]])
    index = DenseIndex(vectors)
    query = np.array([0, 1], np.float32)
    assert index.similarities(query).tolist() == pytest.approx([0, 0.8, -1])
    assert index.similarities(query, np.array([2, 1])).tolist() == pytest.approx([-1, 0.8])


@pytest.mark.parametrize(
    ("dimension", "fits"), [(384, True), (16, True), (14, False), (385, False), (3, False)]
)
def test_a_fast_scan_wants_pairs_of_dimensions(dimension, fits):
    assert FastScanIndex.fits(dimension) is fits


def test_the_kind_says_what_is_scanned():
    vectors = np.zeros((5, 2), np.float32)
    assert DenseIndex(vectors).kind == "exact"
    assert DenseIndex(vectors, PartialBase(vectors[:3])).kind == "hnsw (3 rows) + exact tail (2 rows)"


def test_a_walk_is_the_deeper_the_fewer_rows_are_eligible():
    assert walk_depth(8, 1.0) == 192
    assert walk_depth(256, 1.0) == 512
    assert walk_depth(256, 0.25) == 2048
    assert walk_depth(8, 1e-6) == 192_000_000


@pytest.fixture(scope="module", params=[HnswIndex, FastScanIndex], ids=lambda kind: kind.name)
def sealed(request):
    return request.param


@pytest.fixture(scope="module")
def small(sealed):
    """Give 1,500 vectors, some of them equal, and a sealed index over the first 1,200."""
    vectors = random_unit(np.random.default_rng(5), 1500, 16)
    vectors[100:160] = vectors[100]
    return vectors, sealed.build(vectors[:1200])


@pytest.mark.parametrize("share", [0.0, 0.002, 0.05, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("k", [1, 10, 200, 2000])
def test_a_graph_gives_eligible_rows_and_each_once(small, monkeypatch, share, k):
    vectors, graph = small
    monkeypatch.setattr(dense, "_ROWS_PER_STEP", 0)
    rng = np.random.default_rng(k)
    index = DenseIndex(vectors, graph)
    for query in (*random_unit(rng, 5, 16), vectors[100]):
        eligible = rng.random(1500) < share
        alone = graph.search(query, k, eligible)
        assert len(set(alone.tolist())) == len(alone)
        assert eligible[alone].all()
        found = index.search(query, k, eligible)
        assert len(set(found.rows.tolist())) == len(found.rows) == min(k, eligible.sum())
        assert eligible[found.rows].all()
        assert (np.diff(found.similarities) <= 0).all()


def test_rows_behind_the_graph_are_found(small, monkeypatch):
    vectors, graph = small
    monkeypatch.setattr(dense, "_ROWS_PER_STEP", 0)
    every = np.ones(1500, np.bool_)
    for row in (1200, 1333, 1499):
        assert DenseIndex(vectors, graph).search(vectors[row], 1, every).rows.tolist() == [row]


def test_rows_that_died_in_the_graph_are_not_found(small, monkeypatch):
    vectors, graph = small
    monkeypatch.setattr(dense, "_ROWS_PER_STEP", 0)
    eligible = np.ones(1500, np.bool_)
    eligible[:1150:2] = False
    for row in range(0, 1150, 50):
        found = DenseIndex(vectors, graph).search(vectors[row], 5, eligible)
        assert eligible[found.rows].all()
        wanted = vectors[nearest(vectors, vectors[row], 5, eligible)] @ vectors[row]
        assert_allclose(found.similarities, wanted, rtol=1e-6)


def test_an_empty_graph_finds_nothing():
    graph = HnswIndex.build(np.zeros((0, 4), np.float32))
    assert len(graph) == 0
    assert graph.search(np.ones(4, np.float32), 3, None).tolist() == []
    assert graph.search(np.ones(4, np.float32), 3, np.zeros(0, np.bool_)).tolist() == []


def test_threads_may_search_one_graph_at_once(small):
    vectors, graph = small
    queries = vectors[:200]
    alone = [graph.search(query, 5, None).tolist() for query in queries]
    found: dict[int, list[list[int]]] = {}

    def search(number):
        found[number] = [graph.search(query, 5, None).tolist() for query in queries]

    threads = [threading.Thread(target=search, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(4)] == [alone] * 4


@pytest.fixture(scope="module")
def clustered(sealed):
    """Give 22,000 vectors of 300 clusters, an index of the first 20,000, queries, each row's cluster."""
    rng = np.random.default_rng(11)
    centres = rng.standard_normal((300, 64))
    cluster = rng.integers(0, 300, 22_000)
    vectors = unit_rows(centres[cluster] + 0.8 * rng.standard_normal((22_000, 64)))
    near = rng.integers(0, 22_000, 50)
    queries = unit_rows(vectors[near] + 0.05 * rng.standard_normal((50, 64)))
    return vectors, sealed.build(vectors[:20_000]), queries, cluster


def mean_recall(index, queries, eligible, k=64):
    shares = []
    for query in queries:
        found = index.search(query, k, eligible).rows
        assert len(set(found.tolist())) == len(found) == min(k, eligible.sum())
        assert eligible[found].all()
        shares.append(len(set(found.tolist()) & set(nearest(index.vectors, query, k, eligible))) / len(found))
    return float(np.mean(shares))


@pytest.mark.slow
@pytest.mark.parametrize("rows_per_step", [10, 0])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9, 1.0])
def test_recall_of_clustered_vectors_under_random_filters(clustered, monkeypatch, share, rows_per_step):
    vectors, graph, queries, _ = clustered
    # With 0 the graph is asked even where a scan would be faster.
    monkeypatch.setattr(dense, "_ROWS_PER_STEP", rows_per_step)
    eligible = np.random.default_rng(int(100 * share)).random(len(vectors)) < share
    assert mean_recall(DenseIndex(vectors, graph), queries, eligible) >= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_recall_under_a_filter_that_follows_the_clusters(clustered, monkeypatch, share):
    vectors, graph, queries, cluster = clustered
    monkeypatch.setattr(dense, "_ROWS_PER_STEP", 0)
    eligible = cluster < 300 * share
    assert mean_recall(DenseIndex(vectors, graph), queries, eligible) >= 0.98
