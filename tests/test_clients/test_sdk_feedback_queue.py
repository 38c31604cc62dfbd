"""Feedback in the background: kept while nobody answers, delivered once, in order."""

import json
import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import pytest

from kshot.clients.sdk.async_client import AsyncClient
from kshot.clients.sdk.client import Client
from kshot.clients.sdk.feedback_queue import FeedbackQueue
from kshot.clients.sdk.outbox import Outbox
from kshot.clients.sdk.selection import Selection
from kshot.errors import InvalidInput, Overloaded, PayloadTooLarge, ServerUnreachable, Unauthorized
from kshot.schemas.feedback import FeedbackBatchReply, RefusedFeedback
from kshot.schemas.selections import SelectionReply
from tests.test_clients import replies

ACCEPTED = FeedbackBatchReply(accepted=0, duplicates=0, refused=[], data=[])


class Postbox:
    """Takes batches, and fails as often as it is told to."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.batches: list[list[Any]] = []
        self.called = threading.Event()

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> FeedbackBatchReply:
        self.batches.append(list(items))
        self.called.set()
        if self.failures:
            self.failures -= 1
            raise ServerUnreachable("nobody answers")
        return ACCEPTED


def values(batch: Sequence[Mapping[str, Any]]) -> list[Any]:
    return [item["value"] for item in batch]


def test_what_waits_keeps_its_order_and_its_key():
    outbox = Outbox()
    for number in range(5):
        outbox.add({"value": number})
    first = outbox.first(2)
    assert values(first) == [0, 1]
    assert outbox.first(2) == first
    outbox.drop(2)
    assert values(outbox.first()) == [2, 3, 4]
    keys = {item["idempotency_key"] for item in [*first, *outbox.first()]}
    assert len(keys) == 5


def test_a_full_outbox_refuses_and_keeps_what_it_has():
    outbox = Outbox(limit=2)
    outbox.add({"value": 1})
    outbox.add({"value": 2})
    with pytest.raises(Overloaded, match="2 outcomes wait"):
        outbox.add({"value": 3})
    assert values(outbox.first()) == [1, 2]


def test_an_outcome_is_sent_again_as_it_was_until_somebody_answers():
    postbox = Postbox(failures=2)
    queue = FeedbackQueue(postbox)
    queue.add({"value": 1})
    postbox.called.wait()
    queue.add({"value": 2})
    assert queue.flush(timeout_s=30)
    sent = [values(batch) for batch in postbox.batches]
    assert sent[0] == [1]
    assert sent[-1] == [1, 2]
    # The same keys, so that a server that took the first attempt in counts it once.
    assert postbox.batches[-1][0] == postbox.batches[0][0]
    queue.close()
    assert queue.flush(timeout_s=0)


def test_what_the_server_refuses_is_dropped_and_counted(caplog):
    def refusing(items: Sequence[Mapping[str, Any]]) -> FeedbackBatchReply:
        refused = [RefusedFeedback(index=0, code="decision_not_found", detail="secret-decision")]
        return FeedbackBatchReply(accepted=len(items) - 1, duplicates=0, refused=refused, data=[])

    queue = FeedbackQueue(refusing)
    with caplog.at_level(logging.WARNING):
        queue.add({"value": 1})
        assert queue.flush(timeout_s=30)
    assert queue.refused == 1
    assert "decision_not_found" in caplog.text
    assert "secret-decision" not in caplog.text
    queue.close()


def test_what_the_server_cannot_take_yet_waits_on_in_its_place():
    """Of three, one is wrong and one comes at a bad time: that is sent again, ahead of what came later."""
    batches: list[list[Any]] = []

    def busy(items: Sequence[Mapping[str, Any]]) -> FeedbackBatchReply:
        batches.append(list(items))
        refused = []
        if len(batches) == 1:
            queue.add({"value": 4})
            refused = [
                RefusedFeedback(index=0, code="unavailable", detail="no disk"),
                RefusedFeedback(index=2, code="decision_not_found", detail="nobody"),
            ]
        return FeedbackBatchReply(accepted=0, duplicates=0, refused=refused, data=[])

    queue = FeedbackQueue(busy)
    for value in (1, 2, 3):
        queue.add({"value": value})
    assert queue.flush(timeout_s=30)
    assert [values(batch) for batch in batches] == [[1, 2, 3], [1, 4]]
    assert batches[1][0] == batches[0][0]
    assert queue.refused == 1
    queue.close()


class Doorkeeper:
    """Refuses whole batches: too large ones, and all of them without the right key."""

    def __init__(self, largest: int = 1_000, has_key: bool = True) -> None:
        self.largest = largest
        self.has_key = has_key
        self.sizes: list[int] = []
        self.taken: list[Any] = []

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> FeedbackBatchReply:
        self.sizes.append(len(items))
        if not self.has_key:
            raise Unauthorized
        if sum(item["size"] for item in items) > self.largest:
            raise PayloadTooLarge("too large")
        self.taken += values(items)
        return ACCEPTED


def gathered(queue: FeedbackQueue, sizes: Sequence[int]) -> None:
    """Give outcomes so that the first batch holds them all."""
    for value, size in enumerate(sizes[:-1]):
        queue.outbox.add({"value": value, "size": size})
    queue.add({"value": len(sizes) - 1, "size": sizes[-1]})


def test_a_batch_that_is_too_large_is_sent_in_parts():
    door = Doorkeeper(largest=3)
    queue = FeedbackQueue(door)
    gathered(queue, [1] * 10)
    assert queue.flush(timeout_s=30)
    assert door.taken == list(range(10))
    assert queue.refused == 0
    # Halves until they pass, and twice as many after each that does.
    assert door.sizes == [10, 5, 2, 4, 2, 4, 2, 4, 2, 2]
    queue.close()


def test_an_outcome_too_large_by_itself_is_dropped_and_holds_up_no_other(caplog):
    door = Doorkeeper(largest=6)
    queue = FeedbackQueue(door)
    with caplog.at_level(logging.ERROR):
        gathered(queue, [1, 1, 1, 9, 1, 1])
        assert queue.flush(timeout_s=30)
    assert door.taken == [0, 1, 2, 4, 5]
    assert queue.refused == 1
    assert "1 outcome refused: payload_too_large" in caplog.text
    queue.close()


def test_without_the_right_key_outcomes_are_dropped_and_said_to_be(caplog):
    door = Doorkeeper(has_key=False)
    queue = FeedbackQueue(door)
    with caplog.at_level(logging.ERROR):
        gathered(queue, [1, 1, 1])
        assert queue.flush(timeout_s=30)
    assert queue.refused == 3
    assert "3 outcomes refused: unauthorized" in caplog.text
    door.has_key = True
    gathered(queue, [1])
    assert queue.flush(timeout_s=30)
    assert door.sizes == [3, 1]
    assert door.taken == [0]
    queue.close()


def test_closing_says_what_it_could_not_deliver(caplog):
    queue = FeedbackQueue(Postbox(failures=1_000))
    queue.add({"value": 1})
    queue.add({"value": 2})
    assert not queue.flush(timeout_s=0.2)
    with caplog.at_level(logging.ERROR):
        queue.close(timeout_s=0.2)
    assert "2 outcomes could not be delivered" in caplog.text


class FlakyServer:
    """Answers selections, and feedback only while it is up; remembers what it took in, by key."""

    def __init__(self) -> None:
        self.is_up = True
        self.most_items = 1_000
        self.key_to_item: dict[str, Any] = {}
        self.attempts = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/select"):
            return httpx.Response(200, json=replies.selection())
        self.attempts += 1
        if not self.is_up:
            return replies.problem(503, "unavailable")
        items = json.loads(request.content)["items"]
        if len(items) > self.most_items:
            return replies.problem(413, "payload_too_large")
        for item in items:
            self.key_to_item.setdefault(item["idempotency_key"], item)
        # Whoever answers may be gone before the answer arrives: the client asks again.
        return httpx.Response(
            200, json={"accepted": len(items), "duplicates": 0, "refused": [], "data": [None] * len(items)}
        )

    def taken(self) -> list[Any]:
        return [item["value"] for item in self.key_to_item.values()]


def test_feedback_outlives_a_server_that_is_down():
    server = FlakyServer()
    with Client("http://kshot.test", max_retries=0, transport=httpx.MockTransport(server)) as client:
        selection = client.select("tickets", "hello")
        server.is_up = False
        selection.feedback(0.25)
        selection.feedback(0.5, "stars", source="judge")
        assert not client.flush_feedback(timeout_s=0.3)
        assert server.taken() == []
        server.is_up = True
        assert client.flush_feedback(timeout_s=30)
    assert server.taken() == [0.25, 0.5]
    first, second = server.key_to_item.values()
    assert first["selection_id"] == selection.selection_id
    assert (second["metric"], second["source"]) == ("stars", "judge")


def test_closing_a_client_delivers_what_waits():
    server = FlakyServer()
    with Client("http://kshot.test", transport=httpx.MockTransport(server)) as client:
        client.select("tickets", "hello").feedback(1.0)
    assert server.taken() == [1.0]


async def test_the_asynchronous_client_does_the_same():
    server = FlakyServer()
    async with AsyncClient(
        "http://kshot.test", max_retries=0, transport=httpx.MockTransport(server)
    ) as client:
        selection = await client.select("tickets", "hello")
        server.is_up = False
        selection.feedback(0.25)
        assert not await client.flush_feedback(timeout_s=0.3)
        server.is_up = True
        selection.feedback(0.5)
        assert await client.flush_feedback(timeout_s=30)
        selection.feedback(0.75)
    assert server.taken() == [0.25, 0.5, 0.75]


async def test_the_asynchronous_client_sends_too_large_a_batch_in_parts():
    server = FlakyServer()
    server.most_items = 1
    async with AsyncClient("http://kshot.test", transport=httpx.MockTransport(server)) as client:
        selection = await client.select("tickets", "hello")
        for value in (0.25, 0.5, 0.75):
            selection.feedback(value)
        assert await client.flush_feedback(timeout_s=30)
    assert server.taken() == [0.25, 0.5, 0.75]


def test_feedback_to_a_closed_client_is_refused_where_it_is_given():
    with Client("http://kshot.test", transport=httpx.MockTransport(FlakyServer())) as client:
        selection = client.select("tickets", "hello")
    with pytest.raises(InvalidInput, match="closed"):
        selection.feedback(1.0)


async def test_feedback_to_a_closed_asynchronous_client_is_refused_where_it_is_given():
    async with AsyncClient("http://kshot.test", transport=httpx.MockTransport(FlakyServer())) as client:
        selection = await client.select("tickets", "hello")
    with pytest.raises(InvalidInput, match="closed"):
        selection.feedback(1.0)


def test_a_client_without_feedback_starts_no_thread():
    before = threading.active_count()
    with Client("http://kshot.test", transport=httpx.MockTransport(FlakyServer())) as client:
        client.select("tickets", "hello")
        assert threading.active_count() == before


def test_what_cannot_be_sent_is_refused_where_it_is_given():
    server = FlakyServer()
    with Client("http://kshot.test", transport=httpx.MockTransport(server)) as client:
        selection = client.select("tickets", "hello")
        with pytest.raises(InvalidInput, match="JSON"):
            selection.feedback(float("nan"))
        with pytest.raises(InvalidInput, match="JSON"):
            selection.feedback(1.0, tags={"when": object()})
    assert server.taken() == []


def test_a_selection_without_a_client_says_what_to_use():
    alone = Selection(SelectionReply.model_validate(replies.selection()), "hello")
    with pytest.raises(InvalidInput, match="came without a client"):
        alone.feedback(1.0)


def test_feedback_on_a_fallback_goes_nowhere():
    def down(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("down", request=request)

    fallback = [{"inputs": "a", "outputs": "b"}]
    with Client(
        "http://kshot.test", max_retries=0, fallback=fallback, transport=httpx.MockTransport(down)
    ) as client:
        selection = client.select("tickets", "hello")
        assert selection.is_fallback
        selection.feedback(1.0)
        assert client.flush_feedback(timeout_s=0)
