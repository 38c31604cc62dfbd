"""Measure how many wrong labels a pool's health finds, and how many right ones it accuses.

    python benchmarks/doubtful_labels.py --dataset banking77 clinc150 --noise 0.05 --seeds 10

Embeds each data set's train split, gives a seeded share of the rows another label at random, and compares the
suspected rows with these. Labels that were wrong before count as right here, so precision is a lower bound.
Prints means over seeds with 95 % intervals of the means.
"""

import sys

# `select.py` beside this file would hide Python's own `select` from whatever is imported next.
sys.path.append(sys.path.pop(0))

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

from kshot.clients.embedders.minilm import open_minilm
from kshot.selectors import suspected_labels

DATA = Path(os.environ.get("KSHOT_TEST_DATA", "../shared/data"))


def main() -> None:
    """Print a row per data set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", nargs="+", default=["banking77"])
    parser.add_argument("--noise", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    embedder = open_minilm()
    print("| data set | rows | labels | accused as they are | accused | precision | recall | put right | s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in options.dataset:
        lines = (DATA / name / "train.jsonl").read_text("utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        vectors = embedder.encode([row["input"] for row in rows], token_layer=None).vectors
        names, labels = np.unique([row["output"] for row in rows], return_inverse=True)
        started = time.perf_counter()
        clean = len(suspected_labels(vectors, labels))
        took_s = time.perf_counter() - started
        found = np.array(
            [trial(vectors, labels, len(names), options.noise, seed) for seed in range(options.seeds)]
        )
        half = 1.96 * found.std(axis=0, ddof=1) / np.sqrt(options.seeds)
        cells = [f"{mean:.3f} ± {width:.3f}" for mean, width in zip(found.mean(axis=0), half, strict=True)]
        cells[0] = f"{found[:, 0].mean():.0f}"
        print(f"| {name} | {len(rows)} | {len(names)} | {clean} | {' | '.join(cells)} | {took_s:.1f} |")
    embedder.close()


def trial(vectors, labels, count, noise, seed):
    """Return how many rows are accused, precision, recall, and how often the old label is suggested."""
    rng = np.random.default_rng(seed)
    wrong = rng.choice(len(labels), round(noise * len(labels)), replace=False)
    noisy = labels.copy()
    noisy[wrong] = (noisy[wrong] + rng.integers(1, count, len(wrong))) % count
    found = suspected_labels(vectors, noisy)
    hit = np.isin(found.rows, wrong)
    right = found.suggested[hit] == labels[found.rows[hit]]
    return len(found), hit.mean(), hit.sum() / len(wrong), right.mean()


if __name__ == "__main__":
    main()
