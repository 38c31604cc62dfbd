"""What `scoring.py` asks for: contexts and options out of real texts, of a given length in tokens."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kshot.clients.scorers.base import Pair

LABELS = (" card", " cash", " transfer", " fee")
"""Single tokens of the model."""


@dataclass(frozen=True)
class Workload:
    """Pairs that are scored in one call, and how many contexts they have."""

    name: str
    pairs: list[Pair]
    contexts: int


class Prompts:
    """Draws workloads; the same seed draws the same ones.

    Parameters
    ----------
    tokenizer
        Of the `tokenizers` package, the model's own.
    data : Path
        Folder with banking77 and commonsenseqa.
    """

    def __init__(self, tokenizer: Any, data: Path) -> None:
        self._tokenizer = tokenizer
        self._banking = _rows(data / "banking77" / "train.jsonl")
        self._choices = _rows(data / "commonsenseqa" / "test.jsonl")
        intents = dict.fromkeys(row["output"] for row in self._banking)
        self._intents = sorted(f" {intent}" for intent in intents)

    def labels(self, seed: int, contexts: int, *, tokens: int, shared: int) -> Workload:
        """Four single-token labels after contexts of ``tokens`` tokens, ``shared`` of them alike."""
        rng = random.Random(seed)
        front = self._cut(self._demonstrations(rng, "Topic"), shared)
        pairs = [
            Pair(context=context, completion=label)
            for context in (
                self._with_question(rng, front, tokens - shared, "Topic") for _ in range(contexts)
            )
            for label in LABELS
        ]
        return Workload(f"4 labels, {tokens} tokens, {shared} shared", pairs, contexts)

    def intents(self, seed: int, contexts: int, *, tokens: int, options: int) -> Workload:
        """Intents of several tokens each, many of which begin alike."""
        rng = random.Random(seed)
        pairs = []
        for _ in range(contexts):
            context = self._with_question(rng, "", tokens, "Intent")
            pairs += [Pair(context=context, completion=one) for one in rng.sample(self._intents, options)]
        return Workload(f"{options} intents, {tokens} tokens", pairs, contexts)

    def choices(self, seed: int, contexts: int) -> Workload:
        """Five short answers to a question without demonstrations."""
        rng = random.Random(seed)
        pairs = []
        for row in rng.sample(self._choices, contexts):
            context = f"Question: {row['input']}\nAnswer:"
            pairs += [Pair(context=context, completion=f" {one}") for one in row["meta"]["options"]]
        return Workload("5 answers, 20 tokens", pairs, contexts)

    def continuations(self, seed: int, contexts: int, *, tokens: int, completion_tokens: int) -> Workload:
        """One long completion."""
        rng = random.Random(seed)
        pairs = []
        for _ in range(contexts):
            context = self._cut(self._demonstrations(rng, "Intent"), tokens)
            completion = self._cut(self._demonstrations(rng, "Intent"), completion_tokens)
            pairs.append(Pair(context=context, completion=completion))
        return Workload(f"1 completion of {completion_tokens}, {tokens} tokens", pairs, contexts)

    def edits(self, seed: int, contexts: int, *, tokens: int) -> Workload:
        """Three sentences that differ in their last word."""
        rng = random.Random(seed)
        pairs = []
        for _ in range(contexts):
            context = self._with_question(rng, "", tokens, "Reply")
            stem = " I am sorry to hear that, please tell us more about your"
            pairs += [
                Pair(context=context, completion=stem + last) for last in (" card", " transfer", " app")
            ]
        return Workload(f"3 sentences that begin alike, {tokens} tokens", pairs, contexts)

    def mixed(self, seed: int) -> Iterator[Workload]:
        """Option sets of every kind, and all of them in one call."""
        kinds = [
            self.labels(seed, 3, tokens=400, shared=200),
            self.intents(seed + 1, 1, tokens=300, options=12),
            self.intents(seed + 2, 1, tokens=100, options=40),
            self.choices(seed + 3, 6),
            self.continuations(seed + 4, 3, tokens=150, completion_tokens=120),
            self.edits(seed + 5, 2, tokens=200),
        ]
        yield from kinds
        yield Workload(
            "all of these", [pair for one in kinds for pair in one.pairs], sum(one.contexts for one in kinds)
        )

    def _demonstrations(self, rng: random.Random, name: str) -> Iterator[str]:
        while True:
            row = rng.choice(self._banking)
            yield f"Question: {row['input']}\n{name}: {row['output']}\n\n"

    def _with_question(self, rng: random.Random, front: str, tokens: int, name: str) -> str:
        question = f"\n\nQuestion: {rng.choice(self._banking)['input']}\n{name}:"
        left = tokens - len(self._tokenizer.encode(question).ids)
        return front + self._cut(self._demonstrations(rng, name), max(left, 1)) + question

    def _cut(self, texts: Iterator[str], tokens: int) -> str:
        text, ids = "", []
        while len(ids) < tokens:
            text += "".join(next(texts) for _ in range(8))
            ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return str(self._tokenizer.decode(ids[:tokens], skip_special_tokens=False))


def _rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]
