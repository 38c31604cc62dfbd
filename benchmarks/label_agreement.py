"""Measure how often demonstrations carry the query's own label, per method, over a running HTTP service.

    python benchmarks/label_agreement.py --dataset banking77 --queries 500

Ingests the data set's train split, selects for the first test queries with every method and prints the share
of the k demonstrations whose label is the query's gold label, with 95 % bootstrap intervals over queries, the
share of queries whose label appears at all, and latencies. No language model is involved.
"""

import sys

# `select.py` beside this file would hide Python's own `select` from whatever is imported next.
sys.path.append(sys.path.pop(0))

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from serving import Server

DATA = Path(os.environ.get("KSHOT_TEST_DATA", "../shared/data"))


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="banking77")
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--k", type=int, default=8)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    train, test = (read(DATA / options.dataset / f"{split}.jsonl") for split in ("train", "test"))
    test = test[: options.queries]
    with tempfile.TemporaryDirectory(prefix="kshot-bench-") as folder:
        server = Server(Path(folder), options.threads)
        try:
            measure(server, train, test, options)
        finally:
            server.close()


def read(path: Path) -> list[dict[str, Any]]:
    """Read a split."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def measure(
    server: Server, train: list[dict[str, Any]], test: list[dict[str, Any]], options: argparse.Namespace
) -> None:
    """Ingest, select with every method, print a row each."""
    took_s = server.ingest(
        "bench", [{"id": r["id"], "inputs": r["input"], "outputs": r["output"]} for r in train]
    )
    print(f"{options.dataset}: {len(train)} rows over HTTP in {took_s:.1f} s ({len(train) / took_s:.0f}/s)")
    methods = [one["name"] for one in server.client.get("/v1/selectors").json()["data"]]
    print("| method | share with the gold label (95 %) | queries with any | p50 ms | p99 ms |")
    print("| --- | --- | --- | --- | --- |")
    for method in sorted(methods, key=lambda name: (name != "random", name)):
        shares, took_ms = [], []
        for number, row in enumerate(test):
            body = {"inputs": row["input"], "k": options.k, "method": method, "seed": number}
            started = time.perf_counter()
            reply = server.client.post("/v1/pools/bench/select", json=body)
            took_ms.append((time.perf_counter() - started) * 1000)
            reply.raise_for_status()
            labels = [one["label"] for one in reply.json()["demonstrations"]]
            shares.append(np.mean([label == row["output"] for label in labels]))
        low, high = interval(np.array(shares))
        p50, p99 = np.percentile(took_ms, (50, 99))
        found = f"{np.mean(shares):.3f} ({low:.3f} to {high:.3f}) | {np.mean(np.array(shares) > 0):.3f}"
        print(f"| {method} | {found} | {p50:.1f} | {p99:.1f} |")
    print(f"memory after {len(methods) * len(test):,} queries: {server.memory_mb()} MB")


def interval(shares: "np.ndarray[Any, np.dtype[np.float64]]") -> tuple[float, float]:
    """Bootstrap a 95 % interval of the mean over queries, seed 0."""
    rng = np.random.default_rng(0)
    means = shares[rng.integers(0, len(shares), (10_000, len(shares)))].mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


if __name__ == "__main__":
    main()
