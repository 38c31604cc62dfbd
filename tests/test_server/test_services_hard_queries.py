"""Queries and pools that leave a method little to go by: a defined answer from every method, at once."""

import json
import math
from typing import Any

import pytest

from tests.test_server.live import HASHING, UNSCORED, Live, LivePool, codes, ids, tickets

EMBEDDERS = [
    pytest.param(HASHING, id="hashing"),
    pytest.param({"type": "minilm"}, id="minilm", marks=pytest.mark.component),
]
QUERIES = {
    "stop words": "the of and to in is it",
    "one letter": "a",
    "no letter": "?",
    "no word": "💡",
    "one word 8,000 times": "invoice " * 8_000,
    "8,000 words": " ".join(f"w{i}" for i in range(8_000)),
}
METHODS: list[Any] = [
    *UNSCORED,
    *({"type": name, "relevance": "fused"} for name in ("mmr", "dpp", "label_balanced")),
    {"type": "set_bsr", "add_cand_score": 2.0, "relevance": "fused"},
    *({"type": name, "idf": True} for name in ("bsr", "set_bsr", "fused")),
    {"type": "label_balanced", "quotas": "proportional"},
]
every_method = pytest.mark.parametrize("method", METHODS, ids=json.dumps)


@pytest.fixture(scope="module", params=EMBEDDERS)
def pools(request: pytest.FixtureRequest, live: Live) -> dict[str, tuple[LivePool, int]]:
    """Pools, and how many different examples each can show."""
    embedder = request.param
    kind = embedder["type"]
    rows = {
        "thirty rows": (tickets(30), 30),
        "one row": (tickets(1), 1),
        "equal inputs": ([{"inputs": "the very same", "outputs": f"o{i}"} for i in range(12)], 12),
        "equal rows": ([{"id": f"r{i}", "inputs": "the very same", "outputs": "o"} for i in range(12)], 1),
        "no row": ([], 0),
    }
    made = {}
    for number, (name, (examples, count)) in enumerate(rows.items()):
        pool = live.create(f"{kind}-{number}", embedder=embedder)
        if examples:
            assert pool.add(examples)["accepted"] == len(examples)
        made[name] = pool, count
    return made


def is_finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(is_finite, value.values()))
    if isinstance(value, list):
        return all(map(is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


@every_method
@pytest.mark.parametrize("query", QUERIES)
def test_little_to_go_by_gives_a_whole_set(query: str, method: Any, pools: dict[str, tuple[LivePool, int]]):
    for pool, count in pools.values():
        for k in (1, 8, 1000):
            if k != 8 and len(query) > 1_000:
                continue
            chosen = pool.select(QUERIES[query], k=k, method=method, explain=k == 8)
            assert len(set(ids(chosen))) == len(ids(chosen)) == min(k, count)
            assert is_finite(chosen)
            assert chosen["exactness"] == "exact"
            assert ("no_eligible" in codes(chosen)) == (count == 0)
            assert ("fewer_than_k" in codes(chosen)) == (0 < count < k)


@every_method
def test_little_to_go_by_under_every_limit(method: Any, pools: dict[str, tuple[LivePool, int]]):
    limits: list[dict[str, Any]] = [
        {"exact": True},
        {"distinct": {"similarity": 0.9}},
        {"stable": {"k": 1}, "max_tokens": 40},
        {"sticky": {"clusters": 3}},
        {"adaptive": {"min_gain_per_token": 0}},
        {"min_score": 0.99},
        {"filter": {"field": "split", "eq": "nowhere"}},
        {"deadline_ms": 60_000},
    ]
    for pool, count in pools.values():
        for limit in limits:
            for query in (QUERIES["stop words"], QUERIES["no letter"]):
                chosen = pool.select(query, method=method, k=8, **limit)
                assert len(set(ids(chosen))) == len(ids(chosen)) <= min(8, count)
                assert is_finite(chosen)
                if "exact" in limit or "deadline_ms" in limit:
                    assert len(ids(chosen)) == min(8, count)


@every_method
def test_fewer_eligible_rows_than_wanted_are_all_chosen(method: Any, pools: dict[str, tuple[LivePool, int]]):
    pool, _ = pools["thirty rows"]
    chosen = pool.select("my invoice", method=method, k=20, filter={"field": "split", "eq": "test"})
    assert set(ids(chosen)) == {row["id"] for row in tickets(30) if row["split"] == "test"}
    assert codes(chosen)[0] == "fewer_than_k"


def test_equal_rows_are_picked_in_the_order_of_their_ingestion(live: Live):
    pool = live.create("in-order")
    rows = [{"id": f"r{i}", "inputs": "the very same", "outputs": f"o{i}"} for i in range(12)]
    pool.add(rows)
    for method in METHODS:
        if method != "random":
            picked = ids(pool.select("the very same text", method=method, k=5, order="as_selected"))
            assert picked == [row["id"] for row in rows[:5]], method
