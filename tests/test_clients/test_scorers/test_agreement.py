"""On a real vLLM, however one asks, the answer is the same: up to the tolerance that its canaries measured.

``-s`` prints each difference; `docs/scoring.md` says how to repeat them.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import pytest

from kshot.clients.scorers.base import Boundary, Scored, Scorer, ScoringMode
from kshot.clients.scorers.vllm_http import VllmHttpScorer
from tests.real_models import offline_scorer, vllm_server
from tests.test_clients.test_scorers.agreement import (
    ALONE,
    MODES,
    PAIRS,
    Answers,
    Uncached,
    ask_in_every_way,
    ask_without_cache,
    difference,
)
from tests.test_clients.test_scorers.real import scored

T = TypeVar("T")
Ask: TypeAlias = Callable[[Scorer], Awaitable[T]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a vLLM said, with its prefix cache and, started anew, without it."""

    backend: str
    on: Answers
    off: Uncached
    remembered: tuple[list[Scored], list[Scored]] | None = None
    """`PAIRS` by trie through kshot's score cache, twice."""


async def _closing(scorer: Scorer, ask: Ask[T]) -> T:
    try:
        return await ask(scorer)
    finally:
        await scorer.close()


def _asked_offline() -> Asked:
    on = asyncio.run(_closing(offline_scorer(), ask_in_every_way))
    off = asyncio.run(_closing(offline_scorer(enable_prefix_caching=False), ask_without_cache))
    return Asked("vllm_offline", on, off)


def _asked_over_http() -> Asked:
    # Not beside vLLM: it remembers for a server.
    from kshot.server.services.scoring.cache import CachedScorer  # noqa: PLC0415

    async def twice(scorer: Scorer) -> tuple[list[Scored], list[Scored]]:
        mode = MODES[ScoringMode.TRIE]
        return await scored(scorer, PAIRS, mode), await scored(scorer, PAIRS, mode)

    with vllm_server() as server:
        on = asyncio.run(_closing(VllmHttpScorer(server.url, audit_share=0.0), ask_in_every_way))
        cached = CachedScorer(VllmHttpScorer(server.url, audit_share=0.0))
        remembered = asyncio.run(_closing(cached, twice))
    with vllm_server("--no-enable-prefix-caching") as server:
        off = asyncio.run(_closing(VllmHttpScorer(server.url, audit_share=0.0), ask_without_cache))
    return Asked("vllm", on, off, remembered)


HTTP = pytest.param(_asked_over_http, marks=pytest.mark.vllm, id="vllm")
OFFLINE = pytest.param(_asked_offline, marks=pytest.mark.vllm_offline, id="vllm_offline")


@pytest.fixture(scope="module", params=[HTTP, OFFLINE])
def asked(request):
    return request.param()


def some(results: list[Scored]) -> list[Scored]:
    return [results[i] for i in ALONE]


WAYS = {
    "chain rule: whole prompts (echo) and step by step (trie)": lambda a: (a.on.echo, a.on.trie),
    "chain rule without a prefix cache": lambda a: (a.off.echo, a.off.trie),
    "order of the batch, echo": lambda a: (a.on.echo, a.on.echo_shuffled),
    "order of the batch, trie": lambda a: (a.on.trie, a.on.trie_shuffled),
    "alone and in a batch, echo": lambda a: (some(a.on.echo), a.on.echo_alone),
    "alone and in a batch, trie": lambda a: (some(a.on.trie), a.on.trie_alone),
    "modes: label and echo": lambda a: (a.on.single[ScoringMode.LABEL], a.on.single[ScoringMode.ECHO]),
    "modes: label and trie": lambda a: (a.on.single[ScoringMode.LABEL], a.on.single[ScoringMode.TRIE]),
    "modes: trie and echo": lambda a: (a.on.single[ScoringMode.TRIE], a.on.single[ScoringMode.ECHO]),
    "prefix cache cold and warm, trie": lambda a: (a.on.cold, a.on.trie),
    "prefix cache on and off, trie": lambda a: (a.on.trie, a.off.trie),
    "prefix cache on and off, echo": lambda a: (a.on.echo, a.off.echo),
}


@pytest.mark.parametrize("way", WAYS)
def test_two_ways_to_ask_have_one_answer(asked, way, record_property):
    found = difference(*WAYS[way](asked))
    told(record_property, f"{asked.backend}: {way}: {found}")
    within = max(asked.on.tolerance_nats, asked.off.tolerance_nats)
    assert found.mean <= within
    assert found.largest_of_a_sum <= within


@pytest.mark.parametrize("asked", [HTTP], indirect=True)
def test_what_is_remembered_is_what_was_said(asked, record_property):
    first, second = asked.remembered
    assert all(one.cached for one in second)
    assert [one.per_token for one in second] == [one.per_token for one in first]
    found = difference(second, asked.on.trie)
    told(record_property, f"{asked.backend}: score cache on and off: {found}")
    assert found.largest_of_a_sum <= asked.on.tolerance_nats


def test_every_way_was_taken(asked):
    for answers in (asked.on, asked.off):
        assert {one.mode for one in answers.echo} == {ScoringMode.ECHO}
        assert {one.mode for one in answers.trie} == {ScoringMode.TRIE}
        assert max(one.tokens for one in answers.trie) > 5
    for mode in MODES:
        assert {one.mode for one in asked.on.single[mode]} == {mode}


def test_differences_are_those_of_tokens_and_of_sums():
    options: Any = {
        "tokens": 2,
        "bytes": 4,
        "characters": 4,
        "boundary": Boundary.IDS,
        "mode": ScoringMode.ECHO,
    }
    left = [Scored(sum_nats=-3.0, per_token=(-1.0, -2.0), **options)] * 2
    right = [left[0], Scored(sum_nats=-3.25, per_token=(-1.5, -1.75), **options)]
    found = difference(left, right)
    # Of four tokens two differ, by 0.5 and 0.25; the second sum by 0.25, over two tokens.
    assert (found.largest, found.mean, found.largest_of_a_sum) == (0.5, 0.1875, 0.125)


def told(record_property, line: str) -> None:
    """Write a figure for people: into the report, and with ``-s`` onto the screen."""
    record_property("difference", line)
    print(line)  # noqa: T201
