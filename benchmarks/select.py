"""Measure selection side by side: kshot's methods, its HTTP service, raw encoding, LangChain with FAISS.

    python benchmarks/select.py --rows 20000 --queries 500 [--peer PYTHON] [--json FILE]

Everything is measured in one run on one machine and printed as times and ratios. Reads the wordnet_gloss pool
from ``KSHOT_TEST_DATA``.
"""

import sys

# This file's name would hide Python's own `select` from whatever is imported next: its folder goes last.
sys.path.append(sys.path.pop(0))

import argparse
import gzip
import json
import os
import platform
import random
import re
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Read when NumPy is imported: requests run side by side, as in `kshot serve`.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from kshot.clients.embedders.factory import build_embedder
from kshot.index.candidates import QueryFeatures, gather, similarities
from kshot.index.sealing import build_base, wants_base
from kshot.index.snapshot import Exclusions
from kshot.index.store import Store
from kshot.index.token_sealing import build_token_base, wants_token_base
from kshot.schemas.pools import MiniLm
from kshot.schemas.selections import SelectRequest
from kshot.server.selectors_schema import build_selector
from kshot.server.services.answering import Clock, answer
from kshot.server.services.choosing import Method
from kshot.server.services.registry import Embedders, PoolRegistry
from serving import Server

DATA = Path(os.environ.get("KSHOT_TEST_DATA", "../shared/data")) / "wordnet_gloss"
POOL = "glosses"
WRK_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local next = 0
request = function()
  next = next % #bodies + 1
  return wrk.format(nil, nil, nil, bodies[next])
end
"""
FILTERED = ("similarity", "mmr", "bm25", "fused", "set_bsr")
PERCENT = (1, 10, 90)
RECALL_ROWS = 64
VECTORS = "vectors.npy"
METHODS = ("random", "label_balanced", "hybrid", "dpp", "sift", "bsr", *FILTERED)


def main() -> None:
    """Run every part for each pool size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000])
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--k", type=int, default=8)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument(
        "--best-of", type=int, default=1, help="of so many tries of a call the fastest counts"
    )
    parser.add_argument("--peer", help="Python of an environment with langchain-community and faiss-cpu")
    parser.add_argument("--json", type=Path, help="write every figure here as well")
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {options.threads} threads; "
        + versions()
    )
    results = [measure(rows, options) for rows in options.rows]
    if options.json:
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


def versions() -> str:
    """Name what the figures depend on."""
    return ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy", "faiss-cpu", "onnxruntime"))


def measure(rows: int, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one pool size."""
    texts, labels, queries = load(rows, options.queries)
    print(f"\n## {rows:,} rows of wordnet_gloss (shuffled, seed 13), {len(queries)} queries, k = {options.k}")
    result: dict[str, Any] = {"rows": rows}
    with tempfile.TemporaryDirectory(prefix="kshot-bench-") as folder:
        data = Path(folder)
        result["ingestion"] = ingestion(data, texts, labels, options)
        result["in process"] = in_process(data, queries, options)
        result["http"] = over_http(data, queries, options)
        if options.peer:
            result["langchain"] = peer(data / VECTORS, texts, queries, options, result)
    return result


def load(rows: int, count: int) -> tuple[list[str], list[str], list[str]]:
    """Read the pool, shuffled with seed 13, and the first test queries."""
    with gzip.open(DATA / "pool.jsonl.gz", "rt", encoding="utf-8") as file:
        pool = [json.loads(line) for line in file]
    random.Random(13).shuffle(pool)
    if rows > len(pool):
        sys.exit(f"--rows {rows}: the pool has {len(pool)}")
    with (DATA / "test.jsonl").open(encoding="utf-8") as file:
        queries = [json.loads(line)["input"] for line in file][:count]
    return [row["input"] for row in pool[:rows]], [row["output"] for row in pool[:rows]], queries


def ingestion(data: Path, texts: list[str], labels: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Ingest over HTTP as NDJSON, and encode the same texts with the bare embedder."""
    embedder = build_embedder(MiniLm(), threads=options.threads)
    part = texts[: min(len(texts), 10_000)]
    embedder.encode(part[:256], token_layer=embedder.default_token_layer)
    raw_rates = [raw_rate(embedder, part)]
    server = Server(data, options.threads)
    rows = [
        {"id": f"r{number}", "inputs": text, "outputs": label, "metadata": {"percent": number % 100}}
        for number, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]
    rate = len(texts) / server.ingest(POOL, rows)
    server.close()
    raw_rates.append(raw_rate(embedder, part))
    embedder.close()
    raw = statistics.mean(raw_rates)
    print(f"ingestion over HTTP {rate:,.0f} rows/s; raw encoding {raw:,.0f} texts/s; ratio {rate / raw:.2f}")
    return {"rows_per_s": rate, "raw_texts_per_s": raw, "ratio": rate / raw}


def raw_rate(embedder: Any, texts: list[str]) -> float:
    """Encode texts in the server's chunks and return texts/s."""
    started = time.perf_counter()
    for first in range(0, len(texts), 1024):
        embedder.encode(texts[first : first + 1024], token_layer=embedder.default_token_layer)
    return len(texts) / (time.perf_counter() - started)


def in_process(data: Path, queries: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Time `answer` with the embedding done before: search, method, texts, reply."""
    store = Store(f"sqlite:///{data / 'store.sqlite'}")
    embedders = Embedders(threads=options.threads, cache_dir=None, query_cache_bytes=0)
    registry = PoolRegistry(store, embedders, data / "pools")
    runtime = registry.open_all()[0]
    runtime.index.publish(store.read_changes(runtime.record.id, 0))
    seal(runtime)
    runtime.index.snapshot.lexical(current=True)
    features = [features_of(runtime, text) for text in queries]
    print(f"in process, embedding done ({runtime.index.snapshot.dense.kind}):")
    table = {}
    for name in options.methods:
        method = Method(name, build_selector(name, {}))
        request = SelectRequest(inputs="query", k=options.k)

        def call(query: QueryFeatures, method: Method = method, request: SelectRequest = request) -> Any:
            now = time.perf_counter()
            return answer(store, runtime, method, query, request, Clock(now, now))

        table[name] = spread(call, features, options.best_of)
        print(f"  {name:15s} p50 {table[name]['p50']:7.2f} ms  p99 {table[name]['p99']:7.2f} ms")
    table["filters"] = filters(store, runtime, features, options)
    table["fused against the whole pool"] = fidelity(runtime, features[:200], options.k)
    np.save(data / VECTORS, runtime.index.snapshot.dense.vectors)
    store.close()
    return table


def seal(runtime: Any) -> None:
    """Load the sealed indexes; build now what the server was stopped in building."""
    runtime.load_base()
    index, folder = runtime.index, runtime.folder
    if wants_base(index.snapshot):
        index.install_base(build_base(folder, index.snapshot))
    if wants_token_base(index.snapshot):
        index.install_token_base(build_token_base(folder, index.snapshot))


def features_of(runtime: Any, text: str) -> QueryFeatures:
    """Embed one query as the service does."""
    encoded = runtime.embedder.encode([text], token_layer=runtime.token_layer)
    return QueryFeatures(encoded.vectors[0], encoded.tokens[~encoded.special], text)


def filters(
    store: Store, runtime: Any, features: list[QueryFeatures], options: argparse.Namespace
) -> dict[str, Any]:
    """Time filters that some percent of the rows pass, seen before and new with every request, in turn."""
    print("  filters, p50 as a multiple of the unfiltered (whole selection); a new filter alone:")
    table: dict[str, Any] = {}
    for name in FILTERED:
        method = Method(name, build_selector(name, {}))

        def call(query: QueryFeatures, *conditions: Any, method: Method = method) -> Any:
            wanted = {"all": [*conditions]} if conditions else None
            request = SelectRequest.model_validate({"inputs": "query", "k": options.k, "filter": wanted})
            now = time.perf_counter()
            return answer(store, runtime, method, query, request, Clock(now, now)).reply

        took: dict[str, list[float]] = {}
        for number, query in enumerate(features, start=1):
            took.setdefault("all", []).append(fastest(options.best_of, call, query))
            for percent in PERCENT:
                known = {"field": "metadata.percent", "lt": percent}
                ms = fastest(options.best_of, call, query, known)
                took.setdefault(f"{percent} %", []).append(ms)
                new = {"field": "metadata.percent", "gte": -number}
                took.setdefault(f"{percent} % new", []).append(call(query, known, new).timing_ms["filter"])
        table[name] = {part: quantiles(values) for part, values in took.items()}
        p50 = {part: values["p50"] for part, values in table[name].items()}
        parts = [
            f"{part}: {p50[part]:.2f} ms, {p50[part] / p50['all']:.2f} times; new {p50[f'{part} new']:.2f} ms"
            for part in (f"{percent} %" for percent in PERCENT)
        ]
        print(f"  {name:15s} {p50['all']:.2f} ms; " + " | ".join(parts))
    return table


def fidelity(runtime: Any, features: list[QueryFeatures], k: int) -> dict[str, float]:
    """Compare the fused method's picks from the shortlist with those from every row, scored exactly."""
    snapshot = runtime.index.snapshot
    eligible = snapshot.eligible(None, Exclusions())
    selector = build_selector("fused", {})
    rng = np.random.default_rng(0)
    kept, same, recalled = 0, 0, 0
    for query in features:
        few = gather(snapshot, query, eligible, selector, k)
        every = gather(snapshot, query, eligible, selector, k, exact=True)
        a = set(few.rows[selector.select(few, k, rng).indices].tolist())
        b = set(every.rows[selector.select(every, k, rng).indices].tolist())
        kept += len(a & b)
        same += a == b
        near = similarities(snapshot, query, eligible.rows)
        true = set(eligible.rows[np.argpartition(-near, RECALL_ROWS)[:RECALL_ROWS]].tolist())
        assert query.vector is not None
        assert snapshot.dense is not None
        nearest = snapshot.dense.search(query.vector, RECALL_ROWS, eligible.mask, eligible.rows).rows
        recalled += len(true & set(nearest.tolist()))
    n = len(features)
    result = {"picks": kept / (k * n), "identical_sets": same / n, "recall": recalled / (RECALL_ROWS * n)}
    print(
        f"  fused keeps {result['picks']:.2%} of the whole pool's picks; "
        f"identical sets {result['identical_sets']:.1%}; "
        f"recall of the {RECALL_ROWS} nearest rows {result['recall']:.2%}"
    )
    return result


def over_http(data: Path, queries: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Time requests over one connection, query cache off; then memory."""
    server = Server(data, options.threads)
    print(f"over HTTP, query cache off; start to first answer {server.start_s:.1f} s:")
    embedder = build_embedder(MiniLm(), threads=options.threads)
    table: dict[str, Any] = {"start_s": server.start_s}
    for layer, name in ((None, "embed sentence"), (embedder.default_token_layer, "embed with tokens")):
        table[name] = spread(
            lambda text, layer=layer: embedder.encode([text], token_layer=layer), queries, options.best_of
        )
        print(f"  {name:22s} p50 {table[name]['p50']:7.2f} ms  p99 {table[name]['p99']:7.2f} ms (in process)")
    for name in options.methods:

        def call(text: str, name: str = name) -> Any:
            body = {"inputs": text, "k": options.k, "method": name}
            return server.client.post(f"/v1/pools/{POOL}/select", json=body).raise_for_status()

        table[name] = spread(call, queries, options.best_of)
        print(f"  {name:22s} p50 {table[name]['p50']:7.2f} ms  p99 {table[name]['p99']:7.2f} ms")
    over = table["similarity"]["p50"] - table["embed with tokens"]["p50"] if "similarity" in table else None
    if over is not None:
        print(f"  similarity over HTTP = own embedding + {over:.2f} ms")
    table["throughput"] = throughput(server, queries, embedder, options)
    table["memory_mb"] = server.memory_mb()
    print(f"  memory after {len(queries) * len(options.methods):,} queries: {table['memory_mb']} MB")
    server.close()
    embedder.close()
    return table


def throughput(
    server: Server, queries: list[str], embedder: Any, options: argparse.Namespace
) -> dict[str, Any]:
    """Load the service with 16 connections through wrk; raw batched encoding of the same texts beside it."""
    rates = [batched_rate(embedder, queries)]
    wrk = shutil.which("wrk")
    if wrk is None:
        print("  throughput: wrk is not installed, left out")
        return {"raw_batched_per_s": rates[0]}
    bodies = [json.dumps({"inputs": text, "k": options.k, "method": "similarity"}) for text in queries]
    with tempfile.NamedTemporaryFile("w", suffix=".lua", encoding="utf-8") as script:
        script.write("bodies = {" + ",".join(json.dumps(body) for body in bodies) + "}\n" + WRK_SCRIPT)
        script.flush()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [wrk, "-t1", "-c16", "-d10s", "-s", script.name, f"{server.url}/v1/pools/{POOL}/select"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    rates.append(batched_rate(embedder, queries))
    found = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
    assert found is not None
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    rate, raw = float(found.group(1)), statistics.mean(rates)
    print(
        f"  throughput, 16 connections, similarity: {rate:.0f}/s of {raw:.0f}/s raw batched encoding, "
        f"ratio {rate / raw:.2f}; errors {errors.group(1) if errors else 0}; wrk used {cpu / 10:.2f} cores"
    )
    return {"per_s": rate, "raw_batched_per_s": raw, "ratio": rate / raw, "wrk_cores": cpu / 10}


def batched_rate(embedder: Any, queries: list[str]) -> float:
    """Encode the queries in batches of 16 and return texts/s."""
    started = time.perf_counter()
    for first in range(0, len(queries), 16):
        embedder.encode(queries[first : first + 16], token_layer=embedder.default_token_layer)
    return len(queries) / (time.perf_counter() - started)


def peer(
    vectors: Path, texts: list[str], queries: list[str], options: argparse.Namespace, result: dict[str, Any]
) -> dict[str, Any]:
    """Run LangChain in its own environment over the same rows, their vectors and queries."""
    from kshot.clients.embedders.minilm import packaged_folder

    job = {
        "texts": texts,
        "vectors": str(vectors),
        "best_of": options.best_of,
        "queries": queries,
        "k": options.k,
        "threads": options.threads,
        "model": str(packaged_folder()),
    }
    done = subprocess.run(
        [options.peer, str(Path(__file__).parent / "peers" / "langchain_select.py")],
        input=json.dumps(job),
        env={name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"},
        capture_output=True,
        text=True,
        check=True,
    )
    figures = json.loads(done.stdout)
    print(f"LangChain + FAISS in process, embedding included ({figures['versions']}):")
    table = {}
    for name in ("embed", "similarity", "mmr"):
        table[name] = quantiles(figures[name])
        line = f"  {name:22s} p50 {table[name]['p50']:7.2f} ms  p99 {table[name]['p99']:7.2f} ms"
        ours = result["http"].get(name)
        print(
            line + (f"; kshot over HTTP takes {ours['p50'] / table[name]['p50']:.2f} of it" if ours else "")
        )
    return table


def spread(call: Any, items: list[Any], best_of: int) -> dict[str, float]:
    """Time calls, one per item, after 20 to warm up."""
    for item in items[:20]:
        call(item)
    return quantiles([fastest(best_of, call, item) for item in items])


def fastest(best_of: int, call: Callable[..., Any], *arguments: Any) -> float:
    """Return the milliseconds of the fastest of some tries."""
    took = []
    for _ in range(best_of):
        started = time.perf_counter()
        call(*arguments)
        took.append((time.perf_counter() - started) * 1000)
    return min(took)


def quantiles(took_ms: list[float]) -> dict[str, float]:
    """Summarise times."""
    return {"p50": float(np.percentile(took_ms, 50)), "p99": float(np.percentile(took_ms, 99))}


if __name__ == "__main__":
    main()
