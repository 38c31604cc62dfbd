"""Measure what a selection costs against the size of the pool and against k, in process.

    python benchmarks/cost.py --rows 1000 5000 20000 50000 --json cost.json --plot docs/images/cost.svg

One pool of wordnet_gloss grows step by step (rows shuffled with seed 13); at each size every method answers
the same queries. Times are the server's own (`timing_ms` without `embed`): HTTP and the encoder are left out.
The plot needs matplotlib.
"""

import sys

# `select.py` beside this file would hide Python's own `select` from whatever is imported next.
sys.path.append(sys.path.pop(0))

import argparse
import gzip
import json
import os
import random
import re
import tempfile
import time
from pathlib import Path
from typing import Any

# Read when NumPy is imported: requests run side by side, as in `kshot serve`.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import kshot
from kshot.index.dense import EXACT_ROWS
from kshot.index.token_sealing import TAIL_ROWS

DATA = Path(os.environ.get("KSHOT_TEST_DATA", "../shared/data")) / "wordnet_gloss"
POOL = "glosses"


def main() -> None:
    """Measure, print, write, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 2_000, 5_000, 10_000, 20_000])
    parser.add_argument("--k", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--methods", nargs="+", help="default: all")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    result = measured(options)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1), encoding="utf-8")
    if options.plot:
        draw(result, options.plot)


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Grow the pool and time every method at every size, then at every k."""
    with gzip.open(DATA / "pool.jsonl.gz", "rt", encoding="utf-8") as file:
        pool = [json.loads(line) for line in file]
    random.Random(13).shuffle(pool)
    with (DATA / "test.jsonl").open(encoding="utf-8") as file:
        queries = [json.loads(line)["input"] for line in file][: options.queries]
    result: dict[str, Any] = {"rows": {}, "k": {}}
    with tempfile.TemporaryDirectory(prefix="kshot-bench-") as folder, kshot.LocalClient(folder) as client:
        client.create_pool(POOL)
        methods = options.methods or [info.name for info in client.selectors()]
        present = 0
        for size in sorted(options.rows):
            client.upsert(
                POOL,
                (
                    {"id": f"r{number}", "inputs": row["input"], "outputs": row["output"]}
                    for number, row in enumerate(pool[present:size], start=present)
                ),
            )
            present = size
            settle(client, Path(folder), size)
            result["rows"][size] = {
                name: p50(client, name, 8, queries[: fewer(size, options)]) for name in methods
            }
            print(f"{size:,} rows, k = 8: {shown(result['rows'][size])}", flush=True)
        for k in options.k:
            result["k"][k] = {
                name: p50(client, name, k, queries[: fewer(present, options)]) for name in methods
            }
            print(f"{present:,} rows, k = {k}: {shown(result['k'][k])}", flush=True)
    return result


def fewer(size: int, options: argparse.Namespace) -> int:
    """Ask fewer queries of large pools, where the slow methods take most of the time."""
    return max(20, min(options.queries, 2_000_000 // size))


def settle(client: kshot.LocalClient, folder: Path, size: int) -> None:
    """Wait until sealed indexes cover the rows, but for those few that the server leaves to a later time."""
    while True:
        covered = [int(n) for n in re.findall(r"\((\d+) rows", client.pool_stats(POOL).vector_index)]
        dense = covered[0] if len(covered) > 1 else 0
        tokens = sum(
            json.loads(path.read_text(encoding="utf-8"))["rows"]
            for path in folder.glob("pools/*/*/tokens-*/manifest.json")
        )
        if size - dense <= max(EXACT_ROWS, dense // 4) and size - tokens <= TAIL_ROWS:
            break
        time.sleep(1)
    client.select(POOL, "to warm up", k=8)
    time.sleep(2)


def p50(client: kshot.LocalClient, method: str, k: int, queries: list[str]) -> float:
    """Median milliseconds from the embedded query to the finished reply."""
    took = []
    for query in [*queries[:5], *queries]:
        timing = client.select(POOL, query, k=k, method=method).reply.timing_ms
        took.append(timing["total"] - timing["embed"])
    return float(np.median(took[5:]))


def shown(times: dict[str, float]) -> str:
    """Print times on one line."""
    return ", ".join(f"{name} {took:.1f}" for name, took in times.items()) + " ms"


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw both figures side by side."""
    try:
        import matplotlib as mpl

        mpl.use("svg")
        import matplotlib.pyplot as plt
    except ImportError:
        sys.exit("--plot needs matplotlib: pip install matplotlib")
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), sharey=True)
    for axis, what, label in zip(axes, ("rows", "k"), ("rows of the pool (k = 8)", "k"), strict=True):
        places = [int(place) for place in result[what]]
        for number, name in enumerate(next(iter(result[what].values()))):
            # Ten colours, then the same ones dashed.
            style = {"color": f"C{number % 10}", "ls": "-" if number < 10 else "--"}
            times = [taken[name] for taken in result[what].values()]
            axis.plot(places, times, marker="o", ms=3, lw=1, label=name, **style)
        axis.set(xscale="log", yscale="log", xlabel=label)
        axis.grid(which="both", lw=0.3)
    axes[0].set_ylabel("ms per selection without embedding, p50")
    axes[1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
