"""With and without memory a scorer over an exact server says the same, in whatever batches it is asked."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.clients.scorers.base import Chat, Message, Pair, Parts, Scored, ScoringOptions
from kshot.index.store import Store
from kshot.server.services.scoring.cache import CachedScorer
from kshot.testing import ToyCompletionServer
from tests.test_clients.test_scorers.toy import random_ids, scorer_of

WORDS = ["Ans", "wer", " yes", " no", "x", "New", " York", "\n", "é", "  ", "", "\ud800"]


def random_context(rng):
    kind = rng.choice(["text", "ids", "parts", "chat"])
    text = "".join(rng.choices(WORDS[:-1], k=rng.randint(0, 6)))
    if kind == "text":
        return text
    if kind == "ids":
        return random_ids(rng, 1, 30)
    shots = tuple("no " * rng.randint(1, 20) + "\n" for _ in range(rng.randint(0, 4)))
    if kind == "parts":
        return Parts(instruction="An ", demonstrations=shots, query=text)
    turns = [Message(role=role, content=shot) for shot in shots for role in ("user", "assistant")]
    return Chat(messages=(*turns, Message(role="user", content=text)))


def random_pairs(rng):
    return [
        Pair(context=context, completion="".join(rng.choices(WORDS, k=rng.randint(1, 3))))
        for context in [random_context(rng) for _ in range(4)]
        for _ in range(rng.randint(1, 4))
    ]


def told(results):
    """Everything but how a number came about, and its last digits: the order of a sum may differ."""
    return [
        (round(one.sum_nats, 9), one.tokens, one.boundary, one.dropped, one.dropped_demonstrations, one.lossy)
        if isinstance(one, Scored)
        else (one.code, one.message)
        for one in results
    ]


@pytest.mark.slow
@given(seed=st.integers(0, 10**6), data=st.data())
@settings(max_examples=12, deadline=None)
async def test_memory_changes_nothing(tmp_path_factory, seed, data):
    rng = random.Random(seed)
    pairs = random_pairs(rng)
    options = ScoringOptions(
        on_overflow=data.draw(st.sampled_from(["error", "left", "drop_demos"])),
        terminator=data.draw(st.sampled_from(["none", "newline", "eot"])),
    )
    order = data.draw(st.permutations(range(len(pairs))))
    folder = tmp_path_factory.mktemp("cache")
    server = ToyCompletionServer(max_model_tokens=60)
    with Store(f"sqlite:///{folder}/store.sqlite") as store:
        async with scorer_of(server) as bare, scorer_of(server) as wrapped:
            expected = told(await bare.score_batch(pairs, options))
            for memory_bytes in (0, 2**20):
                cached = CachedScorer(wrapped, store, memory_bytes=memory_bytes)
                for _ in range(2):
                    found = told(await cached.score_batch([pairs[i] for i in order], options))
                    assert found == [expected[i] for i in order]
                    doubled = told(await cached.score_batch(pairs + pairs, options))
                    assert doubled == expected + expected
            again = await CachedScorer(wrapped, store).score_batch(pairs, options)
    assert told(again) == expected
    # Where one completion has no score, those that are compared with it are asked for again.
    scored = [one for one in again if isinstance(one, Scored)]
    assert len(scored) < len(again) or all(one.cached for one in scored)
