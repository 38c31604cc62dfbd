"""Let a policy choose among three prompts for a real model, where the truth about all three is known.

    python benchmarks/policy_live.py --cache DIR [--queries 1000] [--runs 10] [--floor 0.2]

banking77, SmolLM2-135M-Instruct in vLLM (`make vllm`), reward 1 for the right intent word for word. The three
variants are those of `benchmarks/bandits/desks.py`; the model's answers to every prompt are computed once and
kept in ``--cache``, so that each variant's accuracy is known. Then a kshot server decides query by query
(``client.decide``), is told the reward of what it chose alone (``decision.feedback``), and estimates from its
own log what every variant, and the policy, would have earned (``client.evaluate_policy``).

Several runs, each with a policy of its own and the queries in another order, tell luck from skill.
"""

import sys
from pathlib import Path

# `select.py` beside this file would hide Python's own `select` from whatever is imported next.
sys.path[0] = str(Path(__file__).parent.parent)

import argparse
import json
import math
import os
import platform
import subprocess
import tempfile
import time
from contextlib import nullcontext
from importlib.metadata import version
from typing import Any

import numpy as np

from benchmarks.bandits.desks import DESKS, Answers, desk_of, is_right, prompt_of, variants
from benchmarks.bandits.intervals import mean_of
from benchmarks.serving import Server
from kshot import Client
from kshot.clients.scorers.launcher import VllmServer, VllmSettings, find_environment

DATA = Path(os.environ.get("KSHOT_TEST_DATA", "../shared/data")) / "banking77"
ROOT = Path(__file__).parent.parent
NAME = "smollm2-135m-instruct"


def main() -> None:
    """Compute the truth, then let policies run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=Path, required=True, help="folder for the model's answers")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--pool", type=int, default=3000, help="rows of the train split that desks share")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--algorithms", nargs="+", default=["square_cb", "lin_thompson", "lin_ucb"])
    parser.add_argument(
        "--floor", type=float, default=0.02, help="share of decisions drawn evenly: what estimates live on"
    )
    parser.add_argument("--vllm-url", help="a vLLM that serves the model already")
    parser.add_argument("--json", type=Path, help="write every figure here as well")
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, kshot {version('kshot')}")
    queries = rows("test")[: options.queries]
    with tempfile.TemporaryDirectory(prefix="kshot-bench-") as folder:
        server = Server(Path(folder), os.cpu_count() or 1)
        try:
            with Client(server.url) as client:
                prompts = asked(server, client, queries, options.pool)
                right = truth(prompts, queries, options)
                report(client, queries, prompts, right, options)
        finally:
            server.close()


def rows(split: str) -> list[dict[str, Any]]:
    """Read a split of banking77."""
    with (DATA / f"{split}.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def asked(server: Server, client: Client, queries: list[dict[str, Any]], pool: int) -> list[dict[str, str]]:
    """Fill the desks' pools and return every variant's prompt for every query."""
    for desk in DESKS:
        own = [row for row in rows("train")[:pool] if desk_of(row["output"]) == desk]
        examples = [{"id": row["id"], "inputs": row["input"], "outputs": row["output"]} for row in own]
        seconds = server.ingest(desk, examples)
        intents = len({row["output"] for row in own})
        print(f"{desk}: {len(own)} examples of {intents} intents in {seconds:.0f} s", flush=True)
    return [
        {one["name"]: prompt_of(client, one["parameters"], row["input"]) for one in variants()}
        for row in queries
    ]


def truth(prompts: list[dict[str, str]], queries: list[dict[str, Any]], options: argparse.Namespace) -> Any:
    """Return whether each variant's answer is right, shape (queries, variants)."""
    answers = Answers(options.cache, NAME)
    missing = answers.missing([prompt for one in prompts for prompt in one.values()])
    if missing:
        folder = subprocess.run(
            [sys.executable, str(ROOT / "scripts" / "make_smollm2.py")],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        ).stdout.splitlines()[-1]
        settings = VllmSettings(model=folder, served_name=NAME)
        own = VllmServer(settings, environment=find_environment())
        with nullcontext() if options.vllm_url else own:
            if not options.vllm_url:
                own.start()
            answers.ask(missing, options.vllm_url or own.url, NAME)
    return np.array(
        [
            [is_right(answers[one[desk]], row["output"]) for desk in DESKS]
            for one, row in zip(prompts, queries, strict=True)
        ]
    )


def report(
    client: Client,
    queries: list[dict[str, Any]],
    prompts: list[dict[str, str]],
    right: Any,
    options: argparse.Namespace,
) -> None:
    """Print the truth, then what the policies and the estimates make of it."""
    accuracy = right.mean(axis=0)
    print(f"\n{len(queries)} queries; accuracy of each variant alone, with 95 % intervals over queries:\n")
    for desk, share in zip(DESKS, accuracy, strict=True):
        low, high = wilson(share, len(queries))
        print(f"- {desk}: {100 * share:.1f} % ({100 * low:.1f} to {100 * high:.1f})")
    print(f"- drawn evenly: {100 * right.mean():.1f} %")
    print(f"- the right one wherever there is one: {100 * right.any(axis=1).mean():.1f} %")
    figures: dict[str, Any] = {"queries": len(queries), "accuracy": dict(zip(DESKS, accuracy, strict=True))}
    for algorithm in options.algorithms:
        runs: list[dict[str, Any]] = []
        settings = {"algorithm": algorithm, "floor": options.floor}
        for run in range(options.runs):
            started = time.perf_counter()
            order = np.random.default_rng([run, 7]).permutation(len(queries))
            runs.append(one_run(client, f"{algorithm}-{run}", settings, order, queries, prompts, right))
            if run == 0:
                print(f"\n## {algorithm}: first run, {time.perf_counter() - started:.0f} s\n")
                print_run(runs[0], accuracy)
        print_runs(algorithm, runs, accuracy)
        figures[algorithm] = runs
    if options.json:
        options.json.write_text(json.dumps(figures, default=float, indent=1), encoding="utf-8")


def one_run(
    client: Client,
    name: str,
    settings: dict[str, Any],
    order: Any,
    queries: list[dict[str, Any]],
    prompts: list[dict[str, str]],
    right: Any,
) -> dict[str, Any]:
    """Let one policy decide on every query, once, and ask for estimates."""
    client.create_policy(name, variants(), **settings)
    rewards, served = [], []
    for query in order:
        decision = client.decide(name, queries[query]["input"])
        column = DESKS.index(decision.variant)
        if (
            len(served) < 100
            and prompt_of(client, decision.parameters, queries[query]["input"])
            != (prompts[query][decision.variant])
        ):
            sys.exit("a variant's prompt is not the one that was answered")
        reward = bool(right[query, column])
        decision.feedback(reward)
        rewards.append(reward)
        served.append(column)
    client.flush_feedback(60)
    settle(client, name, len(order))
    evaluation = client.evaluate_policy(name)
    half = len(order) // 2
    frozen = frozen_truth(client, name, settings, order, served, queries, right)
    alone = {desk: float(right[:, column].mean()) for column, desk in enumerate(DESKS)}
    return {
        "accuracy": float(np.mean(rewards)),
        "second_half": float(np.mean(rewards[half:])),
        "last_quarter": float(np.mean(rewards[3 * len(rewards) // 4 :])),
        "shares": [float(np.mean(np.array(served[half:]) == column)) for column in range(len(DESKS))],
        "less_best": paired(np.array(rewards) - right[order].astype(float)[:, right.mean(axis=0).argmax()]),
        "estimates": [
            {
                "target": one.target,
                "truth": alone.get(one.target, frozen),
                "value": one.value,
                "low": one.low,
                "high": one.high,
                "ess": one.effective_sample_size,
                "refusal": one.refusal,
                "all": one.all_estimators,
            }
            for one in evaluation.data
        ],
    }


def settle(client: Client, name: str, outcomes: int) -> None:
    """Wait until a policy holds so many outcomes."""
    until = time.monotonic() + 60
    while client.get_policy(name).outcomes < outcomes:
        if time.monotonic() > until:
            sys.exit(f"{name} does not hold {outcomes} outcomes")
        time.sleep(0.05)


def frozen_truth(
    client: Client,
    name: str,
    settings: dict[str, Any],
    order: Any,
    served: list[int],
    queries: list[dict[str, Any]],
    right: Any,
) -> float:
    """Return what a policy earns on the later half that has learnt from the earlier half, by its own words.

    A second policy is told what the first one served and earned, is frozen, and says its probabilities for
    each query of the later half: their sum over the variants that answer right is its accuracy.
    """
    twin, half = f"{name}-twin", len(order) // 2
    client.create_policy(twin, variants(), **settings, mode="apprentice", hold_out=0.0, nursery=0.0)
    for query, column in zip(order[:half], served[:half], strict=True):
        decision = client.decide(twin, queries[query]["input"], served=DESKS[column])
        decision.feedback(bool(right[query, column]))
    client.flush_feedback(60)
    settle(client, twin, half)
    client.update_policy(twin, mode="frozen")
    earned = []
    for query in order[half:]:
        ranking = client.decide(twin, queries[query]["input"]).ranking
        earned.append(sum(one.probability for one in ranking if right[query, DESKS.index(one.variant)]))
    client.delete_policy(twin)
    return float(np.mean(earned))


def print_run(run: dict[str, Any], accuracy: Any) -> None:
    """Print one run in full."""
    best, differs = accuracy.max(), run["less_best"]
    print(
        f"accuracy {100 * run['accuracy']:.1f} %, second half {100 * run['second_half']:.1f} %, last quarter "
        f"{100 * run['last_quarter']:.1f} %; best variant alone {100 * best:.1f} %; difference on the same "
        f"queries {100 * differs[0]:+.1f} ({100 * differs[1]:+.1f} to {100 * differs[2]:+.1f})\n"
    )
    print("| target | truth | estimate | 95 % interval | effective decisions | ips | snips | dm | dr |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for one in run["estimates"]:
        if one["value"] is None:
            print(f"| {one['target']} | {100 * one['truth']:.1f} | refused: {one['refusal']} | | | | | | |")
            continue
        others = " | ".join(f"{100 * one['all'][kind]:.1f}" for kind in ("ips", "snips", "dm", "dr"))
        interval = f"{100 * one['low']:.1f} to {100 * one['high']:.1f}"
        print(
            f"| {one['target']} | {100 * one['truth']:.1f} | {100 * one['value']:.1f} | {interval} "
            f"| {one['ess']:.0f} | {others} |"
        )


def print_runs(algorithm: str, runs: list[dict[str, Any]], accuracy: Any) -> None:
    """Print what all runs of an algorithm have in common."""
    n = len(runs)
    if n < 2:
        return
    print(f"\n{algorithm}, {n} runs (mean, and 95 % interval of the mean over runs):\n")
    for key, said in (("accuracy", "all"), ("second_half", "second half"), ("last_quarter", "last quarter")):
        mean, reach = mean_of([run[key] for run in runs])
        print(
            f"- {said}: {100 * mean:.1f} % ± {100 * reach:.1f}, against the best variant alone "
            f"{100 * (mean - accuracy.max()):+.1f}"
        )
    made = [one for run in runs for one in run["estimates"] if one["value"] is not None]
    held = sum(one["low"] <= one["truth"] <= one["high"] for one in made)
    off = np.mean([abs(one["value"] - one["truth"]) for one in made]) if made else math.nan
    refused = sum(len(run["estimates"]) for run in runs) - len(made)
    print(
        f"- {len(made)} estimates, {refused} refused: {held} intervals hold the truth, mean error "
        f"{100 * off:.1f} points"
    )


def wilson(share: float, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of n."""
    z = 1.96
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return middle - reach, middle + reach


def paired(differences: Any) -> tuple[float, float, float]:
    """Return the mean of differences with its 95 % interval."""
    mean, reach = differences.mean(), 1.96 * differences.std(ddof=1) / math.sqrt(len(differences))
    return float(mean), float(mean - reach), float(mean + reach)


if __name__ == "__main__":
    main()
