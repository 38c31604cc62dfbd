r"""Compare scores and time with lm-evaluation-harness: the same items, the same server, in one run.

    make vllm
    python3 -m venv .venv-lm-eval && .venv-lm-eval/bin/pip install "lm-eval[api]==0.4.13" transformers
    python benchmarks/lm_eval_harness.py --peer .venv-lm-eval/bin/python [--items 200]

Multiple-choice questions of commonsenseqa, ``Question: ...\nAnswer:`` and five options, no demonstrations.
The harness asks through its ``local-completions`` back end, one prompt at a time as it does by default, and
16 prompts a request with 8 requests in flight. kshot scores the same texts at boundary `harness`, in echo
mode and in the mode that it chooses. All ask a vLLM on this machine's CPU, whose prefix cache is emptied
before each. Reads commonsenseqa from ``KSHOT_TEST_DATA``.
"""

import sys

# `select.py` beside this file would hide Python's own `select` from whatever is imported next.
sys.path.append(sys.path.pop(0))

import argparse
import asyncio
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from kshot.clients.scorers.base import Boundary, Pair, Scored, ScoringMode, ScoringOptions
from kshot.clients.scorers.launcher import VllmSettings
from kshot.clients.scorers.vllm_http import VllmHttpScorer
from scoring import DATA, ROOT, LocalTokenizer, smollm2
from scoring_engines import Served

NATS_PER_TOKEN = 0.02
"""By how much two ways to ask one model may differ."""


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", type=Path, required=True, help="Python with lm-evaluation-harness")
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--block-size", type=int, default=32, help="tokens of a block of the prefix cache")
    parser.add_argument("--vllm", type=Path, default=ROOT / ".venv-vllm", help="environment with vLLM")
    asyncio.run(compare(parser.parse_args()))


async def compare(options: argparse.Namespace) -> None:
    """Ask both and print a table."""
    items = _items(options.items)
    model = smollm2()
    tokenizer = LocalTokenizer(Tokenizer.from_file(str(model / "tokenizer.json")))
    settings = VllmSettings(
        model=str(model), served_name="model", extra=("--block-size", str(options.block_size))
    )
    ways = {
        "harness, 16 prompts a request, 8 in flight": {"concurrent": 8, "batch": 16},
        "kshot, echo mode": {"mode": ScoringMode.ECHO, "tokenizer": None},
        "kshot, mode chosen": {"mode": None, "tokenizer": None},
        "kshot, mode chosen, own tokenizer": {"mode": None, "tokenizer": tokenizer},
        "harness, one prompt at a time": {"concurrent": 1, "batch": 1},
    }
    nats: dict[str, Any] = {}
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "items.jsonl"
        file.write_text("".join(json.dumps(item) + "\n" for item in items))
        async with Served(settings, options.vllm) as served:
            job = {"url": served.url, "model": "model", "tokenizer": str(model), "items": str(file)}
            await _kshot(served, items[:2], mode=None, tokenizer=None)
            for number in range(options.rounds):
                for name, how in ways.items():
                    if number and how.get("batch") == 1:
                        continue
                    await served.reset()
                    if "batch" in how:
                        told = await asyncio.to_thread(_harness, options.peer, job | how)
                        nats[name], took_s = np.array(told["nats"]), told["seconds"]
                    else:
                        nats[name], took_s = await _kshot(served, items, **how)
                    seconds.setdefault(name, []).append(took_s)
                    print(f"{name}: {took_s:.1f} s", flush=True)
    lengths = np.array(
        [[len(tokenizer.encode(f" {one}", add_special_tokens=False)) for one in i["options"]] for i in items]
    )
    _print(ways, nats, seconds, lengths, items)


def _print(ways: Any, nats: Any, seconds: Any, lengths: Any, items: list[dict[str, Any]]) -> None:
    reference = next(iter(ways))
    right = np.array([item["answer"] for item in items])
    print(
        f"\n| {len(items)} items, {lengths.size} options | s | accuracy | same choice | same or a tie ",
        end="",
    )
    print(f"| within {NATS_PER_TOKEN} nats a token | largest, nats a token |\n| --- " + "| --- " * 6 + "|")
    for name in ways:
        apart = np.abs(nats[name] - nats[reference]) / lengths
        chosen, choice = nats[name].argmax(axis=1), nats[reference].argmax(axis=1)
        rows = np.arange(len(items))
        tied = nats[reference][rows, choice] - nats[reference][rows, chosen] < 0.05
        took = min(seconds[name]), max(seconds[name])
        print(
            f"| {name} | {took[0]:.1f} to {took[1]:.1f} | {(chosen == right).mean():.3f} "
            f"| {(chosen == choice).mean():.3f} | {((chosen == choice) | tied).mean():.3f} "
            f"| {(apart < NATS_PER_TOKEN).mean():.3f} | {apart.max():.3f} |"
        )


def _items(most: int) -> list[dict[str, Any]]:
    with (DATA / "commonsenseqa" / "test.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line, _ in zip(file, range(most), strict=False)]
    return [
        {"input": row["input"], "options": row["meta"]["options"], "answer": row["meta"]["answer"]}
        for row in rows
    ]


def _harness(peer: Path, job: dict[str, Any]) -> dict[str, Any]:
    script = Path(__file__).parent / "peers" / "lm_eval_task.py"
    done = subprocess.run(
        [str(peer), str(script)],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    told: dict[str, Any] = json.loads(done.stdout)
    return told


async def _kshot(
    served: Served, items: list[dict[str, Any]], *, mode: ScoringMode | None, tokenizer: Any
) -> tuple[Any, float]:
    scorer = VllmHttpScorer(served.url, audit_share=0.0, tokenizer=tokenizer)
    await scorer.capabilities()
    await served.reset()
    pairs = [
        Pair(context=f"Question: {item['input']}\nAnswer:", completion=f" {option}")
        for item in items
        for option in item["options"]
    ]
    started = time.perf_counter()
    results = await scorer.score_batch(pairs, ScoringOptions(boundary=Boundary.HARNESS, mode=mode))
    took_s = time.perf_counter() - started
    await scorer.close()
    assert all(isinstance(one, Scored) for one in results), results
    nats = [one.sum_nats for one in results if isinstance(one, Scored)]
    return np.array(nats).reshape(len(items), -1), took_s


if __name__ == "__main__":
    main()
