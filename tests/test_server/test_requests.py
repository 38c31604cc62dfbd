"""What every request passes through: ids, keys, sizes, media types, strict JSON."""

import json
import logging
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI

from kshot.server.app import create_app
from kshot.server.bodies import NotJsonError, parse_json
from kshot.server.middleware import LocalHostOnly
from kshot.server.settings import Settings
from tests.test_server.conftest import Connect
from tests.test_server.stubs import StubServices

SELECT = "/v1/pools/tickets/select"
JSON = {"Content-Type": "application/json"}


def connect_to(app: object) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost")  # type: ignore[arg-type]  # any ASGI app


async def test_a_request_id_is_made_up_and_returned(client: httpx.AsyncClient):
    first, second = [(await client.get("/livez")).headers["x-request-id"] for _ in range(2)]
    assert len(first) == 32
    assert first != second


async def test_a_request_id_of_the_callers_is_kept(client: httpx.AsyncClient):
    response = await client.get("/livez", headers={"X-Request-Id": "trace-1.a_B"})
    assert response.headers["x-request-id"] == "trace-1.a_B"


@pytest.mark.parametrize("sent", ["", "a b", "a" * 129, "a\tb", 'a"b'])
async def test_an_unusable_request_id_is_replaced(sent: str, client: httpx.AsyncClient):
    response = await client.get("/livez", headers={"X-Request-Id": sent})
    assert response.headers["x-request-id"] != sent


@pytest.mark.parametrize(
    "headers",
    [{"Authorization": "Bearer right"}, {"authorization": "bearer  right"}, {"api-key": "right"}],
)
async def test_the_right_key_opens(headers: dict[str, str], connect: Connect):
    async with connect(api_key="right") as client:
        assert (await client.get("/v1/pools", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic right"},
        {"Authorization": "right"},
        {"api-key": ""},
        {"api-key": "righ"},
        {"api-key": "rightt"},
        {"api-key": b"\xff\xfe"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/pools", "/metrics", "/openapi.json", "/nothing"])
async def test_without_the_key_everything_else_is_closed(
    path: str, headers: dict[str, str], connect: Connect
):
    async with connect(api_key="right") as client:
        response = await client.get(path, headers=headers)
    assert response.status_code == 401
    assert response.json()["code"] == "unauthorized"
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert "right" not in response.text


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/version", "/problems/unauthorized"])
async def test_probes_need_no_key(path: str, connect: Connect):
    async with connect(api_key="right") as client:
        assert (await client.get(path)).status_code == 200


async def test_the_right_key_beside_a_wrong_one_is_judged_by_the_bearer(connect: Connect):
    async with connect(api_key="right") as client:
        headers = {"Authorization": "Bearer wrong", "api-key": "right"}
        assert (await client.get("/v1/pools", headers=headers)).status_code == 401


async def test_an_announced_body_over_the_limit_is_refused_unread(connect: Connect, services: StubServices):
    async with connect(max_body_bytes=1024) as client:
        response = await client.post(SELECT, content=b"{" * 1025, headers=JSON)
    assert response.status_code == 413
    assert "1025 bytes, allowed 1024" in response.json()["detail"]
    assert services.selections.calls == []


async def test_a_chunked_body_over_the_limit_is_refused(connect: Connect, services: StubServices):
    read = []

    async def chunks():
        for number in range(100):
            read.append(number)
            yield b" " * 100

    async with connect(max_body_bytes=1024) as client:
        response = await client.post(SELECT, content=chunks(), headers=JSON)
    assert response.status_code == 413
    assert response.json()["code"] == "payload_too_large"
    assert len(read) == 11
    assert services.selections.calls == []


async def test_a_body_at_the_limit_passes(connect: Connect):
    async with connect(max_body_bytes=1024) as client:
        body = json.dumps({"inputs": "a"}).encode().ljust(1024)
        assert (await client.post(SELECT, content=body, headers=JSON)).status_code == 200


@pytest.mark.parametrize(
    "sent", ["text/plain", "application/x-www-form-urlencoded", None, "application/jsonp"]
)
async def test_other_media_types_are_refused(sent: str | None, client: httpx.AsyncClient):
    headers = {"Content-Type": sent} if sent else {}
    response = await client.post(SELECT, content=b'{"inputs": "a"}', headers=headers)
    assert response.status_code == 415
    assert response.json()["code"] == "unsupported_media_type"
    assert "allowed application/json" in response.json()["detail"]


@pytest.mark.parametrize(
    "sent", ["application/json; charset=utf-8", "Application/JSON", "application/ld+json"]
)
async def test_spellings_of_json_are_accepted(sent: str, client: httpx.AsyncClient):
    response = await client.post(SELECT, content=b'{"inputs": "a"}', headers={"Content-Type": sent})
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "is empty"),
        (b"  \n", "is empty"),
        (b'{"inputs": "a"', "EOF"),
        (b'{"inputs": "a"} x', "trailing characters"),
        (b'{"inputs": {"a": NaN}}', "line 1 column"),
        (b'{"inputs": {"a": Infinity}}', "line 1 column"),
        (b'{"inputs": {"a": -Infinity}}', "line 1 column"),
        (b'{"inputs": "\xff"}', "invalid UTF-8 at byte 12"),
        (b'{"inputs": "\\ud800"}', "line 1 column"),
        (b'{"inputs": "a\\u0000"}', "NUL character in /inputs"),
        (b'{"inputs": {"a": [1, {"\\u0000": 1}]}}', "NUL character in /inputs/a/1"),
        (b'"\\u0000"', "NUL character in the text"),
        (b"[" * 100_000, "recursion limit"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "recursion limit"),
        (b'{"inputs": ' + b"9" * 5000 + b"}", "out of range"),
    ],
)
async def test_what_is_no_strict_json_is_refused(body: bytes, said: str, client: httpx.AsyncClient):
    response = await client.post(SELECT, content=body, headers=JSON)
    assert response.status_code == 422
    assert response.json()["code"] == "invalid_input"
    assert said in response.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [b'{"inputs": {"a": 1e999}}', b'{"inputs": {"a": [1, -1e999]}}', b'{"inputs": {"a": {"b": 1e999}}}'],
)
async def test_numbers_that_overflow_to_infinity_are_refused(body: bytes, client: httpx.AsyncClient):
    response = await client.post(SELECT, content=body, headers=JSON)
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "/inputs/a"


async def test_a_text_of_a_megabyte_is_refused_without_being_sent_back(client: httpx.AsyncClient):
    response = await client.post(SELECT, json={"inputs": "a" * 2**20, "b" * 2**20: 1})
    assert response.status_code == 422
    messages = [item["message"] for item in response.json()["errors"]]
    assert messages[0] == "received 1048576 characters, allowed at most 262144"
    assert len(response.content) < 4000


def test_parsing_keeps_what_is_allowed():
    assert parse_json(b'\xef\xbb\xbf{"a": 1, "a": 2}') == {"a": 2}
    assert parse_json(rb'"\\u0000"') == r"\u0000"
    assert parse_json(b"[" * 150 + b"]" * 150) != []
    assert parse_json(b"123456789012345678901234567890") == 123456789012345678901234567890


def test_a_refusal_to_parse_quotes_nothing():
    with pytest.raises(NotJsonError) as caught:
        parse_json(b'{"secret text": nonsense}')
    assert "secret" not in str(caught.value)
    assert "nonsense" not in str(caught.value)


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]:8080", "[::1]", "a.localhost"]
)
async def test_without_a_key_this_machine_is_served(host: str, services: StubServices):
    async with connect_to(LocalHostOnly(create_app(services, Settings()))) as client:
        assert (await client.get("/v1/pools", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "10.0.0.1"])
async def test_without_a_key_another_host_name_is_refused(host: str, services: StubServices):
    async with connect_to(LocalHostOnly(create_app(services, Settings()))) as client:
        response = await client.get("/v1/pools", headers={"Host": host})
    assert response.status_code == 401
    assert "KSHOT_API_KEY" in response.json()["detail"]


async def test_requests_are_logged_without_what_they_say(
    client: httpx.AsyncClient, services: StubServices, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    await client.post(f"{SELECT}?q=secret", json={"inputs": "secret"}, headers={"X-Request-Id": "r-1"})
    await client.get("/v1/pools/tickets/examples/secret-id", headers={"api-key": "secret"})
    services.pools.error = RuntimeError("secret")
    await client.get("/v1/pools/tickets")
    events = [
        cast("dict[str, Any]", record.msg) for record in caplog.records if record.name.startswith("kshot")
    ]
    assert [event["event"] for event in events] == [
        "http_request",
        "http_request",
        "request_failed",
        "http_request",
    ]
    assert events[0]["request_id"] == "r-1"
    assert events[0]["route"] == "/v1/pools/{pool}/select"
    assert events[0]["pool"] == "tickets"
    assert events[0]["status"] == 200
    assert events[2]["error_type"] == "RuntimeError"
    assert any("stubs.py" in frame for frame in events[2]["where"])
    assert "secret" not in str(events)


async def test_metrics_count_requests_by_route_and_status(client: httpx.AsyncClient):
    await client.post(SELECT, json={"inputs": "a"})
    await client.post(SELECT, json={"inputs": ""})
    await client.get("/nothing/secret")
    await client.request("BREW", "/livez")
    text = (await client.get("/metrics")).text
    route = 'route="/v1/pools/{pool}/select"'
    assert f'kshot_http_requests_total{{method="POST",{route},status="200"}} 1.0' in text
    assert f'kshot_http_requests_total{{method="POST",{route},status="422"}} 1.0' in text
    assert f'kshot_http_request_seconds_count{{method="POST",{route}}} 2.0' in text
    assert 'kshot_http_requests_total{method="GET",route="unmatched",status="404"} 1.0' in text
    assert 'method="other"' in text
    assert "secret" not in text


async def test_the_lifespan_starts_and_closes_the_services(services: StubServices):
    closed: list[str] = []
    app: FastAPI = create_app(services, Settings(), on_close=lambda: closed.append("lock"))
    async with app.router.lifespan_context(app):
        assert services.events == ["start"]
        assert closed == []
    assert services.events == ["start", "close"]
    assert closed == ["lock"]


async def test_services_that_cannot_start_leave_the_reason_and_free_the_folder(services: StubServices):
    services.start_error = RuntimeError("no disk")
    closed: list[str] = []
    app = create_app(services, Settings(), on_close=lambda: closed.append("lock"))
    with pytest.raises(RuntimeError):
        async with app.router.lifespan_context(app):
            pass
    assert app.state.start_error is services.start_error
    assert services.events == ["start"]
    assert closed == ["lock"]
