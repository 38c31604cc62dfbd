"""Measure how often demonstrations carry the query's own label, per method and k, over a running service.

    python benchmarks/label_agreement.py --dataset banking77 clinc150 stackoverflow20 snips --k 4 8 16

Ingests each data set's train split, selects for the first test queries with every method and prints the share
of the k demonstrations whose label is the query's gold label, with 95 % bootstrap intervals over queries, the
share of queries whose label appears at all, and latencies at the largest k. No language model is involved.
"""

import sys

# `select.py` beside this file would hide Python's own `select` from whatever is imported next.
sys.path.append(sys.path.pop(0))

import argparse
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serving import Server

DATA = Path(os.environ.get("KSHOT_TEST_DATA", "../shared/data"))
LABEL_IN_META = {"snips": "intent"}
"""Data sets whose outputs are no labels, and the metadata that is one."""


@dataclass(frozen=True)
class Measured:
    """One method at one k: shares per query, and milliseconds per request."""

    shares: "np.ndarray[Any, np.dtype[np.float64]]"
    took_ms: "np.ndarray[Any, np.dtype[np.float64]]"


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", nargs="+", default=["banking77"])
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--k", type=int, nargs="+", default=[8])
    parser.add_argument("--methods", nargs="+", help="default: all")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    for dataset in options.dataset:
        train, test = (read(dataset, split) for split in ("train", "test"))
        with tempfile.TemporaryDirectory(prefix="kshot-bench-") as folder:
            server = Server(Path(folder), options.threads)
            try:
                measure(server, dataset, train, test[: options.queries], options)
            finally:
                server.close()


def read(dataset: str, split: str) -> list[dict[str, str]]:
    """Read a split: ids, inputs and labels."""
    field = LABEL_IN_META.get(dataset)
    with (DATA / dataset / f"{split}.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [
        {"id": r["id"], "inputs": r["input"], "outputs": r["meta"][field] if field else r["output"]}
        for r in rows
    ]


def measure(
    server: Server,
    dataset: str,
    train: list[dict[str, str]],
    test: list[dict[str, str]],
    options: argparse.Namespace,
) -> None:
    """Ingest, select with every method at every k, print a row per method."""
    took_s = server.ingest("bench", train)
    print(f"\n{dataset}: {len(train)} rows over HTTP in {took_s:.1f} s ({len(train) / took_s:.0f}/s)\n")
    known = [one["name"] for one in server.client.get("/v1/selectors").json()["data"]]
    methods = options.methods or known
    print("| method |" + "".join(f" k = {k} | any |" for k in options.k) + " p50 ms | p99 ms |")
    print("| --- |" + " --- |" * (2 * len(options.k) + 2))
    for method in sorted(methods, key=lambda name: (name != "random", name)):
        cells = []
        for k in options.k:
            done = asked(server, method, k, test)
            low, high = interval(done.shares)
            cells.append(
                f"{done.shares.mean():.3f} ({low:.3f} to {high:.3f}) | {(done.shares > 0).mean():.3f}"
            )
        p50, p99 = np.percentile(done.took_ms, (50, 99))
        print(f"| {method} | {' | '.join(cells)} | {p50:.1f} | {p99:.1f} |", flush=True)
    print(f"\nmemory after {len(methods) * len(options.k) * len(test):,} queries: {server.memory_mb()} MB")


def asked(server: Server, method: str, k: int, test: list[dict[str, str]]) -> Measured:
    """Select for every test row."""
    shares, took_ms = [], []
    for number, row in enumerate(test):
        body = {"inputs": row["inputs"], "k": k, "method": method, "seed": number}
        started = time.perf_counter()
        reply = server.client.post("/v1/pools/bench/select", json=body)
        took_ms.append((time.perf_counter() - started) * 1000)
        reply.raise_for_status()
        labels = [one["label"] for one in reply.json()["demonstrations"]]
        shares.append(np.mean([label == row["outputs"] for label in labels]))
    return Measured(np.array(shares), np.array(took_ms))


def interval(shares: "np.ndarray[Any, np.dtype[np.float64]]") -> tuple[float, float]:
    """Bootstrap a 95 % interval of the mean over queries, seed 0."""
    rng = np.random.default_rng(0)
    means = shares[rng.integers(0, len(shares), (10_000, len(shares)))].mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


if __name__ == "__main__":
    main()
