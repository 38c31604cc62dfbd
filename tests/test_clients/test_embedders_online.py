import asyncio
import threading

import numpy as np
import pytest

from kshot.clients.embedders.base import TextFeatures
from kshot.clients.embedders.hashing import HashingEmbedder
from kshot.clients.embedders.online import OnlineEncoder
from kshot.errors import EmbedderUnavailable, InvalidInput, InvalidParameter, Overloaded, Unavailable


class GatedEmbedder(HashingEmbedder):
    """Records its batches, stands still while the gate is shut, and fails on chosen texts."""

    def __init__(self):
        super().__init__(dimension=16)
        self.batches = []
        self.gate = threading.Event()
        self.gate.set()
        self.poison = {}

    def encode(self, texts, *, token_layer, spans=False):
        self.batches.append(list(texts))
        assert self.gate.wait(timeout=30)
        for text in texts:
            if text in self.poison:
                raise self.poison[text]
        return super().encode(texts, token_layer=token_layer, spans=spans)


@pytest.fixture
def embedder():
    subject = GatedEmbedder()
    yield subject
    subject.gate.set()


async def turn(times=20):
    """Let every ready task run as far as it can."""
    for _ in range(times):
        await asyncio.sleep(0)


async def started(embedder, batches):
    """Wait until the worker thread has begun that many batches."""
    while len(embedder.batches) < batches:  # noqa: ASYNC110  a thread counts, which cannot set an asyncio.Event
        await asyncio.sleep(0.001)


def tasks(encoder, *texts, layer=1):
    return [asyncio.create_task(encoder.encode_one(text, layer)) for text in texts]


async def behind_a_running_batch(embedder, encoder, *texts):
    """Start one text, and queue the others while it runs; returns all tasks with the gate still shut."""
    embedder.gate.clear()
    first = tasks(encoder, "running")
    await started(embedder, 1)
    waiting = tasks(encoder, *texts)
    await turn()
    return [*first, *waiting]


async def test_a_text_is_encoded_as_by_the_embedder_itself(embedder):
    encoder = OnlineEncoder(embedder)
    one = await encoder.encode_one("where is my card", 1)
    wanted = embedder.encode(["where is my card"], token_layer=1, spans=True)
    for name in ("vectors", "tokens", "offsets", "token_ids", "special", "spans", "truncated"):
        np.testing.assert_array_equal(getattr(one, name), getattr(wanted, name))
    assert not one.vectors.flags.writeable
    assert (await encoder.encode_one("where is my card", None)).tokens is None
    await encoder.close()


async def test_an_idle_encoder_starts_at_once(embedder):
    encoder = OnlineEncoder(embedder, max_batch=8)
    await encoder.encode_one("alone", 1)
    assert embedder.batches == [["alone"]]
    await encoder.close()


async def test_what_arrives_during_a_batch_forms_the_next_one_in_order(embedder):
    encoder = OnlineEncoder(embedder, max_batch=3)
    calls = await behind_a_running_batch(embedder, encoder, "a", "b", "c", "d")
    embedder.gate.set()
    results = await asyncio.gather(*calls)
    assert embedder.batches == [["running"], ["a", "b", "c"], ["d"]]
    wanted = HashingEmbedder(16).encode(["running", "a", "b", "c", "d"], token_layer=1)
    for i, one in enumerate(results):
        np.testing.assert_allclose(one.vectors[0], wanted.vectors[i], atol=1e-6)
    await encoder.close()


async def test_texts_of_other_layers_wait_for_a_batch_of_their_own(embedder):
    encoder = OnlineEncoder(embedder)
    calls = await behind_a_running_batch(embedder, encoder, "a")
    calls += tasks(encoder, "b", layer=0) + tasks(encoder, "c", layer=1) + tasks(encoder, "d", layer=0)
    await turn()
    embedder.gate.set()
    await asyncio.gather(*calls)
    assert embedder.batches == [["running"], ["a", "c"], ["b", "d"]]
    await encoder.close()


async def test_equal_texts_are_encoded_once(embedder):
    encoder = OnlineEncoder(embedder)
    calls = await behind_a_running_batch(embedder, encoder, "same", "same", "same", "running")
    embedder.gate.set()
    results = await asyncio.gather(*calls)
    assert embedder.batches == [["running"], ["same"]]
    assert results[1] is results[2] is results[3]
    assert (encoder.counts.misses, encoder.counts.shared, encoder.counts.batches) == (2, 3, 2)
    await encoder.close()


async def test_a_recent_text_comes_from_the_cache(embedder):
    encoder = OnlineEncoder(embedder)
    first = await encoder.encode_one("again", 1)
    assert await encoder.encode_one("again", 1) is first
    assert embedder.batches == [["again"]]
    assert (encoder.counts.hits, encoder.counts.misses) == (1, 1)
    await encoder.close()


async def test_the_cache_forgets_the_least_recently_used_text_first(embedder):
    one = embedder.encode(["aaaa"], token_layer=1, spans=True)
    embedder.batches.clear()
    room_for_two = 2 * (one.nbytes + 4 * 4 + 1000)
    encoder = OnlineEncoder(embedder, cache_bytes=room_for_two)
    for text in ("aaaa", "bbbb", "aaaa", "cccc", "aaaa", "bbbb"):
        await encoder.encode_one(text, 1)
    assert embedder.batches == [["aaaa"], ["bbbb"], ["cccc"], ["bbbb"]]
    await encoder.close()


async def test_without_cache_every_text_is_encoded(embedder):
    encoder = OnlineEncoder(embedder, cache_bytes=0)
    await encoder.encode_one("a", 1)
    await encoder.encode_one("a", 1)
    assert embedder.batches == [["a"], ["a"]]
    await encoder.close()


async def test_a_poisoned_text_fails_alone(embedder):
    encoder = OnlineEncoder(embedder)
    embedder.poison = {"bad": InvalidInput("cannot read this")}
    calls = await behind_a_running_batch(embedder, encoder, "good", "bad", "fine")
    embedder.gate.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds == [TextFeatures, TextFeatures, InvalidInput, TextFeatures]
    assert embedder.batches == [["running"], ["good", "bad", "fine"], ["good"], ["bad"], ["fine"]]
    await encoder.close()


async def test_a_failure_is_not_remembered(embedder):
    encoder = OnlineEncoder(embedder)
    embedder.poison = {"flaky": RuntimeError("once")}
    with pytest.raises(RuntimeError, match="once"):
        await encoder.encode_one("flaky", 1)
    embedder.poison = {}
    assert len(await encoder.encode_one("flaky", 1)) == 1
    await encoder.close()


async def test_an_embedder_that_is_away_fails_the_batch_without_asking_again(embedder):
    encoder = OnlineEncoder(embedder)
    embedder.poison = {"b": EmbedderUnavailable("away")}
    calls = await behind_a_running_batch(embedder, encoder, "a", "b")
    embedder.gate.set()
    _, a, b = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(a, EmbedderUnavailable)
    assert isinstance(b, EmbedderUnavailable)
    assert embedder.batches == [["running"], ["a", "b"]]
    await encoder.close()


async def test_a_full_queue_refuses_and_recovers(embedder):
    encoder = OnlineEncoder(embedder, max_waiting=2)
    calls = await behind_a_running_batch(embedder, encoder, "a", "b")
    with pytest.raises(Overloaded, match="2 texts wait to be embedded, allowed 2"):
        await encoder.encode_one("c", 1)
    joined = tasks(encoder, "a")  # an equal text needs no place
    await turn()
    embedder.gate.set()
    await asyncio.gather(*calls, *joined)
    assert len(await encoder.encode_one("c", 1)) == 1
    assert encoder.counts.refused == 1
    await encoder.close()


async def test_one_callers_cancellation_leaves_the_others_alone(embedder):
    encoder = OnlineEncoder(embedder)
    calls = await behind_a_running_batch(embedder, encoder, "same", "same")
    calls[1].cancel()
    await turn()
    embedder.gate.set()
    assert len(await calls[2]) == 1
    assert calls[1].cancelled()
    await encoder.close()


async def test_a_text_that_nobody_waits_for_is_not_encoded(embedder):
    encoder = OnlineEncoder(embedder)
    running, left, kept = await behind_a_running_batch(embedder, encoder, "left", "kept")
    left.cancel()
    await turn()
    embedder.gate.set()
    await asyncio.gather(running, kept)
    assert embedder.batches == [["running"], ["kept"]]
    assert len(await encoder.encode_one("left", 1)) == 1
    await encoder.close()


async def test_cancelling_the_call_that_started_a_batch_does_not_lose_its_result(embedder):
    encoder = OnlineEncoder(embedder)
    (running,) = await behind_a_running_batch(embedder, encoder)
    running.cancel()
    await turn()
    embedder.gate.set()
    await encoder.encode_one("next", 1)
    await encoder.encode_one("running", 1)
    assert embedder.batches == [["running"], ["next"]]
    assert encoder.counts.hits == 1
    await encoder.close()


async def test_a_failure_that_nobody_waits_for_is_silent(embedder, caplog):
    encoder = OnlineEncoder(embedder)
    embedder.poison = {"running": RuntimeError("unseen")}
    (running,) = await behind_a_running_batch(embedder, encoder)
    running.cancel()
    await turn()
    embedder.gate.set()
    await encoder.close()
    assert caplog.records == []


async def test_closing_refuses_what_waits_and_what_comes(embedder):
    encoder = OnlineEncoder(embedder)
    running, waiting = await behind_a_running_batch(embedder, encoder, "waiting")
    closing = asyncio.create_task(encoder.close())
    await turn()
    embedder.gate.set()
    await closing
    assert len(await running) == 1
    with pytest.raises(Unavailable, match="closed"):
        await waiting
    with pytest.raises(Unavailable, match="closed"):
        await encoder.encode_one("late", 1)
    await encoder.close()
    assert embedder.batches == [["running"]]


async def test_many_callers_get_their_own_text(embedder):
    encoder = OnlineEncoder(embedder, cache_bytes=20_000)
    texts = [f"text number {i % 70}" for i in range(400)]
    results = await asyncio.gather(*(encoder.encode_one(text, 1) for text in texts))
    wanted = HashingEmbedder(16).encode(texts, token_layer=1)
    for i, one in enumerate(results):
        np.testing.assert_allclose(one.vectors[0], wanted.vectors[i], atol=1e-6)
    assert encoder.counts.misses + encoder.counts.shared + encoder.counts.hits == 400
    assert max(map(len, embedder.batches)) <= 16
    await encoder.close()


@pytest.mark.parametrize(("name", "value"), [("max_batch", 0), ("max_waiting", 0), ("cache_bytes", -1)])
def test_limits_outside_their_range_are_refused(embedder, name, value):
    with pytest.raises(InvalidParameter, match=f"{name} is {value}, allowed >="):
        OnlineEncoder(embedder, **{name: value})
