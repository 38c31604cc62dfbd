"""How long a durable decision takes over HTTP, beside the embedding that it is made on."""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bandits.calls import ARMS, DIMENSION, percentiles, timed
from benchmarks.serving import Server
from kshot.clients.embedders.factory import build_embedder
from kshot.schemas.pools import Hashing, MiniLm

GOAL_MS = 5.0
EMBEDDERS: dict[str, Any] = {"hashing": Hashing(type="hashing"), "minilm": MiniLm()}


def measure_decide(queries: list[str], algorithm: str, threads: int, outcomes: int) -> dict[str, Any]:
    """Decide among 50 variants on 64 features of a query, each answer on disk before it is given.

    Interleaved for every query: the embedding alone, in this process; the decision; the same with the vector
    given; a request that does nothing; a write of a few bytes that is forced to disk. Every decision is
    followed by its outcome, untimed, so that the next one finds another state.
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
        more = result[name]["decide"][0] - result[name]["embedding alone"][0]
        result[name]["more than embedding"] = more
        paired = float(np.median(np.subtract(found["decide"], found["embedding alone"])))
        print(f"| {name} | p50 of decide less p50 of embedding (goal {GOAL_MS:g}) | {more:.2f} | |")
        print(f"| {name} | median of the differences | {paired:.2f} | |")
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
    http = server.client
    http.post(
        "/v1/policies",
        json={
            "name": "p",
            "algorithm": algorithm,
            "context": {"embedder": spec.model_dump(mode="json"), "dimension": DIMENSION},
            "variants": [{"name": f"arm-{arm:02}"} for arm in range(ARMS)],
        },
    ).raise_for_status()
    warm(http, queries, outcomes)
    kinds: dict[str, list[float]] = {}
    with (folder / "written").open("wb", buffering=0) as file:
        for query in queries:
            vector = embedder.encode([query], token_layer=None).vectors[0].tolist()
            steps: dict[str, Callable[[], object]] = {
                "embedding alone": lambda query=query: embedder.encode([query], token_layer=None),
                "decide": lambda query=query: decided(http, {"inputs": query}),
                "decide with a vector": lambda vector=vector: decided(http, {"vector": vector}),
                "a request that does nothing": lambda: http.get("/livez").raise_for_status(),
                "a write that is forced to disk": lambda: (file.write(b"x" * 512), os.fsync(file.fileno())),
            }
            for what, step in steps.items():
                kinds.setdefault(what, []).append(timed(step))
            told(http, [decided(http, {"inputs": query})["decision_id"]])
    return kinds


def warm(http: Any, queries: list[str], outcomes: int) -> None:
    """Let the policy learn something first."""
    rng = np.random.default_rng(0)
    ids = [
        decided(http, {"inputs": queries[int(rng.integers(len(queries)))]})["decision_id"]
        for _ in range(outcomes)
    ]
    told(http, ids)
    until = time.monotonic() + 60
    while http.get("/v1/policies/p").raise_for_status().json()["outcomes"] < outcomes:
        if time.monotonic() > until:
            raise TimeoutError("the policy does not learn")
        time.sleep(0.05)


def decided(http: Any, body: dict[str, Any]) -> Any:
    """Decide."""
    return http.post("/v1/policies/p/decide", json=body).raise_for_status().json()


def told(http: Any, decision_ids: list[str]) -> None:
    """Tell outcomes."""
    items = [{"decision_id": one, "value": float(place % 2)} for place, one in enumerate(decision_ids)]
    http.post("/v1/feedback:batch", json={"items": items}).raise_for_status()
