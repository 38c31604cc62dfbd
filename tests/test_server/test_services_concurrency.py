"""Readers, writers and deletions at once: every answer is one state of the pool, and a deletion is final."""

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.test_server.live import UNSCORED, GatedEndpoint, LivePool, ids, running, tickets, wait_until

QUERY = "the invoice number3 was charged twice"
PAIRS = 12


def pair(number: int, generation: int) -> list[dict[str, Any]]:
    """Two examples that are only ever written together."""
    return [
        {
            "id": f"p{number}{side}",
            "inputs": f"invoice {number} {side} {generation % 3}",
            "outputs": str(generation),
        }
        for side in "ab"
    ]


def together(*works: Callable[[], object]) -> None:
    with ThreadPoolExecutor(len(works)) as threads:
        for done in [threads.submit(work) for work in works]:
            done.result()


ROUNDS = pytest.mark.parametrize("rounds", [6, pytest.param(150, marks=pytest.mark.slow)])


@ROUNDS
def test_every_answer_is_one_state_of_the_pool(rounds: int, pool: LivePool):
    pool.add([row for number in range(PAIRS) for row in pair(number, 0)])
    finished = threading.Event()

    def write() -> None:
        for generation in range(1, rounds + 1):
            rows = [
                row
                for number in range(PAIRS)
                if (number + generation) % 3
                for row in pair(number, generation)
            ]
            pool.add(rows, wait="none" if generation % 2 else "indexed")
        finished.set()

    def read(method: str) -> None:
        version = 0
        while not finished.is_set():
            chosen = pool.select(QUERY, k=2 * PAIRS, method=method)
            outputs = {one["id"]: one["outputs"] for one in chosen["demonstrations"]}
            assert len(outputs) == 2 * PAIRS
            for number in range(PAIRS):
                assert outputs[f"p{number}a"] == outputs[f"p{number}b"]
            assert chosen["pool_version"] >= version
            version = chosen["pool_version"]

    together(write, *(partial(read, method) for method in ("fused", "bm25", "label_balanced")))


@ROUNDS
def test_an_acknowledged_deletion_is_final_and_a_written_row_is_there(rounds: int, pool: LivePool):
    pool.add(tickets(5 * rounds))
    lock = threading.Lock()
    deleted: set[str] = set()
    finished = threading.Event()

    def delete() -> None:
        for i in range(0, 3 * rounds, 3):
            gone = [f"t{j:05d}" for j in range(i, i + 3)]
            reply = pool.delete(ids=gone)
            assert reply["deleted"] == 3
            assert pool.info()["indexed_version"] >= reply["version"]
            with lock:
                deleted.update(gone)
        finished.set()

    def write() -> None:
        for row in tickets(5, start=5 * rounds):
            assert pool.add([row])["indexed"]
            expression = {"field": "id", "eq": row["id"]}
            assert ids(pool.select(QUERY, filter=expression)) == [row["id"]]

    def read(seed: int) -> None:
        rng = random.Random(seed)
        methods = UNSCORED
        while not finished.is_set():
            with lock:
                before = set(deleted)
            method = rng.choice(methods)
            assert not before & set(ids(pool.select(QUERY, k=100, method=method, explain=True)))
            hits = pool.request("POST", "/search", {"inputs": QUERY, "k": 100}).json()["hits"]
            assert not before & {one["id"] for one in hits}
            assert not before & {one["id"] for one in pool.listed()}

    together(delete, write, partial(read, 1), partial(read, 2))
    assert len(pool.select(QUERY, k=1000)["demonstrations"]) == 2 * rounds + 5


def test_writers_of_the_same_ids_leave_one_of_each(pool: LivePool):
    def write(writer: int) -> None:
        for turn in range(6):
            rows = [{"id": f"x{i}", "inputs": f"text {i}", "outputs": f"{writer}.{turn}"} for i in range(10)]
            assert pool.add(rows, wait="none")["accepted"] == 10

    together(*(partial(write, writer) for writer in range(4)))
    pool.indexed()
    listed = {one["id"]: one["outputs"] for one in pool.listed()}
    chosen = {one["id"]: one["outputs"] for one in pool.select("text", k=100)["demonstrations"]}
    assert len(listed) == 10
    assert chosen == listed
    assert len(set(listed.values())) == 1, "batches are atomic"


def test_settings_change_while_requests_run(pool: LivePool):
    pool.add(tickets(20))
    finished = threading.Event()
    separators = ["\n\n", "\n---\n"]

    def change() -> None:
        for turn in range(5):
            pool.patch(
                prompt={
                    "separator": separators[turn % 2],
                    "demonstration": separators[turn % 2] + "{{ input }}",
                }
            )
            pool.patch(select={"k": 2 + turn % 3})
        finished.set()

    def read() -> None:
        while not finished.is_set():
            reply = pool.request("POST", "/render", {"inputs": QUERY, "format": "text"}).json()
            frame = reply["selection"]["frame"]
            if frame is not None:
                for one in reply["selection"]["demonstrations"]:
                    assert one["rendered"]["text"].startswith(frame["separator"])

    together(change, read, read)


def test_two_changes_of_settings_at_once_both_hold(pool: LivePool):
    for turn in range(10):
        together(
            partial(pool.patch, retention_days=turn + 1),
            partial(pool.patch, difficulty_field=f"metadata.x{turn}"),
            partial(pool.patch, select={"k": turn + 1}),
        )
        settings = pool.info()["settings"]
        assert (settings["retention_days"], settings["difficulty_field"], settings["select"]["k"]) == (
            turn + 1,
            f"metadata.x{turn}",
            turn + 1,
        )


def test_one_name_is_given_once(pool: LivePool):
    statuses = []

    def create() -> None:
        body = {"name": f"{pool.name}-twin", "settings": {"embedder": {"type": "hashing"}}}
        statuses.append(pool.live.http.post("/v1/pools", json=body).status_code)

    together(*[create] * 5)
    assert sorted(statuses) == [201, 409, 409, 409, 409]


def test_more_requests_than_there_is_room_for_are_turned_away(tmp_path: Path, endpoint: GatedEndpoint):
    with running(tmp_path, select_concurrency=1, select_queue=0) as live:
        pool = live.create()
        pool.add(tickets(200))
        responses: list[httpx.Response] = []

        def ask() -> None:
            for _ in range(10):
                body = {"inputs": QUERY, "method": "set_bsr", "k": 100, "stable": {"k": 50}}
                responses.append(pool.request("POST", "/select", body))

        together(*[ask] * 6)
        assert {response.status_code for response in responses} == {200, 429}
        turned_away = next(response for response in responses if response.status_code == 429)
        assert turned_away.json()["code"] == "overloaded"
        assert "retry-after" in turned_away.headers


@pytest.mark.parametrize("wait", ["none", "indexed"])
def test_uploads_from_many_clients_are_all_there(wait: str, pool: LivePool):
    def upload(client: int) -> None:
        for start in range(0, 40, 10):
            assert pool.add(tickets(10, start=1000 * client + start), wait=wait)["created"] == 10

    together(*(partial(upload, client) for client in range(4)))
    wait_until(lambda: pool.stats()["pending"] == 0, "the index")
    assert len(pool.select(k=1000)["demonstrations"]) == len(pool.listed()) == 160
