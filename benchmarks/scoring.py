"""Measure likelihoods from a real vLLM: mode against mode, kshot against a bare client and vLLM alone.

    make vllm
    python benchmarks/scoring.py [--rounds 5] [--parts engine labels modes client]

Serves SmolLM2-135M on this machine's CPU, with and without prefix caching. Within a round everything that
is compared runs one after the other on the same new texts, with the server's prefix cache emptied before
each; what is printed are medians over the rounds, and medians of the ratios within a round.

- `engine`: tokens/s of echo mode over HTTP against ``LLM.generate(prompt_logprobs=0)``, which gets the same
  prompts in an engine with the same arguments;
- `labels`: prompts/s of label mode against echo mode;
- `modes`: what is chosen by itself against each mode alone, by time and by computed prompt tokens;
- `client`: kshot from texts to scores, against a bare httpx client that sends the same bodies, already
  tokenised, as many at a time and in the same order.

Reads banking77 and commonsenseqa from ``KSHOT_TEST_DATA``.
"""

import sys

# `select.py` beside this file would hide Python's own `select` from whatever is imported next.
sys.path.append(sys.path.pop(0))

import argparse
import asyncio
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median

from tokenizers import Tokenizer

from kshot.clients.scorers.base import Scored, ScoringMode, ScoringOptions
from kshot.clients.scorers.launcher import VllmSettings
from kshot.clients.scorers.vllm_http import VllmHttpScorer
from scoring_engines import Offline, Recorder, Served, prompts_of, replay
from scoring_prompts import LABELS, Prompts, Workload

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("KSHOT_TEST_DATA", "../shared/data"))
CONTEXT_TOKENS, SHARED_TOKENS = 1000, 700
MODES = (ScoringMode.ECHO, ScoringMode.TRIE, None)


@dataclass
class Table:
    """Seconds, or tokens, by what was measured, one per round."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        """Note one round."""
        self.values.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        """Return the middle one."""
        return median(self.values[name])

    def ratio(self, upper: str, lower: str) -> str:
        """Divide round by round; the median, the least and the most."""
        ratios = sorted(a / b for a, b in zip(self.values[upper], self.values[lower], strict=True))
        return f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


class Asked:
    """A scorer with its requests on record.

    It finds the tokenizer beside the model, as that is on this machine, unless ``remote`` is set.
    """

    def __init__(self, served: Served, *, remote: bool = False) -> None:
        self.recorder = Recorder()
        self._served = served
        self.scorer = VllmHttpScorer(
            served.url,
            transport=self.recorder,
            audit_share=0.0,
            tokenizer=Different() if remote else None,
        )

    async def run(self, workload: Workload, mode: ScoringMode | None) -> tuple[float, int]:
        """Score a workload with an empty cache; return seconds and computed prompt tokens."""
        await self._served.reset()
        self.recorder.start_over()
        before = await self._served.computed_tokens()
        started = time.perf_counter()
        results = await self.scorer.score_batch(workload.pairs, ScoringOptions(mode=mode))
        took_s = time.perf_counter() - started
        assert all(isinstance(one, Scored) for one in results), results
        return took_s, await self._served.computed_tokens() - before

    async def bare(self) -> float:
        """Send what was sent last once more, by a bare client; return seconds."""
        await self._served.reset()
        return await replay(self._served.client, self.recorder.requests)


class Different:
    """A tokenizer that is no model's, and so not used: the server is asked for every text."""

    def encode(self, text: str, *, add_special_tokens: bool) -> Sequence[int]:
        """Return no tokens."""
        del text, add_special_tokens
        return ()

    def decode(self, ids: Sequence[int]) -> str:
        """Return no text."""
        del ids
        return ""


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = ["engine", "labels", "modes", "client"]
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--contexts", type=int, default=16, help="of a round in label mode")
    parser.add_argument("--echo-contexts", type=int, default=2, help="of a round in echo mode")
    parser.add_argument("--block-size", type=int, default=32, help="tokens of a block of the prefix cache")
    parser.add_argument("--batched-tokens", type=int, default=2048, help="of a step of the engine")
    parser.add_argument("--vllm", type=Path, default=ROOT / ".venv-vllm", help="environment with vLLM")
    asyncio.run(measure(parser.parse_args()))


async def measure(options: argparse.Namespace) -> None:
    """Start servers and print one table per part."""
    model = smollm2()
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    prompts = Prompts(tokenizer, DATA)
    assert all(len(tokenizer.encode(label).ids) == 1 for label in LABELS)
    described = f"block size {options.block_size}, {options.batched_tokens} tokens a step, bfloat16, eager"
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, httpx {version('httpx')}")
    print(f"{model.name}, {described}, {options.rounds} rounds", flush=True)
    arguments = {"block_size": options.block_size, "max_num_batched_tokens": options.batched_tokens}
    flags = ["--block-size", str(options.block_size)]
    flags += ["--max-num-batched-tokens", str(options.batched_tokens)]
    if set(options.parts) & {"engine", "labels"}:
        settings = VllmSettings(
            model=str(model), served_name="model", extra=(*flags, "--no-enable-prefix-caching")
        )
        async with Served(settings, options.vllm) as served:
            asked = Asked(served)
            if "engine" in options.parts:
                offline = Offline(settings, options.vllm, {**arguments, "enable_prefix_caching": False})
                try:
                    await engine(options, prompts, asked, offline)
                finally:
                    offline.close()
            if "labels" in options.parts:
                await labels(options, prompts, asked, "without prefix caching")
            await asked.scorer.close()
    settings = VllmSettings(model=str(model), served_name="model", extra=tuple(flags))
    if set(options.parts) & {"labels", "modes", "client"}:
        async with Served(settings, options.vllm) as served:
            asked = Asked(served)
            if "labels" in options.parts:
                await labels(options, prompts, asked, "with prefix caching")
            if "modes" in options.parts:
                await modes(options, prompts, asked)
            if "client" in options.parts:
                remote = Asked(served, remote=True)
                await client(options, prompts, {"server's": remote, "own": asked})
                await remote.scorer.close()
            await asked.scorer.close()


async def engine(options: argparse.Namespace, prompts: Prompts, asked: Asked, offline: Offline) -> None:
    """Compare echo mode with the engine alone, and label mode too."""
    table = Table()
    await asked.run(prompts.labels(1, 1, tokens=200, shared=100), ScoringMode.ECHO)
    offline.generate(prompts_of(asked.recorder.requests), 0)
    tokens: dict[str, float] = {}
    for number in range(options.rounds):
        for name, mode, contexts, form in (
            ("echo", ScoringMode.ECHO, options.echo_contexts, 0),
            ("label", ScoringMode.LABEL, 4 * options.echo_contexts, None),
        ):
            load = prompts.labels(_seed(number), contexts, tokens=CONTEXT_TOKENS, shared=SHARED_TOKENS)
            took_s, _ = await asked.run(load, mode)
            sent = prompts_of(asked.recorder.requests)
            tokens[name] = sum(map(len, sent))
            table.add(f"{name} over HTTP", tokens[name] / took_s)
            table.add(f"{name} offline", tokens[name] / offline.generate(sent, form))
    print("\n| engine, tokens/s | over HTTP | `LLM.generate` | ratio |\n| --- | --- | --- | --- |")
    for name in tokens:
        over, alone = f"{name} over HTTP", f"{name} offline"
        rates = f"{table.median(over):.0f} | {table.median(alone):.0f}"
        print(f"| {name} | {rates} | {table.ratio(over, alone)} |", flush=True)


async def labels(options: argparse.Namespace, prompts: Prompts, asked: Asked, how: str) -> None:
    """Compare label mode with echo mode."""
    table = Table()
    await asked.run(prompts.labels(1, 1, tokens=200, shared=100), ScoringMode.ECHO)
    for number in range(options.rounds):
        for mode, contexts in (
            (ScoringMode.ECHO, options.echo_contexts),
            (ScoringMode.LABEL, options.contexts),
        ):
            load = prompts.labels(_seed(number), contexts, tokens=CONTEXT_TOKENS, shared=SHARED_TOKENS)
            took_s, computed = await asked.run(load, mode)
            table.add(f"{mode} prompts/s", contexts / took_s)
            table.add(f"{mode} tokens/s", computed / took_s)
            table.add(f"{mode} tokens", computed / contexts)
    title = f"4 labels after {CONTEXT_TOKENS} tokens, {SHARED_TOKENS} shared, {how}"
    print(f"\n| {title} | prompts/s | computed tokens/s | computed tokens per prompt |")
    print("| --- | --- | --- | --- |")
    for name in ("echo", "label"):
        shown = f"{table.median(f'{name} prompts/s'):.3f} | {table.median(f'{name} tokens/s'):.0f}"
        print(f"| {name} | {shown} | {table.median(f'{name} tokens'):.0f} |")
    print(f"| label / echo | {table.ratio('label prompts/s', 'echo prompts/s')} | | |", flush=True)


async def modes(options: argparse.Namespace, prompts: Prompts, asked: Asked) -> None:
    """Compare what is chosen by itself with each mode alone."""
    table = Table()
    names: dict[str, None] = {}
    for number in range(options.rounds):
        for load in prompts.mixed(_seed(number)):
            names[load.name] = None
            # Not timed: canaries before the very first one, and tokenising, which is remembered.
            await asked.run(load, None)
            for mode in MODES if number % 2 else reversed(MODES):
                took_s, computed = await asked.run(load, mode)
                table.add(f"{load.name}, {mode} s", took_s)
                table.add(f"{load.name}, {mode} tokens", computed)
    print("\n| options | echo: s, tokens | trie: s, tokens | chosen: s, tokens | chosen / best: s, tokens |")
    print("| --- | --- | --- | --- | --- |")
    for name in names:
        cells = [
            f"{table.median(f'{name}, {mode} s'):.2f}, {table.median(f'{name}, {mode} tokens'):.0f}"
            for mode in MODES
        ]
        worse = []
        for unit in ("s", "tokens"):
            best = min(table.median(f"{name}, {mode} {unit}") for mode in MODES[:2])
            worse.append(f"{table.median(f'{name}, None {unit}') / best:.2f}")
        print(f"| {name} | {' | '.join(cells)} | {', '.join(worse)} |", flush=True)


async def client(options: argparse.Namespace, prompts: Prompts, tokenizer_to_asked: dict[str, Asked]) -> None:
    """Compare kshot with a bare client, by the server's tokenizer and by its own."""
    table = Table()
    tokenizers: dict[str, None] = {}
    for one in tokenizer_to_asked.values():
        await one.scorer.capabilities()
    for number in range(options.rounds):
        loads = {
            "label, 1,000 tokens": (ScoringMode.LABEL, options.contexts, CONTEXT_TOKENS, SHARED_TOKENS),
            "label, 100 tokens": (ScoringMode.LABEL, 2 * options.contexts, 100, 32),
            "echo, 100 tokens": (ScoringMode.ECHO, options.contexts // 2, 100, 32),
        }
        for name, (mode, contexts, length, shared) in loads.items():
            for whose, asked in tokenizer_to_asked.items():
                # A tokenizer remembers: each gets texts of its own.
                seed = _seed(number) + 31 * len(tokenizers) + length
                load = prompts.labels(seed, contexts, tokens=length, shared=shared)
                row = f"{name}, {whose} tokenizer"
                tokenizers[row] = None
                table.add(f"{row} kshot", (await asked.run(load, mode))[0])
                table.add(f"{row} requests", len(asked.recorder.requests))
                table.add(f"{row} others", asked.recorder.others)
                table.add(f"{row} bare", await asked.bare())
    print(
        "\n| client | kshot, s | bare, s | ratio | requests, tokenizer's |\n| --- | --- | --- | --- | --- |"
    )
    for row in tokenizers:
        times = f"{table.median(f'{row} kshot'):.2f} | {table.median(f'{row} bare'):.2f}"
        counts = f"{table.median(f'{row} requests'):.0f}, {table.median(f'{row} others'):.0f}"
        print(f"| {row} | {times} | {table.ratio(f'{row} kshot', f'{row} bare')} | {counts} |", flush=True)


def _seed(number: int) -> int:
    return 1000 * (number + 1)


def smollm2() -> Path:
    """Return the folder of the small model, made at its first use on this machine."""
    made = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "make_smollm2.py")],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    return Path(made.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
