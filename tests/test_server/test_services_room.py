"""Coverage weighed against length: `packing: knapsack` with the methods that cover the query's parts."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.arrays import Picks
from kshot.selectors import coverage_greedy, coverage_knapsack
from kshot.server.services.room import Room, packed
from tests import oracles
from tests.strategies import grid
from tests.test_server.live import Live, LivePool, codes, ids, tickets

COVERING = ("set_bsr", "set_cosine", "structural", "set_bm25")
QUERY = "please send a refund for my broken lamp"
#: One long row has every word of the query, two short ones half of them each.
ROWS = [
    {"id": "long", "inputs": f"{QUERY} {'and so on ' * 30}", "outputs": "o"},
    {"id": "first", "inputs": "please send a refund", "outputs": "o"},
    {"id": "second", "inputs": "for my broken lamp", "outputs": "o"},
    *({"id": f"other{i}", "inputs": f"nothing alike {i}", "outputs": "o"} for i in range(6)),
]


@pytest.fixture(scope="module")
def lamps(live: Live) -> LivePool:
    pool = live.create("lamps")
    pool.add(ROWS)
    return pool


@pytest.fixture(scope="module")
def uneven(live: Live) -> LivePool:
    pool = live.create("uneven")
    pool.add({**row, "outputs": "x " * (i * i % 40 + 1)} for i, row in enumerate(tickets(40)))
    return pool


def lengths(pool: LivePool) -> dict[str, int]:
    chosen = pool.select(QUERY, k=1000, method="similarity")
    return {one["id"]: one["tokens"] for one in chosen["demonstrations"]}


@pytest.mark.parametrize("method", ["set_bsr", "structural"])
def test_two_short_rows_take_the_place_of_a_long_one(method: str, lamps: LivePool):
    tokens = lengths(lamps)
    both = tokens["first"] + tokens["second"]
    assert ids(lamps.select(QUERY, k=2, method=method, order="as_selected"))[0] == "long"
    chosen = lamps.select(QUERY, k=2, method=method, max_tokens=both, packing="knapsack", explain=True)
    assert set(ids(chosen)) == {"first", "second"}
    assert chosen["usage"]["tokens"] == both
    facts = chosen["explain"]["diagnostics"]
    assert (facts["tokens"], facts["filled"]) == (both, 0)
    assert {one["id"]: one["reason"] for one in chosen["explain"]["rejected"]}["long"] == (
        "max_tokens: others cover more of the query for their tokens"
    )
    # Without the knapsack the long row comes first and nothing is left.
    assert ids(lamps.select(QUERY, k=2, method=method, max_tokens=both)) == []


@pytest.mark.parametrize("method", COVERING)
def test_budgets_are_kept_and_places_without_room_are_told(method: str, uneven: LivePool):
    for budget in (1, 30, 60, 120, 300, 10_000):
        for stable in (None, {"k": 1}):
            chosen = uneven.select(
                "my invoice", k=6, method=method, max_tokens=budget, packing="knapsack", stable=stable
            )
            assert chosen["usage"]["tokens"] <= budget
            assert len(set(ids(chosen))) == len(ids(chosen)) <= 6
            missing = 6 - len(ids(chosen))
            assert ("max_tokens" in codes(chosen)) == (missing > 0)
            assert "fewer_than_k" not in codes(chosen)
            if missing:
                assert f"{missing} picks did not fit into max_tokens" in [
                    one["message"] for one in chosen["warnings"]
                ]
    assert missing == 0


def test_no_budget_covers_less_than_the_plain_method_within_it(uneven: LivePool):
    def covered(packing: str, budget: int) -> float:
        options: Any = {"k": 8, "method": "set_bsr", "max_tokens": budget, "packing": packing}
        found = uneven.select(QUERY, explain=True, **options)["explain"]["coverage"]
        if found is None:
            return 0.0
        weights = [token["weight"] for token in found["tokens"]]
        best = np.max([one["scores"] for one in found["demonstrations"]], axis=0)
        return float(np.dot(weights, best))

    gains = [covered("knapsack", budget) - covered("prefix_stop", budget) for budget in range(20, 260, 20)]
    # Scores are told with three digits.
    assert min(gains) >= -2e-3
    assert max(gains) > 0.02


def test_methods_that_cover_nothing_are_packed_as_before(uneven: LivePool):
    for method in ("similarity", "mmr", "dpp"):
        chosen = uneven.select(QUERY, k=6, method=method, max_tokens=80, packing="knapsack", explain=True)
        assert "rule" not in chosen["explain"]["diagnostics"]
        assert chosen["usage"]["tokens"] <= 80


@settings(max_examples=60)
@given(data=st.data(), n=st.integers(1, 12), k=st.integers(1, 12), budget=st.integers(0, 60))
def test_all_that_fits_is_chosen_the_cover_first(data, n, k, budget):
    scores = data.draw(grid((n, 4), 0, 16, 1 / 64))
    sizes = np.array(data.draw(st.lists(st.integers(1, 20), min_size=n, max_size=n)), np.int64)
    rows = np.arange(n) * 10

    def run(most: int) -> Picks:
        return coverage_greedy(scores, most)

    found = packed(run, scores, rows, k, Room(budget, lambda some: sizes[some // 10]))
    cover = coverage_knapsack(scores, sizes, budget, k=k)
    picked = found.picks.indices.tolist()
    assert picked[: len(cover)] == cover.indices.tolist()
    assert found.seen_all
    assert sizes[picked].sum() <= budget
    assert found.missing == min(k, n) - len(picked)
    rest = [i for i in oracles.coverage_greedy(scores, n)[0] if i not in picked]
    if len(picked) < k:
        assert all(sizes[i] > budget - sizes[picked].sum() for i in rest)
    np.testing.assert_allclose(found.picks.scores, scores[picked].sum(axis=1))
