"""A scorer over a made-up model of bytes, whose every log-probability can be written down."""

import asyncio
from dataclasses import replace
from itertools import pairwise

import numpy as np

from kshot.clients.scorers.base import (
    Boundary,
    Capabilities,
    Chat,
    Generated,
    NotScored,
    Parts,
    Scored,
    ScoringMode,
    ScoringOptions,
)
from kshot.errors import ScorerUnavailable

_DEFAULTS = ScoringOptions()
END = {"none": b"", "newline": b"\n", "eot": b"\x00"}


def ids_of(text) -> list[int]:
    if isinstance(text, Chat):
        text = "".join(f"{one.role}:{one.content}\n" for one in text.messages)
    if isinstance(text, Parts):
        text = text.text
    return list(text.encode()) if isinstance(text, str) else list(text)


def nats_of(before: int, token: int) -> float:
    """Return ln p(token | before): eighths, so that sums are exact; -inf for a capital Z."""
    return -np.inf if token == ord("Z") else -((3 * before + 5 * token) % 17 + 1) / 8


def state_of(context) -> int:
    """Return what the model remembers of a context, all of which counts."""
    return sum(ids_of(context)) % 251


def path_nats(context, completion) -> list[float]:
    before = [state_of(context), *ids_of(completion)]
    return [nats_of(*pair) for pair in pairwise(before)]


class ClosedFormScorer:
    """Counts what it is asked, and fails as told."""

    def __init__(self, max_model_tokens: int = 100_000) -> None:
        self.known = Capabilities(
            backend="closed-form",
            model="bytes",
            fingerprint="bytes-1",
            max_model_tokens=max_model_tokens,
            modes=(ScoringMode.ECHO, ScoringMode.TRIE),
            tolerance_nats=0.0,
        )
        self.pairs: list[object] = []
        self.prompts: list[object] = []
        self.error: Exception | None = None
        self.after_batches = 0
        self.batches = 0
        self.gate: asyncio.Event | None = None
        self.becomes: Capabilities | None = None
        self.closed = 0

    def refuse(self, *reasons: str) -> None:
        self.known = replace(self.known, modes=(), refusals=reasons)

    async def capabilities(self) -> Capabilities:
        if self.error is not None and self.batches >= self.after_batches:
            raise self.error
        return self.known

    async def _answering(self) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None and self.batches >= self.after_batches:
            raise self.error
        if not self.known.modes:
            raise ScorerUnavailable("refused")
        self.batches += 1
        if self.becomes is not None:
            self.known, self.becomes = self.becomes, None

    async def score_batch(self, pairs, options=_DEFAULTS):
        await self._answering()
        self.pairs += pairs
        return [self._score(pair, options) for pair in pairs]

    def _score(self, pair, options):
        completion = bytes(ids_of(pair.completion)) + END[options.terminator]
        if not completion:
            return NotScored(code="invalid_input", message="the completion has no tokens")
        context = ids_of(pair.context)
        shots = lost = 0
        if options.on_overflow == "drop_demos" and isinstance(pair.context, Parts):
            room = self.known.max_model_tokens - len(completion) - 1
            parts = pair.context
            while len(ids_of(parts)) > room and parts.demonstrations:
                parts, shots = replace(parts, demonstrations=parts.demonstrations[1:]), shots + 1
            lost, context = len(context) - len(ids_of(parts)), ids_of(parts)
        dropped = max(0, len(context) + len(completion) - self.known.max_model_tokens + 1)
        if dropped and options.on_overflow != "left":
            return NotScored(code="payload_too_large", message="the context is too long")
        values = path_nats(context[dropped:], completion)
        return Scored(
            sum_nats=sum(values),
            tokens=len(values),
            bytes=len(completion),
            characters=len(completion.decode(errors="replace")),
            boundary=options.boundary or Boundary.JOINT,
            mode=options.mode or ScoringMode.TRIE,
            per_token=tuple(values) if options.per_token else None,
            greedy=None,
            dropped=lost if shots else dropped,
            dropped_demonstrations=shots,
        )

    async def label_logprobs(self, prompts, label_token_ids):
        await self._answering()
        self.prompts += prompts
        return np.array([[nats_of(state_of(one), label) for label in label_token_ids] for one in prompts])

    async def greedy(self, prompts, max_tokens, stop="\n"):
        await self._answering()
        self.prompts += prompts
        return [greedy_of(one, max_tokens, stop) for one in prompts]

    async def close(self) -> None:
        self.closed += 1


def greedy_of(prompt, max_tokens: int, stop: str = "\n") -> Generated:
    """Follow the likeliest of the letters, the lowest of equal ones, and the stop."""
    before = state_of(prompt)
    total = 0.0
    answer: list[int] = []
    while len(answer) < max_tokens:
        choices = [*range(ord("a"), ord("z") + 1), ord(stop)]
        values = [nats_of(before, token) for token in choices]
        best = choices[values.index(max(values))]
        total += max(values)
        answer.append(best)
        before = best
        if best == ord(stop):
            break
    return Generated(text=bytes(answer).decode(), tokens=len(answer), mean_nats=total / len(answer))
