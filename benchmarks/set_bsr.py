"""Measure token-level selection: the default against exact scores, and against the method as published.

    python benchmarks/set_bsr.py --rows 20000 155000 --queries 200 --cache FOLDER [--json FILE]

In process, without HTTP and texts. Three ways to the same picks, side by side in one run and with the same
number of threads (``OPENBLAS_NUM_THREADS``, 1 if not set): the default, which scores a shortlist; ``exact``,
which scores every row; and a transcription of the published procedure to torch: batches of 128 rows padded to
the longest, products, maxima, then a full pass over all rows for each pick.

Rows are those of the wordnet_gloss pool in ``KSHOT_TEST_DATA``, shuffled with seed 13; beyond its 155,320 the
questions of wikisql follow. Their vectors are kept in the cache folder: to encode 155,000 takes some minutes.
"""

import os
import sys

# A neighbour of this file would hide Python's own `select` from whatever is imported next.
sys.path.pop(0)
THREADS = int(os.environ.setdefault("OPENBLAS_NUM_THREADS", "1"))

import argparse
import gzip
import json
import platform
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kshot.clients.embedders.factory import build_embedder
from kshot.index.candidates import QueryFeatures, gather
from kshot.index.pool import PoolIndex
from kshot.index.sealing import build_base, load_base, wants_base
from kshot.index.segments import Features
from kshot.index.snapshot import Exclusions, Snapshot
from kshot.index.store.example_rows import ExampleHeader, PoolChanges
from kshot.index.token_sealing import build_token_base, load_token_base
from kshot.records import Status
from kshot.schemas.pools import MiniLm
from kshot.selectors import SELECTORS, certified_steps, coverage_greedy

DATA = Path(os.environ.get("KSHOT_TEST_DATA", "../shared/data"))
POOLS = ("wordnet_gloss", "wikisql")
BATCH_ROWS = 128
CERTIFIED_DEPTH = 100
METHODS = ("set_bsr", "bsr", "fused")


def main() -> None:
    """Run every part for each pool size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000])
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--published", type=int, default=20, help="queries for the transcription")
    parser.add_argument("--k", type=int, default=8)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--cache", type=Path, required=True, help="folder for vectors and indexes")
    parser.add_argument("--json", type=Path, help="write every figure here as well")
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    torch.set_num_threads(THREADS)
    names = ("numpy", "faiss-cpu", "torch")
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {THREADS} threads; "
        + ", ".join(f"{name} {version(name)}" for name in names)
    )
    texts = load()
    encode(options.cache, texts, max(options.rows))
    results = [measure(rows, texts, options) for rows in options.rows]
    if options.json:
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


def load() -> list[str]:
    """Read the pools, each shuffled with seed 13."""
    texts = []
    for name in POOLS:
        with gzip.open(DATA / name / "pool.jsonl.gz", "rt", encoding="utf-8") as file:
            rows = [json.loads(line)["input"] for line in file]
        random.Random(13).shuffle(rows)
        texts += rows
    return texts


def test_queries() -> list[str]:
    """Read the queries of wordnet_gloss."""
    with (DATA / POOLS[0] / "test.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line)["input"] for line in file]


def encode(cache: Path, texts: list[str], rows: int) -> None:
    """Encode the queries and the first rows, unless the cache has as many."""
    cache.mkdir(parents=True, exist_ok=True)
    if rows > len(texts):
        sys.exit(f"--rows {rows}: the pools have {len(texts)}")
    offsets = cache / "offsets.npy"
    if offsets.exists() and len(np.load(offsets)) > rows:
        return
    embedder = build_embedder(MiniLm(), threads=os.cpu_count())
    layer = embedder.default_token_layer
    encoded: list[Any] = [embedder.encode([text], token_layer=layer) for text in test_queries()]
    np.savez(
        cache / "queries.npz",
        vectors=np.concatenate([one.vectors for one in encoded]),
        tokens=np.concatenate([one.tokens[~one.special] for one in encoded]),
        offsets=np.cumsum([0, *(int((~one.special).sum()) for one in encoded)]),
    )
    vectors, lengths = [], []
    raw = cache / "tokens.raw"
    with raw.open("wb") as file:
        for start in range(0, rows, 1024):
            batch: Any = embedder.encode(texts[start : min(start + 1024, rows)], token_layer=layer)
            vectors.append(batch.vectors)
            lengths.append(np.diff(batch.offsets))
            file.write(batch.tokens.astype(np.float16).data)
    embedder.close()
    ends = np.cumsum([0, *np.concatenate(lengths)])
    np.save(cache / "vectors.npy", np.concatenate(vectors))
    np.save(cache / "tokens.npy", np.memmap(raw, np.float16, "r").reshape(int(ends[-1]), -1))
    raw.unlink()
    np.save(offsets, ends)


def measure(rows: int, texts: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Measure one pool size."""
    snapshot, build = opened(options.cache, texts[:rows])
    assert snapshot.tokens is not None
    print(
        f"\n## {rows:,} rows, {snapshot.tokens.count:,} tokens, {options.queries} queries, k = {options.k}; "
        + (f"tokens sealed in {build:.1f} s" if build else "tokens sealed before")
    )
    queries = list(features(options.cache))[: options.queries]
    result: dict[str, Any] = {"rows": rows, "tokens": snapshot.tokens.count, "sealed_s": build}
    for method in options.methods:
        result[method] = side_by_side(snapshot, queries, method, options.k)
    if "set_bsr" in options.methods:
        run = runner(snapshot, "set_bsr", options.k)
        result["published"] = published(options.cache, rows, queries[: options.published], options.k, run)
    result["memory_mb"] = memory_mb()
    print(f"memory: {result['memory_mb']}")
    return result


def opened(cache: Path, texts: list[str]) -> tuple[Snapshot, float | None]:
    """Open the pool of these rows, made if need be, and say in how many seconds its tokens were sealed."""
    folder = cache / f"pool-{len(texts)}"
    index = PoolIndex(folder / "segments", None, lambda seqs: [texts[seq - 1] for seq in seqs])
    headers = [header(seq) for seq in range(1, len(texts) + 1)]
    missing = index.missing(headers)
    vectors, tokens = (np.load(cache / f"{name}.npy", mmap_mode="r") for name in ("vectors", "tokens"))
    offsets = np.load(cache / "offsets.npy")
    for start in range(len(texts) - len(missing), len(texts), 65_536):
        stop = min(start + 65_536, len(texts))
        first, last = int(offsets[start]), int(offsets[stop])
        index.append(
            Features(
                np.arange(start + 1, stop + 1),
                vectors[start:stop],
                np.zeros(stop - start, np.bool_),
                tokens[first:last],
                offsets[start : stop + 1] - first,
                np.zeros(last - first, np.int32),
            )
        )
    index.publish(PoolChanges(1, [], headers))
    dense = load_base(folder, index.snapshot)
    if dense is None and wants_base(index.snapshot):
        dense = build_base(folder, index.snapshot)
    if dense is not None:
        index.install_base(dense)
    sealed = load_token_base(folder, index.snapshot)
    took_s = None
    if sealed is None:
        sealed, took_ms = timed(partial(build_token_base, folder, index.snapshot))
        took_s = took_ms / 1000
    index.install_token_base(sealed)
    index.snapshot.lexical(current=True)
    return index.snapshot, took_s


def header(seq: int) -> ExampleHeader:
    """Return the header of an example of which nothing but its features matters."""
    return ExampleHeader(
        id=str(seq),
        seq=seq,
        feature_seq=seq,
        status=Status.APPROVED,
        split=None,
        subject_id=None,
        group=None,
        content_hash=str(seq),
        input_hash=str(seq),
        has_outputs=True,
        short_outputs="yes",
        metadata={},
    )


def features(cache: Path) -> Iterator[QueryFeatures]:
    """Yield the queries."""
    with np.load(cache / "queries.npz") as kept:
        vectors, tokens, offsets = kept["vectors"], kept["tokens"], kept["offsets"]
    for i, text in enumerate(test_queries()):
        yield QueryFeatures(vectors[i], tokens[offsets[i] : offsets[i + 1]], text)


def runner(snapshot: Snapshot, method: str, k: int) -> Callable[..., tuple[Any, Any]]:
    """Return what makes the candidates and the picks of a query."""
    selector = SELECTORS.get(method)()
    eligible = snapshot.eligible(None, Exclusions())

    def run(query: QueryFeatures, *, exact: bool) -> tuple[Any, Any]:
        candidates = gather(snapshot, query, eligible, selector, k, exact=exact)
        return candidates, selector.select(candidates, k, np.random.default_rng(0))

    return run


def side_by_side(snapshot: Snapshot, queries: list[QueryFeatures], method: str, k: int) -> dict[str, Any]:
    """Time a method with and without a shortlist, and compare the picks."""
    run = runner(snapshot, method, k)
    for query in queries[:10]:
        run(query, exact=False)
    took: dict[str, list[float]] = {"default": [], "exact": []}
    compared: list[dict[str, float]] = []
    for query in queries:
        (few, few_picks), ms = timed(partial(run, query, exact=False))
        took["default"].append(ms)
        (every, every_picks), ms = timed(partial(run, query, exact=True))
        took["exact"].append(ms)
        chosen = few.rows[few_picks.indices]
        compared.append(
            {
                "scored": len(few),
                "kept": len(np.intersect1d(chosen, every.rows[every_picks.indices])) / k,
                "identical": float(np.array_equal(chosen, every.rows[every_picks.indices])),
                **(coverage(every, every_picks, chosen, few_picks, k) if method == "set_bsr" else {}),
            }
        )
    table: dict[str, Any] = {name: quantiles(times) for name, times in took.items()}
    for name, values in table.items():
        print(f"  {method:8s} {name:9s} p50 {values['p50']:8.2f} ms  p99 {values['p99']:8.2f} ms")
    figures = {name: float(np.mean([one[name] for one in compared])) for name in compared[0]}
    table.update(figures)
    print(
        f"  {method:8s} scores {figures['scored']:.0f} rows exactly, "
        f"{table['exact']['p50'] / table['default']['p50']:.1f} times faster than exact; keeps "
        f"{figures['kept']:.2%} of its picks, all and in order for {figures['identical']:.1%} of queries"
    )
    if method == "set_bsr":
        table["worst_objective"] = min(one["objective"] for one in compared)
        print(
            f"  {method:8s} up to the first reset: identical for {figures['same_round']:.1%}, objective "
            f"{figures['objective']:.5f} of exact on average, {table['worst_objective']:.4f} at worst; "
            f"{figures['reset']:.1%} of queries reach a reset\n"
            f"  {method:8s} certified steps: {figures['certified']:.2f} by default, "
            f"{figures['certifiable']:.2f} from exact scores of the best {CERTIFIED_DEPTH} rows at each token"
        )
    return table


def coverage(every: Any, every_picks: Any, chosen: Any, few_picks: Any, k: int) -> dict[str, float]:
    """Compare the first rounds; certify what a shortlist by exact token scores would give."""
    scores = every.partial_scores
    wanted, found = first_round(every_picks), first_round(few_picks)
    places = chosen[: len(found)]
    best = np.unique(np.argpartition(-scores, CERTIFIED_DEPTH, axis=0)[:CERTIFIED_DEPTH])
    outside = np.delete(scores, best, axis=0).max(axis=0)
    picks = coverage_greedy(np.asfortranarray(scores[best]), k)
    return {
        "same_round": float(np.array_equal(places[: len(wanted)], wanted)),
        "objective": float(scores[places].max(axis=0).sum() / scores[wanted].max(axis=0).sum()),
        "reset": float(every_picks.diagnostics["resets"] > 0),
        "certified": few_picks.diagnostics["certified_steps"],
        "certifiable": int(certified_steps(scores[best], picks, outside).sum()),
    }


def first_round(picks: Any) -> Any:
    """Return the picks before the coverage begins anew."""
    return picks.indices[np.array(picks.diagnostics["rounds"]) == 0]


def published(
    cache: Path, rows: int, queries: list[QueryFeatures], k: int, run: Callable[..., Any]
) -> dict[str, Any]:
    """Time the transcription, with and without the time that padding takes, and ours beside it."""
    offsets = np.load(cache / "offsets.npy")[: rows + 1]
    raw = np.load(cache / "tokens.npy", mmap_mode="r")[: int(offsets[-1])]
    tokens = torch.from_numpy(raw.astype(np.float32))
    pool = [
        tokens[first:last] for first, last in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
    ]
    took: dict[str, list[float]] = {
        "default": [],
        "exact": [],
        "padded before": [],
        "padded for each query": [],
    }
    for query in queries:
        for way in ("default", "exact"):
            took[way].append(timed(partial(run, query, exact=way == "exact"))[1])
        tensor = torch.from_numpy(query.tokens)
        padding_ms = 0.0
        started = time.perf_counter()
        parts = []
        for first in range(0, rows, BATCH_ROWS):
            padded, ms = timed(partial(pad, pool[first : first + BATCH_ROWS]))
            padding_ms += ms
            parts.append(partial_scores(tensor, *padded))
        set_greedy(torch.cat(parts) / len(tensor), k)
        total_ms = (time.perf_counter() - started) * 1000
        took["padded for each query"].append(total_ms)
        took["padded before"].append(total_ms - padding_ms)
    table: dict[str, Any] = {name: quantiles(times) for name, times in took.items()}
    for name in ("padded before", "padded for each query"):
        took_ms = table[name]["p50"]
        exact, default = (took_ms / table[way]["p50"] for way in ("exact", "default"))
        print(
            f"  published, batches {name:21s} p50 {took_ms:8.0f} ms: "
            f"exact {exact:.1f}, default {default:.0f} times faster"
        )
    return table


def pad(rows: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Join the tokens of some rows to a tensor (rows, longest, d), and tell where there are none."""
    lengths = torch.tensor([len(one) for one in rows])
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return padded, torch.arange(padded.shape[1])[None, :] >= lengths[:, None]


def partial_scores(query: torch.Tensor, padded: torch.Tensor, absent: torch.Tensor) -> torch.Tensor:
    """Return the best product of every query token in every row of a batch."""
    products = torch.matmul(padded, query.T)
    return products.masked_fill(absent[:, :, None], -1e5).amax(dim=1)


def set_greedy(scores: torch.Tensor, k: int) -> list[int]:
    """Pick rows one by one, each time the one that adds most to the coverage; start over if none does."""
    chosen: list[int] = []
    covered = torch.full((scores.shape[1],), -torch.inf)
    best = -torch.inf
    while len(chosen) < min(k, len(scores)):
        totals = torch.maximum(scores, covered).sum(dim=1)
        totals[chosen] = -torch.inf
        row = int(totals.argmax())
        if totals[row] > best:
            chosen.append(row)
            covered, best = torch.maximum(covered, scores[row]), float(totals[row])
        else:
            covered, best = torch.full_like(covered, -torch.inf), -torch.inf
    return chosen


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a call returns, and how many milliseconds it took."""
    started = time.perf_counter()
    result = call()
    return result, (time.perf_counter() - started) * 1000


def quantiles(took_ms: list[float]) -> dict[str, float]:
    """Summarise times."""
    return {"p50": float(np.percentile(took_ms, 50)), "p99": float(np.percentile(took_ms, 99))}


def memory_mb() -> dict[str, int]:
    """Return this process's memory; file-backed pages count as resident only."""
    found = {}
    for line in Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines():
        if line.startswith(("Rss:", "Anonymous:")):
            found[line.split(":")[0].lower()] = int(line.split()[1]) // 1024
    return found


if __name__ == "__main__":
    main()
