"""Recorded selections: written behind, found at once, kept as long as the pool says."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import pytest

from kshot.index.store import Store
from kshot.records import Selection
from kshot.server.services import selection_log
from tests.test_server.live import Live, LivePool, ids, running, the_problem, tickets, wait_until

QUERY = "the invoice was charged twice"


@pytest.fixture
def filled(pool: LivePool) -> LivePool:
    pool.add(tickets(12))
    return pool


def stored(live: Live, selection):
    return live.http.get(f"/v1/selections/{selection['selection_id']}").raise_for_status().json()


def a_record(pool_id: int, name: str, **changes: object) -> Selection:
    values: dict[str, object] = {
        "id": name,
        "pool_id": pool_id,
        "pool_version": 1,
        "created_at": datetime.now(UTC),
        "method": "fused",
        "request": {},
        "demonstrations": [],
    }
    return Selection(**values | changes)  # type: ignore[arg-type]  # as the fields want them


def test_a_selection_says_what_was_asked_and_shown(filled: LivePool, live: Live):
    filled.patch(
        select={"method": "mmr", "k": 3, "order": "nearest_first", "params": {"mmr": {"diversity": 0.3}}}
    )
    options = {
        "seed": 5,
        "min_score": -1.0,
        "filter": {"field": "metadata.priority", "in": [0, 1, 2, 3]},
        "exclude": {"groups": ["g0"]},
        "stable": {"k": 1},
    }
    chosen = filled.select(QUERY, **options)
    found = stored(live, chosen)
    assert [(one["id"], one["score"], one["gain"], one["part"]) for one in found["demonstrations"]] == [
        (one["id"], one["score"], one["gain"], one["part"]) for one in chosen["demonstrations"]
    ]
    assert found["request"] == {
        **options,
        "k": 3,
        "order": "nearest_first",
        "packing": "prefix_stop",
        "params": {
            "diversity": 0.3,
            "relevance": "similarity",
            "similarity": 1.0,
            "bsr": 1.0,
            "bm25": 0.0,
        },
    }
    assert (found["pool"], found["pool_version"], found["method"]) == (filled.name, 1, "mmr")
    assert (found["query"], found["abstained"]) == (QUERY, False)
    params = found["request"].pop("params")
    again = filled.select(QUERY, **found["request"], method={"type": found["method"], **params})
    assert ids(again) == ids(chosen)


def test_a_durable_selection_is_written_before_it_is_answered(filled: LivePool, live: Live):
    chosen = filled.select(QUERY, durable=True)
    assert live.services.store.get_selection(chosen["selection_id"]).query == QUERY


def test_a_selection_reads_the_same_before_and_after_it_is_written(filled: LivePool, live: Live):
    chosen = filled.select(QUERY)
    at_once = stored(live, chosen)
    filled.select("another", durable=True)
    assert live.services.selection_log.find(chosen["selection_id"]) is None
    assert stored(live, chosen) == at_once


def test_what_was_selected_outlives_the_process(tmp_path: Path):
    with running(tmp_path) as live:
        pool = live.create()
        pool.add(tickets(5))
        chosen = [pool.select(f"question {i}", k=2) for i in range(30)]
        before = [stored(live, one) for one in chosen]
    assert not live.services.selection_log._thread.is_alive()
    with running(tmp_path) as live:
        assert [stored(live, one) for one in chosen] == before


def test_the_query_is_kept_only_where_the_pool_says_so(tmp_path: Path):
    marker = "Moriarty-asked-this"
    with running(tmp_path) as live:
        pool = live.create(store_queries="none")
        pool.add(tickets(5))
        quiet = pool.select(marker, durable=True)
        response = pool.request("POST", "/render", {"inputs": {"text": marker}, "durable": True})
        assert response.status_code == 200
        assert stored(live, quiet)["query"] is None
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert not any(marker.encode() in path.read_bytes() for path in files)
        pool.patch(store_queries="full")
        assert stored(live, pool.select({"text": marker}))["query"] == {"text": marker}


def test_selections_and_keys_are_purged_when_their_time_is_over(tmp_path: Path):
    with running(tmp_path) as live:
        pool = live.create(retention_days=3)
        pool.add(tickets(2))
        pool_id = live.services.store.get_pool("tickets").id
    old = datetime.now(UTC) - timedelta(days=3)
    records = [
        a_record(pool_id, "past", created_at=old - timedelta(minutes=1)),
        a_record(pool_id, "present", created_at=old + timedelta(minutes=1)),
    ]
    with Store(f"sqlite:///{tmp_path}/store.sqlite", clock=lambda: old) as store:
        store.add_selections(records)
        store.reserve_idempotency_key("scope", "key", "hash")
        store.complete_idempotency_key("scope", "key", 200, {})

    with running(tmp_path) as live:
        # Old selections go with the first that is written after the start.
        live.pool().select(QUERY, durable=True)
        wait_until(lambda: live.http.get("/v1/selections/past").status_code == 404, "the purge")
        assert live.http.get("/v1/selections/present").status_code == 200
        assert live.services.store.reserve_idempotency_key("scope", "key", "hash") is None


def test_an_unknown_selection_is_not_found(live: Live):
    assert the_problem(live.http.get("/v1/selections/nothing"), 404)["code"] == "selection_not_found"


def test_a_selection_that_cannot_be_written_holds_up_no_other(filled: LivePool, live: Live):
    record = live.services.store.get_pool(filled.name)
    log = live.services.selection_log
    log.add(a_record(record.id, "good-1"))
    log.add(a_record(record.id, "poison", request={"n": float("nan")}))
    log.add(a_record(record.id, "good-2"))
    filled.select(QUERY, durable=True)
    store = live.services.store
    assert [store.get_selection(name).id for name in ("good-1", "good-2")] == ["good-1", "good-2"]
    assert the_problem(live.http.get("/v1/selections/poison"), 404)


def test_while_the_store_does_not_answer_selections_are_kept(
    filled: LivePool, live: Live, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(selection_log, "_RETRY_S", 0.02)
    store = live.services.store
    write, failed = store.add_selections, Event()

    def fail(batch):
        failed.set()
        raise OSError("no space left on device")

    monkeypatch.setattr(store, "add_selections", fail)
    response = filled.request("POST", "/select", {"inputs": QUERY, "durable": True})
    assert the_problem(response, 503)["code"] == "unavailable"
    failed.clear()
    chosen = filled.select(QUERY)
    assert failed.wait(30)
    assert stored(live, chosen)["query"] == QUERY
    monkeypatch.setattr(store, "add_selections", write)
    wait_until(lambda: live.services.selection_log.find(chosen["selection_id"]) is None, "the second attempt")
    assert json.loads(json.dumps(stored(live, chosen)))["method"] == "fused"
