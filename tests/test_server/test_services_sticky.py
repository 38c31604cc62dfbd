"""One set for all queries of a cluster."""

from pathlib import Path
from typing import Any

import pytest

from tests.test_server.live import LivePool, ids, pointers, running, tickets

QUERIES = [row["inputs"] + " today" for row in tickets(48)]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with running(tmp_path_factory.mktemp("sticky")) as live:
        made = live.create("sticky")
        made.add(tickets(48))
        yield made


@pytest.mark.parametrize("method", ["similarity", "fused", "set_bsr", "bm25"])
def test_queries_of_one_cluster_get_one_set(method: str, pool: LivePool):
    cluster_to_sets: dict[str, set[tuple[str, ...]]] = {}
    for query in QUERIES:
        chosen = pool.select(query, k=4, method=method, sticky={"clusters": 5})
        cluster_to_sets.setdefault(chosen["cluster"], set()).add(tuple(ids(chosen)))
    assert 2 <= len(cluster_to_sets) <= 5
    assert all(len(sets) == 1 for sets in cluster_to_sets.values())


def test_the_set_is_the_one_of_the_example_at_the_heart(pool: LivePool):
    chosen = pool.select(QUERIES[7], k=4, sticky={"clusters": 5})
    heart = next(row for row in tickets(48) if row["id"] == chosen["cluster"])
    assert ids(chosen) == ids(pool.select(heart["inputs"], k=4))


def test_more_clusters_than_examples_are_one_each(pool: LivePool):
    query = tickets(48)[11]
    chosen = pool.select(query["inputs"], k=2, sticky={"clusters": 1000})
    assert chosen["cluster"] == query["id"]


def test_a_set_that_is_not_sticky_names_no_cluster(pool: LivePool):
    assert pool.select(QUERIES[0])["cluster"] is None


def test_an_empty_pool_has_no_clusters(tmp_path: Path):
    with running(tmp_path) as live:
        chosen = live.create("empty").select("a", sticky={})
        assert (chosen["demonstrations"], chosen["cluster"]) == ([], None)


def test_the_callers_own_vectors_have_clusters_too(tmp_path: Path):
    with running(tmp_path) as live:
        pool = live.create("own", embedder={"type": "external", "dimension": 2})
        pool.add(
            {"id": f"r{i}", "inputs": f"a{i}", "outputs": "o", "vector": [1.0, i / 10]} for i in range(-9, 10)
        )
        sets = {
            tuple(ids(pool.select(None, vector=[1.0, y], k=2, method="similarity", sticky={"clusters": 1})))
            for y in (-0.9, 0.1, 0.8)
        }
        assert len(sets) == 1
        problem = pool.problem("/select", {"inputs": "a", "method": "bm25", "sticky": {}})
        assert pointers(problem) == ["/vector"]
