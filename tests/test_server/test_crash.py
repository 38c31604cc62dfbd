"""``kill -9`` at any instant: whatever was acknowledged is there after the next start, once, and served.

Clients keep a ledger of what the server acknowledged and of what was under way when it died. Afterwards every
example must be in the state last acknowledged, or in the one that was under way.
"""

import asyncio
import contextlib
import json
import math
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.test_server.live import HASHING, UNSCORED, LivePool, ids, tickets, wait_until
from tests.test_server.server_process import ServerProcess, serving

pytestmark = [pytest.mark.slow, pytest.mark.component]

IS_FULL = bool(os.environ.get("KSHOT_TEST_FULL"))
FOLDERS, KILLS_PER_FOLDER = (10, 5) if IS_FULL else (2, 4)
QUERY = "the invoice was charged twice"
GONE = None
MOST_UNDER_WAY = 2_000
MODEL_ROWS = 2_500
"""More than one chunk of the indexer, and no more than a real model embeds soon on a busy machine."""


@dataclass
class Ledger:
    """What clients know: the state of each id, None where it is gone; a state is an example's outputs."""

    acknowledged: dict[str, str | None] = field(default_factory=dict)
    under_way: dict[str, str | None] = field(default_factory=dict)
    selections: list[str] = field(default_factory=list)

    def sent(self, id_to_state: dict[str, str | None]) -> None:
        self.under_way.update(id_to_state)

    def answered(self, id_to_state: dict[str, str | None]) -> None:
        self.acknowledged.update(id_to_state)
        for example_id in id_to_state:
            del self.under_way[example_id]

    def check(self, found: list[dict[str, Any]]) -> None:
        """Compare with a listing, and go on from what is there."""
        repeated = [example_id for example_id, n in Counter(one["id"] for one in found).items() if n > 1]
        assert repeated == []
        present = {one["id"]: one["outputs"] for one in found}
        for example_id in self.acknowledged.keys() | self.under_way.keys() | present.keys():
            allowed = [self.acknowledged.get(example_id, GONE)]
            if example_id in self.under_way:
                allowed.append(self.under_way[example_id])
            assert present.get(example_id, GONE) in allowed, example_id
        self.acknowledged, self.under_way = dict(present), {}


def row(example_id: str, state: str) -> dict[str, Any]:
    return {"id": example_id, "inputs": f"ticket {example_id} about my invoice", "outputs": state}


async def upload(
    server: ServerProcess, ledger: Ledger, rows: Iterator[dict[str, Any]], fast_rows: float
) -> None:
    """Stream rows as NDJSON and read the answers meanwhile, until the server is gone."""
    address = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = "POST /v1/pools/tickets/examples HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n"
    writer.write(f"{head}Content-Type: application/x-ndjson\r\n\r\n".encode())
    line_to_row: dict[int, dict[str, Any]] = {}
    room = asyncio.Semaphore(MOST_UNDER_WAY)

    async def send() -> None:
        for number, one in enumerate(rows, start=1):
            line_to_row[number] = one
            ledger.sent({one["id"]: one["outputs"]})
            data = json.dumps(one).encode() + b"\n"
            writer.write(b"%x\r\n%s\r\n" % (len(data), data))
            await writer.drain()
            await asyncio.sleep(0.05 if number > fast_rows else 0)
            await room.acquire()

    async def receive() -> None:
        await reader.readuntil(b"\r\n\r\n")
        while size := int(await reader.readline() or b"0", 16):
            for text in (await reader.readexactly(size + 2)).splitlines():
                if text:
                    reply = json.loads(text)
                    assert reply["rejected"] == []
                    done = [number for number in line_to_row if number <= reply["upto_line"]]
                    assert reply["accepted"] == len(done)
                    ledger.answered({one["id"]: one["outputs"] for one in map(line_to_row.pop, done)})
                    for _ in done:
                        room.release()

    sending = asyncio.create_task(send())
    try:
        await receive()
    finally:
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await sending
        writer.close()


def stream(
    server: ServerProcess, ledger: Ledger, prefix: str, rng: random.Random, fast_rows: float = math.inf
) -> None:
    """Upload rows without end, and slowly after the first ones."""
    rows = (row(f"{prefix}s{n}", str(rng.random())) for n in count())
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        asyncio.run(upload(server, ledger, rows, fast_rows))


def write_little(server: ServerProcess, ledger: Ledger, prefix: str, rng: random.Random) -> None:
    """Create, change and delete a few rows at a time: every request is a segment, and segments are merged."""
    own: list[str] = []
    with contextlib.suppress(httpx.TransportError), server.pool() as pool:
        for n in count():
            if own and rng.random() < 0.25:
                gone = rng.sample(own, k=min(2, len(own)))
                changes: dict[str, str | None] = dict.fromkeys(gone)
                ledger.sent(changes)
                assert pool.delete(ids=gone)["deleted"] == len(gone)
                own = [one for one in own if one not in gone]
            else:
                chosen = [*rng.sample(own, k=min(2, len(own))), f"{prefix}w{n}"]
                changes = {one: f"{n} {rng.random()}" for one in chosen}
                ledger.sent(changes)
                pool.add(
                    [row(one, str(state)) for one, state in changes.items()],
                    wait=rng.choice(["none", "indexed"]),
                )
                own = list({*own, *chosen})
            ledger.answered(changes)


def select(server: ServerProcess, ledger: Ledger, _prefix: str, rng: random.Random) -> None:
    """Select, and wait for each selection to be on disk."""
    methods = UNSCORED
    with contextlib.suppress(httpx.TransportError), server.pool() as pool:
        while True:
            chosen = pool.select(QUERY, method=rng.choice(methods), durable=True)
            ledger.selections.append(chosen["selection_id"])


Work = Callable[[ServerProcess, Ledger, str, random.Random], None]


def killed_at_work(
    data_dir: Path, ledger: Ledger, works: list[Work], prefix: str, rng: random.Random, latest_s: float = 2.0
) -> None:
    """Kill a server while clients work with it."""
    failures: list[BaseException] = []
    with serving(data_dir) as server:

        def guarded(work: Work, seed: int) -> None:
            try:
                work(server, ledger, f"{prefix}{seed}", random.Random(seed))
            except BaseException as error:  # noqa: BLE001  (raised again in the test's own thread)
                failures.append(error)

        threads = [threading.Thread(target=guarded, args=(work, rng.randrange(2**32))) for work in works]
        for thread in threads:
            thread.start()
        time.sleep(rng.uniform(0.02, latest_s))
        server.kill()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]


def check_after(
    data_dir: Path, ledger: Ledger, first: Callable[[LivePool], object] = lambda _pool: None
) -> None:
    """Start over the folder and compare what is served with the ledger, after what comes ``first``."""
    with serving(data_dir) as server, server.pool() as pool:
        first(pool)
        ledger.check(pool.listed())
        wait_until(lambda: pool.stats()["pending"] == 0, "the index")
        pool.indexed()
        examples = pool.stats()["examples"]
        assert examples == len(ledger.acknowledged)
        for method in UNSCORED:
            chosen = pool.select(QUERY, k=20, method=method)
            assert chosen["usage"]["eligible"] == examples
            for one in chosen["demonstrations"]:
                assert one["outputs"] == ledger.acknowledged[one["id"]]
        for selection_id in ledger.selections:
            assert pool.live.http.get(f"/v1/selections/{selection_id}").status_code == 200
        assert not list(data_dir.glob("pools/*/*/segments/tmp-*"))


def set_up(data_dir: Path, embedder: dict[str, Any], rows: list[dict[str, Any]] | None = None) -> None:
    with serving(data_dir) as server, server.pool() as pool:
        pool.live.create(embedder=embedder)
        if rows:
            pool.add(rows)


@pytest.mark.parametrize("folder", range(FOLDERS))
def test_nothing_acknowledged_is_lost_and_nothing_is_there_twice(folder: int, tmp_path: Path):
    rng, ledger = random.Random(folder), Ledger()
    set_up(tmp_path, HASHING)
    for kill in range(KILLS_PER_FOLDER):
        killed_at_work(tmp_path, ledger, [stream, write_little, write_little, select], f"{kill}-", rng)
        check_after(tmp_path, ledger)
    assert ledger.acknowledged


@pytest.mark.parametrize("folder", range(5 if IS_FULL else 1))
def test_nothing_acknowledged_is_lost_with_a_real_model(folder: int, tmp_path: Path):
    rng, ledger = random.Random(100 + folder), Ledger()
    set_up(tmp_path, {"type": "minilm"})
    killed_at_work(tmp_path, ledger, [partial(stream, fast_rows=MODEL_ROWS), write_little, select], "m", rng)
    check_after(tmp_path, ledger)


@pytest.mark.parametrize("folder", range(5 if IS_FULL else 1))
def test_segments_survive_their_merges(folder: int, tmp_path: Path):
    rng, ledger = random.Random(200 + folder), Ledger()
    set_up(tmp_path, HASHING)
    for kill in range(3):
        killed_at_work(tmp_path, ledger, [write_little] * 3, f"{kill}-", rng, 6.0)
        check_after(tmp_path, ledger)


@pytest.mark.parametrize("folder", range(5 if IS_FULL else 1))
def test_a_killed_job_is_finished_by_the_next_process(folder: int, tmp_path: Path):
    rng, ledger = random.Random(300 + folder), Ledger()
    rows = tickets(6000)
    set_up(tmp_path, HASHING, rows)
    ledger.acknowledged = {one["id"]: one["outputs"] for one in rows}
    job_ids: list[str] = []

    def change_features(server: ServerProcess, _ledger: Ledger, _prefix: str, _rng: random.Random) -> None:
        with contextlib.suppress(httpx.TransportError), server.pool() as pool:
            template = f"{{{{ inputs }}}} {rng.random()}"
            job_ids.append(pool.patch(token_layer=0, embed_template=template)["job_id"])
            while True:
                assert len(ids(pool.select(QUERY, k=5))) == 5

    def finish(pool: LivePool) -> None:
        for job_id in job_ids:
            assert pool.live.finished(job_id)["state"] == "succeeded"
            assert pool.info()["settings"]["token_layer"] == 0
        wait_until(lambda: len(list(tmp_path.glob("pools/*/*"))) == 1, "the removal of the old features")
        assert pool.live.http.get("/readyz").status_code == 200

    for kill in range(3):
        killed_at_work(tmp_path, ledger, [change_features, write_little], f"{kill}-", rng, 5.0)
        check_after(tmp_path, ledger, finish)


def test_a_killed_tuning_is_done_by_the_next_process(tmp_path: Path):
    rows = [{**one, "split": None} for one in tickets(3000)]
    set_up(tmp_path, HASHING, rows)
    with serving(tmp_path) as server, server.pool() as pool:
        job_id = pool.request("POST", "/tune", {"apply": True}).json()["id"]
        wait_until(lambda: pool.live.job(job_id)["done"], "the first rows")
        assert pool.live.job(job_id)["state"] == "running"
        server.kill()
    with serving(tmp_path) as server, server.pool() as pool:
        job = pool.live.finished(job_id)
        assert (job["state"], job["result"]["rows"]) == ("succeeded", 3000)
        kept = pool.info()["settings"]["select"]["params"].get("fused")
        assert kept == (job["result"]["after"] or {}).get("weights")


def test_a_killed_plan_is_made_by_the_next_process(tmp_path: Path):
    rows = [{**one, "outputs": None, "split": None} for one in tickets(6000)]
    set_up(tmp_path, HASHING, rows)
    body = {"pool": "tickets", "budget": 300, "method": "fast_vote_k"}
    with serving(tmp_path) as server, server.pool() as pool:
        plan_id = pool.live.http.post("/v1/plans", json=body).raise_for_status().json()["id"]
        wait_until(lambda: pool.live.job(plan_id)["phase"] in {"graph", "planning"}, "the graph")
        server.kill()
    with serving(tmp_path) as server, server.pool() as pool:
        assert pool.live.finished(plan_id)["state"] == "succeeded"
        again = pool.live.http.post("/v1/plans", json=body).raise_for_status().json()["id"]
        pool.live.finished(again)
        first, second = (
            pool.live.http.get(f"/v1/plans/{one}/items?limit=1000").json()["data"] for one in (plan_id, again)
        )
        assert len(first) == 300
        assert first == second


def test_a_clean_end_writes_what_was_selected_and_loses_nothing(tmp_path: Path):
    set_up(tmp_path, HASHING, tickets(50))
    for _ in range(2):
        with serving(tmp_path) as server:
            with server.pool() as pool:
                added = pool.add([row(f"r{time.monotonic_ns()}", "x")], wait="none")["ids"]
                chosen = [pool.select(f"question {i}")["selection_id"] for i in range(40)]
            assert server.stop() == 0
        with serving(tmp_path) as server, server.pool() as pool:
            for selection_id in chosen:
                assert pool.live.http.get(f"/v1/selections/{selection_id}").status_code == 200
            assert {*added} <= {one["id"] for one in pool.listed()}


def test_an_end_during_an_upload_keeps_what_was_acknowledged(tmp_path: Path):
    ledger = Ledger()
    set_up(tmp_path, HASHING)
    with serving(tmp_path) as server:
        thread = threading.Thread(target=stream, args=(server, ledger, "s", random.Random(1), 1200))
        thread.start()
        wait_until(lambda: len(ledger.acknowledged) == 1000, "the first batches")
        assert server.stop() == 0
        thread.join()
    check_after(tmp_path, ledger)
