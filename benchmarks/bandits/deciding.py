"""How long a durable decision takes over HTTP, beside the embedding that it is made on."""

import http.client
import json
import os
import tempfile
import time
import urllib.parse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bandits.calls import ARMS, DIMENSION, percentiles, timed
from benchmarks.serving import Server
from kshot.clients.embedders.factory import build_embedder
from kshot.schemas.pools import Hashing, MiniLm

GOAL_MS = 5.0
DECIDE = "/v1/policies/p/decide"
BLOCK = 20
WRITTEN_BYTES = 28_000
"""What SQLite logs for a decision among 50 variants."""
EMBEDDERS: dict[str, Any] = {"hashing": Hashing(type="hashing"), "minilm": MiniLm()}


def measure_decide(queries: list[str], algorithm: str, threads: int, outcomes: int) -> dict[str, Any]:
    """Decide among 50 variants on 64 features of a query, each answer on disk before it is given.

    In turn for every block of queries: the embedding alone, in this process; the decision; the decision while
    the server learns the outcome of the one before, which is told untimed; the decision with the vector
    given; a request that does nothing; a write as long as a decision's, forced to disk.
    """
    result: dict[str, Any] = {}
    print("\n| embedder | what | p50 ms | p99 ms |\n| --- | --- | --- | --- |")
    for name, spec in EMBEDDERS.items():
        with tempfile.TemporaryDirectory(prefix="kshot-bench-") as folder:
            server = Server(Path(folder), threads)
            try:
                embedder = build_embedder(spec, threads=threads)
                found = _measured(server, embedder, spec, queries, algorithm, outcomes, Path(folder))
            finally:
                server.close()
        result[name] = {what: percentiles(values) for what, values in found.items()}
        for what, row in result[name].items():
            print(f"| {name} | {what} | {row[0]:.2f} | {row[1]:.2f} |")
        for what in ("decide", "decide, right after an outcome"):
            more = result[name][what][0] - result[name]["embedding alone"][0]
            print(f"| {name} | {what}: p50 less that of the embedding (goal {GOAL_MS:g}) | {more:.2f} | |")
    return result


def _measured(
    server: Server,
    embedder: Any,
    spec: Any,
    queries: list[str],
    algorithm: str,
    outcomes: int,
    folder: Path,
) -> dict[str, list[float]]:
    client = server.client
    client.post(
        "/v1/policies",
        json={
            "name": "p",
            "algorithm": algorithm,
            "context": {"embedder": spec.model_dump(mode="json"), "dimension": DIMENSION},
            "variants": [{"name": f"arm-{arm:02}"} for arm in range(ARMS)],
        },
    ).raise_for_status()
    warm(client, queries, outcomes)
    kinds: dict[str, list[float]] = {}
    asked = Asking(server.url)
    with (folder / "written").open("wb", buffering=0) as file:

        def written() -> None:
            file.write(b"x" * WRITTEN_BYTES)
            os.fsync(file.fileno())

        def after_an_outcome(query: str) -> float:
            told(client, [decided(client, {"inputs": query})["decision_id"]])
            return asked("POST", DECIDE, {"inputs": query})

        for start in range(0, len(queries), BLOCK):
            block = queries[start : start + BLOCK]
            vectors = [embedder.encode([one], token_layer=None).vectors[0].tolist() for one in block]
            rows: dict[str, list[float]] = {
                "embedding alone": [timed(lambda q=q: embedder.encode([q], token_layer=None)) for q in block],
                "decide": [asked("POST", DECIDE, {"inputs": q}) for q in block],
                "decide, right after an outcome": [after_an_outcome(one) for one in block],
                "decide with a vector": [asked("POST", DECIDE, {"vector": v}) for v in vectors],
                "a request that does nothing": [asked("GET", "/livez") for _ in block],
                "a write that is forced to disk": [timed(written) for _ in block],
            }
            for what, found in rows.items():
                kinds.setdefault(what, []).extend(found)
    return kinds


class Asking:
    """A client that costs next to nothing: one connection, bodies written before, answers only read."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=60)

    def __call__(self, method: str, path: str, body: object = None) -> float:
        """Return the milliseconds until the last byte of the answer."""
        data = None if body is None else json.dumps(body).encode()
        started = time.perf_counter()
        self._connection.request(method, path, data, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        text = answer.read()
        took = 1e3 * (time.perf_counter() - started)
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path} was answered by {answer.status}: {text[:200]!r}")
        return took


def warm(client: Any, queries: list[str], outcomes: int) -> None:
    """Let the policy learn something first."""
    rng = np.random.default_rng(0)
    ids = [
        decided(client, {"inputs": queries[int(rng.integers(len(queries)))]})["decision_id"]
        for _ in range(outcomes)
    ]
    told(client, ids)
    until = time.monotonic() + 60
    while client.get("/v1/policies/p").raise_for_status().json()["outcomes"] < outcomes:
        if time.monotonic() > until:
            raise TimeoutError("the policy does not learn")
        time.sleep(0.05)


def decided(client: Any, body: dict[str, Any]) -> Any:
    """Decide."""
    return client.post(DECIDE, json=body).raise_for_status().json()


def told(client: Any, decision_ids: list[str]) -> None:
    """Tell outcomes."""
    items = [{"decision_id": one, "value": float(place % 2)} for place, one in enumerate(decision_ids)]
    client.post("/v1/feedback:batch", json={"items": items}).raise_for_status()
