"""Token indexes that are built beside a live pool: in use without a restart, and after one."""

import json
from pathlib import Path
from typing import Any

import pytest

from kshot.index import candidates, token_sealing
from tests.test_server.live import LivePool, ids, running, tickets, wait_until

METHODS = ("bsr", "set_bsr", "fused")


@pytest.fixture(autouse=True)
def _few_rows_are_many(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(token_sealing, "TAIL_ROWS", 20)
    monkeypatch.setattr(candidates, "SMALL_POOL_ROWS", 10)


def sealed_rows(data_dir: Path) -> Any:
    """Return how many rows the saved base has; None without one."""
    try:
        (manifest,) = data_dir.glob("pools/1/*/tokens-*/manifest.json")
        return json.loads(manifest.read_text("utf-8"))["rows"]
    except (ValueError, FileNotFoundError):
        # There is none, or one takes the place of another.
        return None


def is_shortlisted(pool: LivePool) -> bool:
    """Tell whether a method that reads every token gets fewer rows than the pool has."""
    usage = pool.select(k=2, method="set_bsr")["usage"]
    return bool(usage["candidates"] < usage["eligible"])


def picks(pool: LivePool) -> dict[str, list[str]]:
    return {method: ids(pool.select(k=6, method=method)) for method in METHODS}


def test_a_pool_is_sealed_while_it_is_served_and_found_sealed_at_the_next_start(tmp_path: Path):
    with running(tmp_path) as live:
        pool = live.create()
        pool.add(tickets(15))
        every = picks(pool)
        assert not is_shortlisted(pool)
        pool.add([{**row, "inputs": f"quite other words {row['id']}"} for row in tickets(300, start=15)])
        wait_until(lambda: is_shortlisted(pool), "a sealed pool")
        assert sealed_rows(tmp_path) == 315
        # What was added has nothing of the query, but it changes what is usual, which fused counts from.
        found = picks(pool)
        for method in ("bsr", "set_bsr"):
            assert set(found[method]) == set(every[method])

    with running(tmp_path) as live:
        assert is_shortlisted(live.pool())
        assert picks(live.pool()) == found


def test_a_sealed_pool_gives_what_was_added_and_not_what_was_deleted(tmp_path: Path):
    with running(tmp_path) as live:
        pool = live.create()
        pool.add(tickets(200))
        wait_until(lambda: is_shortlisted(pool), "a sealed pool")
        (best,) = ids(pool.select(k=1, method="set_bsr"))
        pool.delete(ids=[best])
        pool.add([{"id": "new", "inputs": "my invoice was charged twice", "outputs": "billing"}])
        pool.indexed()
        for method in METHODS:
            chosen = ids(pool.select(k=20, method=method, order="as_selected"))
            assert chosen[0] == "new"
            assert best not in chosen


def test_rows_that_come_while_a_base_is_built_are_sealed_in_turn(tmp_path: Path):
    with running(tmp_path) as live:
        pool = live.create()
        for start in range(0, 180, 30):
            pool.add(tickets(30, start=start))
        wait_until(lambda: (sealed_rows(tmp_path) or 0) >= 160, "a base of all rows but a few")
