"""Measure what planning by neighbours costs: fast vote-k and IDEAL, against n and against the published way.

    python benchmarks/annotation.py --rows 1000 3000 10000 20000 50000 155320 --cache FOLDER \
        [--json FILE] [--plot docs/images/annotation-cost.svg]

In process, on the vectors of MiniLM for the wordnet_gloss pool in ``KSHOT_TEST_DATA``, shuffled with seed 13.
They are kept in the cache folder; one that `set_bsr.py` has filled serves as well. To encode all of the pool
takes some ten minutes.

The published way is a transcription of the methods' definitions at the published cost: cosines one row at a
time with a full sort, every edge looked at for every pick and looked up in a list (vote-k); every row tried
with ten simulated cascades for every pick (IDEAL). Beside its times stand those of the published code itself,
measured on an idle machine with two cores and 384 dimensions; the transcription counts as a stand-in for it
where the two differ by no more than 30 %. Of ours the fastest of 15 runs counts, of the transcription the
only one: these take tens of seconds, those tens of milliseconds. The plot needs matplotlib.
"""

import sys

# `select.py` beside this file would hide Python's own `select` from whatever is imported next.
sys.path.append(sys.path.pop(0))

import argparse
import gzip
import json
import os
import platform
import random
import resource
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
from sklearn.metrics.pairwise import cosine_similarity

from kshot.clients.embedders.factory import build_embedder
from kshot.index.neighbours import build_graph
from kshot.schemas.pools import MiniLm
from kshot.selectors import fast_vote_k, ideal, knn_graph
from kshot.selectors.annotation.base import GraphSpec
from kshot.selectors.annotation.cascade import activation_probabilities

DATA = Path(os.environ.get("KSHOT_TEST_DATA", "../shared/data")) / "wordnet_gloss"
VOTES, INFLUENCED = 150, 10
PUBLISHED_S = {("vote-k", 1_000): 16.2, ("vote-k", 3_000): 65.0, ("IDEAL", 150): 0.9, ("IDEAL", 300): 3.6}
"""Seconds of the published code: 100 picks with 150 neighbours, and 5 picks with 10."""
PICKS = {"vote-k": 100, "IDEAL": 5}
RUNS = 10
REPEATS = 15
CHECKED_ROWS = 2_000
SIMULATIONS = 20_000


def main() -> None:
    """Measure, print, write, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 3_000, 10_000, 20_000])
    parser.add_argument("--budgets", type=int, nargs="+", default=[100, 1_000])
    parser.add_argument("--cache", type=Path, required=True, help="folder for vectors")
    parser.add_argument("--skip-published", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    names = ("numpy", "scipy", "faiss-cpu")
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; "
        + ", ".join(f"{name} {version(name)}" for name in names),
        flush=True,
    )
    vectors = encoded(options.cache, max(3_000, *options.rows))
    result: dict[str, Any] = {"published": [], "rows": {}}
    if not options.skip_published:
        for (method, rows), known in PUBLISHED_S.items():
            result["published"].append(side_by_side(method, vectors[:rows], known))
    for rows in sorted(options.rows):
        result["rows"][rows] = measured(vectors[:rows], options.budgets)
    if len(result["rows"]) > 1:
        result["slopes"] = slopes(result["rows"])
    if options.json:
        options.json.write_text(json.dumps(result, indent=1), encoding="utf-8")
    if options.plot:
        draw(result, options.plot)


def encoded(cache: Path, rows: int) -> np.ndarray:
    """Return the vectors of the first rows, from the cache if it has as many."""
    path = cache / "vectors.npy"
    if path.exists():
        vectors = np.load(path, mmap_mode="r")
        if len(vectors) >= rows:
            return np.array(vectors[:rows])
    with gzip.open(DATA / "pool.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["input"] for line in file]
    random.Random(13).shuffle(texts)
    if rows > len(texts):
        sys.exit(f"--rows {rows}: the pool has {len(texts)}")
    embedder = build_embedder(MiniLm(), threads=os.cpu_count())
    parts = []
    for start in range(0, rows, 1_024):
        parts.append(embedder.encode(texts[start : min(start + 1_024, rows)], token_layer=None).vectors)
        if start % (16 * 1_024) == 0:
            print(f"encoded {start:,} of {rows:,}", flush=True)
    embedder.close()
    vectors = np.concatenate(parts)
    cache.mkdir(parents=True, exist_ok=True)
    np.save(path, vectors)
    return vectors


def timed(run: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """Return the seconds of the fastest of some runs, and what it returned."""
    best, result = np.inf, None
    for _ in range(repeats):
        start = time.perf_counter()
        result = run()
        best = min(best, time.perf_counter() - start)
    return best, result


# What it costs against the number of rows -------------------------------------------------------------------


def measured(vectors: np.ndarray, budgets: list[int]) -> dict[str, Any]:
    """Build both graphs over these rows and plan on them."""
    rows = len(vectors)
    figures: dict[str, Any] = {}
    for method, plan, k in (("vote-k", fast_vote_k, VOTES), ("IDEAL", ideal, INFLUENCED)):
        figures[f"graph {k}"], graph = timed(partial(build_graph, vectors, GraphSpec(k, center=True)))
        figures[f"recall {k}"], figures[f"error {k}"] = recall(vectors, graph)
        for budget in budgets:
            run = partial(plan, vectors, budget, graph=graph)
            took, picks = timed(run, 3 if rows <= 20_000 else 1)
            figures[f"{method} {budget}"] = took
            if method == "IDEAL":
                figures[f"of IDEAL {budget}"] = dict(picks.diagnostics)
        print(
            f"{rows:,} rows, {method}: graph {figures[f'graph {k}']:.2f} s "
            f"(recall {figures[f'recall {k}']:.4f} ± {figures[f'error {k}']:.4f}), "
            + ", ".join(f"{budget} picks {figures[f'{method} {budget}']:.3f} s" for budget in budgets)
            + f"; peak memory {peak_mb():,} MB",
            flush=True,
        )
    figures["peak_mb"] = peak_mb()
    return figures


def recall(vectors: np.ndarray, graph: Any) -> tuple[float, float]:
    """Compare some rows' neighbours with those of an exhaustive search; mean share found, standard error."""
    sample = np.random.default_rng(2).choice(len(vectors), min(CHECKED_ROWS, len(vectors)), replace=False)
    units = (vectors - vectors.mean(axis=0, dtype=np.float64)).astype(np.float32)
    units /= np.linalg.norm(units, axis=1)[:, None]
    shares: list[float] = []
    for rows in np.array_split(sample, len(sample) // 50 + 1):
        cosines = units[rows] @ units.T
        cosines[np.arange(len(rows)), rows] = -np.inf
        last = np.partition(cosines, -graph.n_neighbors, axis=1)[:, -graph.n_neighbors]
        found = np.take_along_axis(cosines, graph.indices[rows].astype(np.int64), axis=1)
        # As near as the last true neighbour, to rounding: equal rows may stand for one another.
        shares += (found >= last[:, None] - 2e-6).mean(axis=1).tolist()
    return float(np.mean(shares)), float(np.std(shares) / len(shares) ** 0.5)


def peak_mb() -> int:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def slopes(rows: dict[int, dict[str, Any]]) -> dict[str, float]:
    """Fit the power of n with which each time grows, graphs apart from what is done with them."""
    sizes = np.log([float(size) for size in rows])
    found = {
        name: float(np.polyfit(sizes, np.log([figures[name] for figures in rows.values()]), 1)[0])
        for name in next(iter(rows.values()))
        if name.startswith(("graph", "vote-k", "IDEAL"))
    }
    print("slopes: " + ", ".join(f"{name} {slope:.2f}" for name, slope in found.items()))
    return found


# Beside the published way -----------------------------------------------------------------------------------


def side_by_side(method: str, vectors: np.ndarray, known: float) -> dict[str, Any]:
    """Time the transcription and ours, both with the graph, and compare what is reached."""
    rows, budget = len(vectors), PICKS[method]
    centred = vectors - vectors.mean(axis=0)
    figures: dict[str, Any] = {"method": method, "rows": rows, "published_code": known}
    if method == "vote-k":
        figures["transcription"], slow = timed(lambda: published_vote_k(centred, budget))
        figures["ours"], picks = timed(lambda: fast_vote_k(vectors, budget, VOTES), REPEATS)
        parity = fast_vote_k(vectors, budget, VOTES, parity="reference").indices.tolist()
        figures["same_picks"] = parity == slow
        reached = (
            f"the transcription's picks {'are' if figures['same_picks'] else 'are not'} ours under parity"
        )
    else:
        figures["transcription"], slow = timed(lambda: published_ideal(centred, budget))
        figures["ours"], picks = timed(lambda: ideal(vectors, budget, INFLUENCED), REPEATS)
        ours, theirs = influences(vectors, picks.indices.tolist(), slow)
        figures["influence"], figures["influence_published"] = ours, theirs
        reached = "influence {:.2f} ± {:.2f}, the transcription's {:.2f} ± {:.2f}".format(*ours, *theirs)
    counts = abs(figures["transcription"] / known - 1) <= 0.3
    print(
        f"{method}, {rows:,} rows, {budget} picks: ours {1000 * figures['ours']:.1f} ms; "
        f"published code {known} s, {known / figures['ours']:.0f} times; "
        f"transcription {figures['transcription']:.2f} s, {figures['transcription'] / figures['ours']:.0f} "
        f"times ({'within' if counts else 'not within'} 30 % of the published code); {reached}",
        flush=True,
    )
    return figures


def published_vote_k(vectors: np.ndarray, budget: int, discount: int = 10) -> list[int]:
    """Vote-k as it is defined: lists of voters, and all of them gone through for every pick."""
    voters = defaultdict(list)
    for row in range(len(vectors)):
        cosines = cosine_similarity(vectors, vectors[row].reshape(1, -1)).ravel()
        for other in np.argsort(cosines)[-VOTES - 1 : -1].tolist():
            if other != row:
                voters[other].append(row)
    most_first = sorted(voters.items(), key=lambda item: len(item[1]), reverse=True)
    chosen: list[int] = []
    times: dict[int, int] = defaultdict(int)
    while len(chosen) < budget:
        votes: dict[int, float] = defaultdict(float)
        for row, own in most_first:
            if row in chosen:
                continue
            for voter in own:
                if voter not in chosen:
                    votes[row] += discount ** (-times[voter])
        best = max(votes, key=lambda row: votes[row])
        chosen.append(best)
        for voter in voters[best]:
            times[voter] += 1
    return chosen


def published_ideal(vectors: np.ndarray, budget: int) -> list[int]:
    """IDEAL as it is published: from row 0 on, every row is tried with ten cascades for every pick."""
    graph = nx.DiGraph()
    for row in range(len(vectors)):
        cosines = cosine_similarity(vectors, vectors[row].reshape(1, -1)).ravel()
        near = [other for other in np.argsort(cosines)[-INFLUENCED - 1 :].tolist() if other != row]
        total = sum(cosines[other] for other in near)
        for other in near:
            graph.add_edge(row, other, probability=cosines[other] / total)
    coin = random.Random(0)
    chosen = [0]
    while len(chosen) < budget:
        best, most = -1, 0.0
        for row in graph.nodes:
            if row in chosen:
                continue
            reached = np.mean([len(cascade(graph, [*chosen, row], coin)) for _ in range(RUNS)])
            if reached > most:
                best, most = row, float(reached)
        chosen.append(best)
    return chosen


def cascade(graph: Any, seeds: list[int], coin: random.Random) -> list[int]:
    """Spread influence once; rows reached twice in a round are listed twice, as in the published code."""
    active, newest = list(seeds), list(seeds)
    while newest:
        reached = [
            successor
            for row in newest
            for successor in graph.successors(row)
            if successor not in active and coin.random() <= graph[row][successor]["probability"]
        ]
        active = active + reached
        newest = reached
    return active


def influences(vectors: np.ndarray, *plans: list[int]) -> list[tuple[float, float]]:
    """Simulate each plan's cascades forward, independently of how it was made; means and standard errors."""
    graph = knn_graph(vectors, INFLUENCED)
    probabilities = activation_probabilities(graph)
    n = len(vectors)
    found = []
    for number, plan in enumerate(plans):
        rng = np.random.default_rng([77, number])
        active = np.zeros((SIMULATIONS, n), bool)
        active[:, plan] = True
        runs, rows = np.nonzero(active)
        while len(rows):
            hit = rng.random((len(rows), graph.n_neighbors)) < probabilities[rows]
            which, where = np.nonzero(hit)
            keys = np.unique(runs[which] * n + graph.indices[rows[which], where])
            keys = keys[~active.ravel()[keys]]
            active.ravel()[keys] = True
            runs, rows = keys // n, keys % n
        sizes = active.sum(axis=1)
        found.append((float(sizes.mean()), float(sizes.std() / SIMULATIONS**0.5)))
    return found


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw times against rows on logarithmic axes."""
    try:
        import matplotlib as mpl

        mpl.use("svg")
        import matplotlib.pyplot as plt
    except ImportError:
        sys.exit("--plot needs matplotlib: pip install matplotlib")
    mpl.rcParams["svg.hashsalt"] = "kshot"
    rows = result["rows"]
    figure, axis = plt.subplots(figsize=(9.5, 4.5))
    names = [name for name in next(iter(rows.values())) if name.startswith(("graph", "vote-k", "IDEAL"))]
    for name in names:
        what, number = name.rsplit(" ", 1)
        label = f"graph, {number} neighbours" if what == "graph" else f"{what}, {number} picks, graph given"
        axis.plot(
            [int(size) for size in rows],
            [figures[name] for figures in rows.values()],
            marker="o",
            ms=4,
            lw=1.2,
            ls="--" if what == "graph" else "-",
            label=f"{label} (slope {result['slopes'][name]:.2f})" if "slopes" in result else label,
        )
    for method, marker in (("vote-k", "x"), ("IDEAL", "+")):
        known = [(size, took) for (name, size), took in PUBLISHED_S.items() if name == method]
        label = f"published code of {method}, {PICKS[method]} picks, with its graph"
        axis.plot(*zip(*known, strict=True), marker, ms=8, color="black", label=label)
    axis.set(xscale="log", yscale="log", xlabel="rows", ylabel="seconds")
    axis.grid(which="both", lw=0.3)
    axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
