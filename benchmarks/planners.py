"""Measure what the plan of every planner is worth: coverage, and accuracy by the nearest labelled example.

    python benchmarks/planners.py --dataset banking77 clinc150 wordnet_gloss --budget 18 100 300

Each planner chooses rows of the train split without seeing a label. Coverage is the mean (and the 10th
percentile) of the cosine of every train row to its nearest chosen one. The chosen rows then get their labels
and answer the first test queries: accuracy of the nearest one's label, with a 95 % bootstrap interval over
queries. `random` is the mean over 10 seeds, its interval over queries too; beside it each planner's accuracy
less random's on the same queries, with the interval of that difference. No language model takes part:

- `least_confidence`, `sensitivity` and `vote_k` are given a stand-in for a model's confidence: the cosine of
  a row to the nearest of 10 rows drawn at random;
- `auto_ideal` goes on from the first half of the budget, which `facility_location` chose; where its cascade
  ends early, there are fewer labels than the budget;
- `mig` is given 50 clusters as tags;
- `structurally_diverse` reads word sequences of up to 4 words.
"""

import sys

# `select.py` beside this file would hide Python's own `select` from whatever is imported next.
sys.path.append(sys.path.pop(0))

import argparse
import json
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kshot.clients.embedders.minilm import open_minilm
from kshot.index.neighbours import build_graph
from kshot.index.planning import structures_of_rows
from kshot.selectors import coverage_curve, facility_location
from kshot.selectors.annotation import PLANNERS, PlanCandidates
from kshot.selectors.annotation.base import GraphSpec, labelled_mask
from kshot.structures import structures_of

DATA = Path(os.environ.get("KSHOT_TEST_DATA", "../shared/data"))
SEEDS = 10
CLUSTERS = 50
PROBED = 10
BATCH = 256


@dataclass(frozen=True)
class Split:
    """Texts, labels and vectors of the rows of a split."""

    texts: list[str]
    labels: "np.ndarray[Any, Any]"
    vectors: "np.ndarray[Any, np.dtype[np.float32]]"


@dataclass(frozen=True)
class Worth:
    """What a plan came to: coverage, and per query whether the nearest labelled example has its label."""

    mean: float
    p10: float
    hits: "np.ndarray[Any, np.dtype[np.float64]]"
    took_s: float


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", nargs="+", default=["banking77", "clinc150", "wordnet_gloss"])
    parser.add_argument("--budget", type=int, nargs="+", default=[18, 100, 300])
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--planners", nargs="+", help="default: all")
    parser.add_argument("--cache", type=Path, help="folder of the embedding model's cache")
    options = parser.parse_args()
    embedder = open_minilm(cache=options.cache)
    for dataset in options.dataset:
        pool = read(embedder, dataset, "train")
        test = read(embedder, dataset, "test", options.queries)
        measure(dataset, pool, test, options.budget, options.planners or PLANNERS.names())
    embedder.close()


def read(embedder: Any, dataset: str, split: str, most: int | None = None) -> Split:
    """Read and embed a split; of equal texts the first."""
    with (DATA / dataset / f"{split}.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    rows = list({row["input"]: row for row in reversed(rows)}.values())[::-1][:most]
    texts = [row["input"] for row in rows]
    vectors = np.concatenate(
        [
            embedder.encode(texts[start : start + BATCH], token_layer=None).vectors
            for start in range(0, len(texts), BATCH)
        ]
    )
    return Split(texts, np.array([row["output"] for row in rows]), vectors)


def measure(dataset: str, pool: Split, test: Split, budgets: list[int], planners: list[str]) -> None:
    """Plan with every planner at every budget and print a table per budget."""
    started = time.perf_counter()
    candidates = given(pool)
    graphs: dict[GraphSpec, Any] = {}
    print(f"\n{dataset}: {len(pool.texts)} rows, {len(test.texts)} queries, prepared in ", end="")
    print(f"{time.perf_counter() - started:.1f} s")
    nearest = test.vectors @ pool.vectors.T
    for budget in budgets:
        print(
            f"\n| {dataset}, {budget} labels | coverage | 10th percentile | 1-NN accuracy | less random | s |"
        )
        print("| --- | --- | --- | --- | --- | --- |")
        drawn = [
            worth("random", candidates, graphs, pool, test, nearest, budget, seed) for seed in range(SEEDS)
        ]
        base = Worth(
            float(np.mean([one.mean for one in drawn])),
            float(np.mean([one.p10 for one in drawn])),
            np.mean([one.hits for one in drawn], axis=0),
            float(np.mean([one.took_s for one in drawn])),
        )
        spread = np.std([one.mean for one in drawn])
        across = [one.hits.mean() for one in drawn]
        shown = f"{base.mean:.3f} (sd {spread:.3f}) | {base.p10:.3f} | {accuracy(base.hits)}"
        print(
            f"| random, {SEEDS} seeds | {shown}; seeds {min(across):.3f} to {max(across):.3f} | | "
            f"{base.took_s:.2f} |"
        )
        for name in planners:
            if name == "random":
                continue
            one = worth(name, candidates, graphs, pool, test, nearest, budget, 0)
            shown = f"{one.mean:.3f} | {one.p10:.3f} | {accuracy(one.hits)}"
            less = accuracy(one.hits - base.hits, sign="+")
            print(f"| {name} | {shown} | {less} | {one.took_s:.2f} |", flush=True)


def accuracy(hits: Any, sign: str = "") -> str:
    """Write a mean over queries with its interval."""
    low, high = interval(hits)
    return f"{hits.mean():{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def given(pool: Split) -> PlanCandidates:
    """Return what the planners read, the stand-ins among it."""
    rng = np.random.default_rng(0)
    n = len(pool.texts)
    candidates = PlanCandidates(labelled=np.zeros(n, np.bool_), vectors=pool.vectors)
    probed = rng.choice(n, PROBED, replace=False)
    centres = PLANNERS.get("k_means")().plan(candidates, CLUSTERS, np.random.default_rng(0)).indices
    cluster = np.argmax(pool.vectors @ pool.vectors[centres].T, axis=1)
    return replace(
        candidates,
        confidence=(pool.vectors @ pool.vectors[probed].T).max(axis=1).astype(np.float64),
        structures=structures_of_rows(structures_of(pool.texts, "ngrams")),
        tags=structures_of_rows([[int(one)] for one in cluster]).astype(np.bool_),
        tag_vectors=pool.vectors[centres][list(dict.fromkeys(cluster.tolist()))],
    )


def worth(
    name: str,
    candidates: PlanCandidates,
    graphs: dict[GraphSpec, Any],
    pool: Split,
    test: Split,
    nearest: Any,
    budget: int,
    seed: int,
) -> Worth:
    """Plan, look how well the chosen rows cover the others, and let them answer the queries."""
    planner = PLANNERS.get(name)()
    if planner.graph is not None and planner.graph not in graphs:
        graphs[planner.graph] = build_graph(pool.vectors, planner.graph)
    if planner.graph is not None:
        candidates = replace(candidates, graph=graphs[planner.graph])
    first = np.empty(0, np.int64)
    if name == "auto_ideal":
        first = facility_location(pool.vectors, budget // 2).indices
        candidates = replace(candidates, labelled=labelled_mask(first, len(pool.texts)))
    started = time.perf_counter()
    picks = planner.plan(candidates, budget - len(first), np.random.Generator(np.random.PCG64(seed))).indices
    picks = np.concatenate([first, picks])
    took_s = time.perf_counter() - started
    curve = coverage_curve(pool.vectors, picks, [len(picks)])
    answers = pool.labels[picks[np.argmax(nearest[:, picks], axis=1)]]
    return Worth(
        float(curve.mean[-1]), float(curve.p10[-1]), (answers == test.labels).astype(np.float64), took_s
    )


def interval(values: Any) -> tuple[float, float]:
    """Bootstrap a 95 % interval of the mean over queries, seed 0."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (5_000, len(values)))].mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


if __name__ == "__main__":
    main()
