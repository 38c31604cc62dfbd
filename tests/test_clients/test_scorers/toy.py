"""Scorers over the toy server, and what they should say by the model's own arithmetic."""

import asyncio
import random
from contextlib import asynccontextmanager

from kshot.clients.scorers.base import Boundary, Pair, ScoringMode, ScoringOptions
from kshot.clients.scorers.tokenization import run_locally
from kshot.clients.scorers.vllm_http import VllmHttpScorer
from kshot.testing import Ledger, ToyTokenizer

IDS = {
    mode: ScoringOptions(boundary=Boundary.IDS, mode=mode, per_token=True) for mode in (None, *ScoringMode)
}


class Clock:
    """Stands still until somebody sleeps."""

    def __init__(self):
        self.now_s = 0.0
        self.pauses = []

    def __call__(self):
        return self.now_s

    async def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)


@asynccontextmanager
async def scorer_of(server, *, base_url="http://toy", **settings):
    clock = Clock()
    settings = {"audit_share": 0.0, "transport": server.transport(), "rng": random.Random(0)} | settings
    scorer = VllmHttpScorer(
        base_url, sleep=settings.pop("sleep", clock.sleep), clock=settings.pop("clock", clock), **settings
    )
    try:
        yield scorer
    finally:
        await scorer.close()


async def ready(scorer, server):
    """Let the canaries pass, and start counting."""
    await scorer.capabilities()
    server.ledger = Ledger()


def random_ids(rng, least, most):
    # Without special tokens and half bytes.
    return tuple(rng.randrange(19, 200) for _ in range(rng.randint(least, most)))


def random_group(rng, *, context=(1, 60), completions=(1, 5), lengths=(1, 4)):
    """Return pairs of one context with several completions, some of which share their beginning."""
    start = random_ids(rng, *context)
    stem = random_ids(rng, 0, lengths[1] - 1) if rng.random() < 0.5 else ()
    options = []
    for _ in range(rng.randint(*completions)):
        fresh = random_ids(rng, *lengths)
        options.append((stem + fresh)[: lengths[1]])
    return [Pair(context=start, completion=option) for option in options]


def local(flow, **tokenizer):
    """Run a flow on the toy tokenizer."""
    return run_locally(flow, ToyTokenizer(**tokenizer))


def exact_nats(server, context, completion):
    """The closed form of a score."""
    return server.model.sum_nats(context, completion)
