"""Run `vote_k` as its authors meant it: with the confidences of a real language model, through the server.

    make vllm
    python benchmarks/vote_k.py [--rows 2000] [--budget 100] [--queries 1000]

The first training rows of banking77, unlabelled but for a first plan of a tenth of the budget, by
`fast_vote_k`. `kshot serve` asks SmolLM2-135M on a vLLM on this machine's CPU how sure it is of its answer to
every other row, with the eight nearest of those first labels as demonstrations, and plans. Beside it
`fast_vote_k` and `random` (10 seeds) for the same budget after the same first labels: mean cosine of every
row to its nearest labelled one, and accuracy on test queries of the nearest labelled row's label. Prints what
the model was asked for as vLLM counts it. Reads banking77 from ``KSHOT_TEST_DATA``.
"""

import sys

# `select.py` beside this file would hide Python's own `select` from whatever is imported next.
sys.path.append(sys.path.pop(0))

import argparse
import asyncio
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from kshot import Client
from kshot.clients.embedders.minilm import open_minilm
from kshot.clients.scorers.launcher import VllmSettings
from kshot.selectors import coverage_curve
from planners import Split, accuracy, read
from scoring import ROOT, smollm2
from scoring_engines import Served
from serving import Server

POOL = "banking77"
SEEDS = 10
_COUNTERS = {
    "requests": re.compile(r"^vllm:request_success_total\{.*\} (\S+)$", re.MULTILINE),
    "prompt tokens": re.compile(r"^vllm:prompt_tokens_total\{.*\} (\S+)$", re.MULTILINE),
    "of these computed": re.compile(
        r'^vllm:prompt_tokens_by_source_total\{.*source="local_compute".*\} (\S+)$', re.MULTILINE
    ),
    "generated tokens": re.compile(r"^vllm:generation_tokens_total\{.*\} (\S+)$", re.MULTILINE),
}


def main() -> None:
    """Plan and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--budget", type=int, default=100)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--block-size", type=int, default=32, help="tokens of a block of the prefix cache")
    parser.add_argument("--vllm", type=Path, default=ROOT / ".venv-vllm", help="environment with vLLM")
    options = parser.parse_args()
    embedder = open_minilm()
    pool = read(embedder, "banking77", "train", options.rows)
    test = read(embedder, "banking77", "test", options.queries)
    embedder.close()
    asyncio.run(measure(options, pool, test))


async def measure(options: argparse.Namespace, pool: Split, test: Split) -> None:
    """Start both servers, plan, print."""
    settings = VllmSettings(
        model=str(smollm2()), served_name="model", extra=("--block-size", str(options.block_size))
    )
    async with Served(settings, options.vllm) as served:
        os.environ["KSHOT_SCORER_URL"] = served.url
        with tempfile.TemporaryDirectory() as folder:
            server = await asyncio.to_thread(Server, Path(folder), os.cpu_count() or 1)
            try:
                with Client(server.url, timeout_s=600) as client:
                    await _compare(options, pool, test, served, client)
            finally:
                server.close()


async def _compare(
    options: argparse.Namespace, pool: Split, test: Split, served: Served, client: Client
) -> None:
    client.create_pool(POOL)
    rows = [{"id": str(i), "inputs": text} for i, text in enumerate(pool.texts)]
    client.upsert(POOL, rows, wait="indexed")
    first = _ids(client, client.plan(POOL, budget=options.budget // 10, method="fast_vote_k", curve=False))
    client.upsert(POOL, [rows[i] | {"outputs": str(pool.labels[i])} for i in first], wait="indexed")
    await asyncio.to_thread(_wait_for_the_scorer, client)
    before = await _counted(served)
    started = time.perf_counter()
    phases: dict[str, float] = {}

    def note(plan: Any) -> None:
        phases.setdefault(plan.phase, time.perf_counter() - started)

    plan = await asyncio.to_thread(
        client.plan,
        POOL,
        budget=options.budget,
        method="vote_k",
        confidence="scorer",
        curve=False,
        timeout_s=24 * 3600,
        on_progress=note,
    )
    took_s = time.perf_counter() - started
    counts = {name: count - before[name] for name, count in (await _counted(served)).items()}
    print(f"{len(pool.texts)} rows, {len(first)} labelled before, {options.budget} planned: {took_s:.0f} s")
    print(f"phases began after {', '.join(f'{name} {s:.0f} s' for name, s in phases.items())}")
    print(", ".join(f"{name} {count:,.0f}" for name, count in counts.items()))
    print(f"{counts['prompt tokens'] / took_s:.0f} prompt tokens/s, {plan.result.confidence}")
    print(f"notices: {[(one.code, one.message) for one in plan.result.notices]}", flush=True)
    plans = {"vote_k, confidences of the model": [_ids(client, plan)]}
    for name, seeds in (("fast_vote_k", 1), ("random", SEEDS)):
        plans[name] = [
            _ids(client, client.plan(POOL, budget=options.budget, method=name, curve=False, seed=seed))
            for seed in range(seeds)
        ]
    nearest = test.vectors @ pool.vectors.T
    print(f"\n| {len(first)} + {options.budget} labels | coverage | 1-NN accuracy | labels seen |")
    print("| --- | --- | --- | --- |")
    for name, found in plans.items():
        picks = [np.array([*first, *one]) for one in found]
        covered = np.mean([coverage_curve(pool.vectors, one, [len(one)]).mean[-1] for one in picks])
        hits = [pool.labels[one[np.argmax(nearest[:, one], axis=1)]] == test.labels for one in picks]
        seen = np.mean([len(set(pool.labels[one])) for one in picks])
        share = accuracy(np.mean(hits, axis=0, dtype=np.float64))
        print(f"| {name} | {covered:.3f} | {share} | {seen:.1f} |", flush=True)


def _wait_for_the_scorer(client: Client) -> None:
    while (found := client.scorer()).state != "ok":
        if found.refusals:
            sys.exit(f"the scorer is refused: {found.refusals}")
        time.sleep(0.5)


def _ids(client: Client, plan: Any) -> list[int]:
    return [int(item.id) for item in client.plan_items(plan.id)]


async def _counted(served: Served) -> dict[str, float]:
    text = (await served.client.get("/metrics")).text
    return {name: sum(map(float, found.findall(text))) for name, found in _COUNTERS.items()}


if __name__ == "__main__":
    main()
