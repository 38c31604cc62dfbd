"""Demonstrations of last resort: used for outages, never for mistakes."""

import logging
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from kshot.clients.sdk.async_client import AsyncClient
from kshot.clients.sdk.client import Client
from kshot.clients.sdk.selection import Selection
from kshot.errors import InvalidInput, PoolNotFound, ServerUnreachable
from tests.test_clients import replies
from tests.test_clients.adapters import Awaited

FALLBACK: list[dict[str, Any]] = [
    {"inputs": "a", "outputs": "1"},
    {"id": "mine", "inputs": {"t": "b"}, "outputs": "2"},
]
Answering = Callable[[httpx.Request], httpx.Response]


def refuse(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


def time_out(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("slow", request=request)


def clients(handler: Answering, **options: Any) -> list[Client | Awaited]:
    transport = httpx.MockTransport(handler)
    return [
        Client("http://kshot.test", max_retries=0, transport=transport, **options),
        Awaited(AsyncClient("http://kshot.test", max_retries=0, transport=transport, **options)),
    ]


@pytest.mark.parametrize(
    ("handler", "code"),
    [
        (refuse, "server_unreachable"),
        (time_out, "server_unreachable"),
        (lambda _: replies.problem(429, "overloaded"), "overloaded"),
        (lambda _: replies.problem(500, "internal"), "internal"),
        (lambda _: replies.problem(503, "embedder_unavailable"), "embedder_unavailable"),
        (lambda _: httpx.Response(502, text="bad gateway"), "unavailable"),
        (lambda _: httpx.Response(200, text="<html>maintenance</html>"), "internal"),
    ],
)
def test_an_outage_is_answered_with_the_fallback(handler, code):
    for client in clients(handler):
        chosen = client.select("tickets", "q", fallback=FALLBACK)
        client.close()
        assert chosen.is_fallback
        assert chosen.degraded
        assert chosen.selection_id is None
        assert [notice.code for notice in chosen.warnings] == [code]
        assert [shown.id for shown in chosen] == ["fallback-0", "mine"]
        assert chosen.text() == "Input: a\nOutput: 1\n\nInput: t: b\nOutput: 2\n\nInput: q\nOutput:"


@pytest.mark.parametrize(
    ("status", "code", "cls"), [(404, "pool_not_found", PoolNotFound), (422, "invalid_input", InvalidInput)]
)
def test_a_mistake_is_raised_in_spite_of_a_fallback(status, code, cls):
    for client in clients(lambda _: replies.problem(status, code), fallback=FALLBACK):
        with pytest.raises(cls):
            client.select("tickets", "q", fallback=FALLBACK)
        client.close()


def test_without_a_fallback_an_outage_is_raised():
    for client in clients(refuse):
        with pytest.raises(ServerUnreachable):
            client.select("tickets", "q")
        client.close()


def test_a_client_has_a_fallback_for_all_its_selections_and_a_call_may_have_its_own():
    for client in clients(refuse, fallback=FALLBACK):
        assert len(client.select("tickets", "q")) == 2
        assert len(client.select("tickets", "q", fallback=FALLBACK[:1])) == 1
        assert len(client.select("tickets", "q", fallback=[])) == 0
        client.close()


def test_a_fallback_does_not_cover_other_calls():
    for client in clients(refuse, fallback=FALLBACK):
        with pytest.raises(ServerUnreachable):
            client.get_pool("tickets")
        client.close()


def test_at_most_k_fallback_demonstrations_are_shown():
    for client in clients(refuse, fallback=FALLBACK):
        assert [shown.outputs for shown in client.select("tickets", "q", k=1)] == ["1"]
        client.close()


def test_a_fallback_may_be_a_function_of_the_query():
    for client in clients(refuse, fallback=lambda query: [{"inputs": query, "outputs": "same"}]):
        assert client.select("tickets", "q").demonstrations[0].inputs == "q"
        client.close()


def test_every_query_of_a_batch_gets_the_fallback():
    for client in clients(refuse, fallback=lambda query: [{"inputs": query, "outputs": "same"}]):
        answers = client.select_batch("tickets", ["q", "r"])
        client.close()
        assert [answer.demonstrations[0].inputs for answer in answers if isinstance(answer, Selection)] == [
            "q",
            "r",
        ]


@pytest.mark.parametrize("fallback", [[{"inputs": "a"}], "text", {"inputs": "a", "outputs": "b"}])
def test_a_broken_fallback_is_refused_before_it_is_needed(fallback):
    with pytest.raises(InvalidInput, match="fallback"):
        Client("http://kshot.test", fallback=fallback)
    for client in clients(lambda _: httpx.Response(200, json=replies.selection())):
        with pytest.raises(InvalidInput, match="fallback"):
            client.select("tickets", "q", fallback=fallback)
        client.close()


def test_the_log_names_pool_and_failure_but_no_text(caplog):
    caplog.set_level(logging.WARNING, logger="kshot")
    client = Client("http://kshot.test", max_retries=0, transport=httpx.MockTransport(refuse))
    client.select("tickets", "private words", fallback=FALLBACK)
    assert caplog.messages == ["fallback demonstrations used for pool tickets: server_unreachable"]
