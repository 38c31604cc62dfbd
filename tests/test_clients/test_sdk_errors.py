"""Every exception class crosses the wire and comes back as itself, with its fields and request id."""

from collections.abc import Callable

import httpx
import pytest

from kshot.clients.sdk.async_client import AsyncClient
from kshot.clients.sdk.client import Client
from kshot.clients.sdk.fallback import is_outage
from kshot.errors import (
    Conflict,
    FieldError,
    InvalidInput,
    KshotError,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    ServerUnreachable,
    Unauthorized,
    Unavailable,
    code_to_error,
)
from tests.test_clients import replies
from tests.test_clients.adapters import Awaited

Handler = Callable[[httpx.Request], httpx.Response]
URL = "http://kshot.test"


def clients(handler: Handler) -> list[Client | Awaited]:
    """The sync and the async client, answered by `handler` and without retries."""
    transport = httpx.MockTransport(handler)
    return [
        Client(URL, max_retries=0, transport=transport),
        Awaited(AsyncClient(URL, max_retries=0, transport=transport)),
    ]


def error_of(client: Client | Awaited) -> KshotError:
    try:
        client.get_pool("tickets")
    except KshotError as error:
        return error
    finally:
        client.close()
    raise AssertionError("no error was raised")


@pytest.mark.parametrize("code", sorted(code_to_error()))
def test_every_class_survives_the_round_trip(code):
    cls = code_to_error()[code]

    def handler(_: httpx.Request) -> httpx.Response:
        errors = [{"pointer": "/k", "message": "received 0", "code": "range", "line": 4}]
        return replies.problem(400, code, "what happened", request_id="r1", errors=errors)

    for client in clients(handler):
        error = error_of(client)
        assert type(error) is cls
        assert error.message == "what happened"
        assert error.request_id == "r1"
        assert error.errors == (FieldError("/k", "received 0", "range", 4),)


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (400, InvalidInput),
        (401, Unauthorized),
        (403, Unauthorized),
        (404, NotFound),
        (408, Unavailable),
        (409, Conflict),
        (413, PayloadTooLarge),
        (418, InvalidInput),
        (422, InvalidInput),
        (429, Overloaded),
        (500, KshotError),
        (502, Unavailable),
        (503, Unavailable),
        (504, Unavailable),
        (302, KshotError),
    ],
)
def test_an_answer_without_a_problem_is_read_by_its_status(status, cls):
    def handler(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, text="<html>proxy</html>", headers={"X-Request-ID": "r2"})

    for client in clients(handler):
        error = error_of(client)
        assert type(error) is cls
        assert f"GET /v1/pools/tickets was answered with {status}" in error.message
        assert error.request_id == "r2"


def test_a_code_of_a_newer_server_is_read_by_its_status():
    for client in clients(lambda _: replies.problem(409, "code_of_the_future", "later")):
        error = error_of(client)
        assert type(error) is Conflict
        assert error.message == "later"


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("cut off"),
        httpx.DecodingError("garbled"),
    ],
)
def test_no_answer_is_server_unreachable_and_names_the_server(failure):
    def handler(_: httpx.Request) -> httpx.Response:
        raise failure

    for client in clients(handler):
        error = error_of(client)
        assert type(error) is ServerUnreachable
        assert error.message == f"the kshot server at {URL} does not answer: {failure}"
        assert error.__cause__ is failure


def test_mistakes_of_the_caller_are_no_outages():
    mistakes = {code for code, cls in code_to_error().items() if not is_outage(cls())}
    families = (InvalidInput, Unauthorized, NotFound, Conflict)
    assert mistakes == {code for code, cls in code_to_error().items() if issubclass(cls, families)}
    assert is_outage(ServerUnreachable())
    assert is_outage(Overloaded())
    assert is_outage(KshotError())
