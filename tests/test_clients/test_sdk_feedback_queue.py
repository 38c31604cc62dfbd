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
from kshot.errors import InvalidInput, Overloaded, ServerUnreachable
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
        self.key_to_item: dict[str, Any] = {}
        self.attempts = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/select"):
            return httpx.Response(200, json=replies.selection())
        self.attempts += 1
        if not self.is_up:
            return replies.problem(503, "unavailable")
        items = json.loads(request.content)["items"]
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
