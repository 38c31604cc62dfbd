"""Uploads: arrays whole, NDJSON line by line, with what is wrong named by line."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from itertools import pairwise
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from kshot.errors import StoreCorrupt
from kshot.server import ndjson
from kshot.server.app import create_app
from kshot.server.ndjson import Lines
from kshot.server.settings import Settings
from tests.test_server.conftest import Connect
from tests.test_server.stubs import StubServices

PATH = "/v1/pools/tickets/examples"
NDJSON = {"Content-Type": "application/x-ndjson"}


def row(number: int) -> bytes:
    return json.dumps({"id": f"ex-{number}", "inputs": f"question {number}", "outputs": "answer"}).encode()


async def post_lines(client: httpx.AsyncClient, body: bytes, query: str = "") -> list[dict[str, Any]]:
    response = await client.post(PATH + query, content=body, headers=NDJSON)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]


# --- arrays ---


@pytest.mark.parametrize("is_bare", [True, False])
async def test_an_array_is_stored_whole(is_bare: bool, client: httpx.AsyncClient, services: StubServices):
    rows = [{"inputs": "a"}, {"inputs": "b"}]
    response = await client.post(PATH, json=rows if is_bare else {"examples": rows})
    assert response.json()["accepted"] == 2
    (batch,) = services.examples.batches
    assert batch.rows == [(1, {"inputs": "a"}), (2, {"inputs": "b"})]
    assert (batch.upto_line, batch.wait) == (2, "none")


async def test_a_bad_row_of_an_array_stops_no_other(client: httpx.AsyncClient):
    response = await client.post(PATH, json=[{"inputs": "a"}, {"inputs": ""}, 3])
    assert response.status_code == 200
    assert response.json()["accepted"] == 1
    assert [(one["line"], one["pointer"]) for one in response.json()["rejected"]] == [(2, "/inputs"), (3, "")]


@pytest.mark.parametrize(("is_bare", "base"), [(True, ""), (False, "/examples")])
async def test_an_array_without_a_valid_row_is_a_problem(is_bare: bool, base: str, client: httpx.AsyncClient):
    rows = [{"inputs": ""}, {"input": "b"}]
    response = await client.post(PATH, json=rows if is_bare else {"examples": rows})
    assert response.status_code == 422
    assert response.json()["detail"].startswith("no row was stored")
    assert [(one["pointer"], one["line"]) for one in response.json()["errors"]] == [
        (f"{base}/0/inputs", 1),
        (f"{base}/1/inputs", 2),
    ]


@pytest.mark.parametrize(
    "body", [[], {"examples": []}, {"examples": [{"inputs": "a"}] * 10_001}, {"rows": []}, 3]
)
async def test_what_is_no_batch_is_refused(body: object, client: httpx.AsyncClient, services: StubServices):
    assert (await client.post(PATH, json=body)).status_code == 422
    assert services.examples.batches == []


@pytest.mark.parametrize("wait", ["none", "indexed"])
async def test_an_array_waits_as_asked(wait: str, client: httpx.AsyncClient, services: StubServices):
    response = await client.post(f"{PATH}?wait={wait}", json=[{"inputs": "a"}])
    assert services.examples.batches[0].wait == wait
    assert response.json()["indexed"] is (wait == "indexed")


@pytest.mark.parametrize("query", ["wait=forever", "wiat=indexed"])
async def test_unknown_query_parameters_are_refused(query: str, client: httpx.AsyncClient):
    assert (await client.post(f"{PATH}?{query}", json=[{"inputs": "a"}])).status_code == 422


async def test_an_upload_to_no_pool_is_not_found(client: httpx.AsyncClient):
    for headers in (NDJSON, {"Content-Type": "application/json"}):
        response = await client.post("/v1/pools/none/examples", content=b'[{"inputs": "a"}]', headers=headers)
        assert response.status_code == 404
        assert response.json()["code"] == "pool_not_found"


# --- NDJSON ---


async def test_lines_are_answered_batch_by_batch(client: httpx.AsyncClient, services: StubServices):
    replies = await post_lines(client, b"\n".join(row(number) for number in range(1, 1202)))
    assert [reply["upto_line"] for reply in replies] == [500, 1000, 1201]
    assert [reply["accepted"] for reply in replies] == [500, 500, 201]
    assert services.examples.ids == [f"ex-{number}" for number in range(1, 1202)]
    assert [batch.rows[0][0] for batch in services.examples.batches] == [1, 501, 1001]


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (b"{", "invalid_json", "EOF"),
        (b'{"inputs": "\xff"}', "invalid_json", "invalid UTF-8"),
        (b'{"inputs": {"a": NaN}}', "invalid_json", "is no JSON"),
        (b'{"inputs": "a\\u0000"}', "invalid_json", "NUL"),
        (b"[" * 100_000, "invalid_json", "recursion limit"),
        (b"3", "type", "allowed an object"),
        (b'{"inputs": "' + b"a" * 2**20 + b'"}', "range", "received 1048576 characters"),
        (b'{"inputs": "' + b"a" * 5 * 2**20 + b'"}', "payload_too_large", "is longer than 4194304 bytes"),
    ],
)
async def test_a_bad_line_is_rejected_alone(line: bytes, code: str, said: str, client: httpx.AsyncClient):
    (reply,) = await post_lines(client, b"\n".join([row(1), line, row(3)]))
    assert reply["ids"] == ["ex-1", "ex-3"]
    ((rejected),) = reply["rejected"]
    assert (rejected["line"], rejected["code"]) == (2, code)
    assert said in rejected["message"]


async def test_blank_lines_hold_nothing_but_count(client: httpx.AsyncClient, services: StubServices):
    (reply,) = await post_lines(client, b"\n" + row(2) + b"\r\n  \n\r\n" + row(5) + b"\n\n")
    assert [line for line, _ in services.examples.batches[0].rows] == [2, 5]
    assert reply["upto_line"] == 6
    assert reply["rejected"] == []


async def test_a_byte_order_mark_is_ignored(client: httpx.AsyncClient):
    (reply,) = await post_lines(client, b"\xef\xbb\xbf" + row(1))
    assert reply["ids"] == ["ex-1"]


async def test_an_empty_upload_gets_one_reply(client: httpx.AsyncClient):
    (reply,) = await post_lines(client, b"")
    assert (reply["accepted"], reply["upto_line"]) == (0, 0)


async def test_only_the_last_batch_waits(client: httpx.AsyncClient, services: StubServices):
    await post_lines(client, b"\n".join(row(number) for number in range(750)), "?wait=indexed")
    assert [batch.wait for batch in services.examples.batches] == ["none", "indexed"]


async def test_a_body_that_ends_with_a_full_batch_waits_too(
    client: httpx.AsyncClient, services: StubServices
):
    replies = await post_lines(
        client, b"\n".join(row(number) for number in range(500)) + b"\n", "?wait=indexed"
    )
    assert [(batch.wait, len(batch.rows)) for batch in services.examples.batches] == [
        ("none", 500),
        ("indexed", 0),
    ]
    assert [(reply["upto_line"], reply["indexed"]) for reply in replies] == [(500, False), (500, True)]


async def test_long_lines_make_smaller_batches(client: httpx.AsyncClient, services: StubServices):
    long = json.dumps({"inputs": {f"f{number}": "a" * 250_000 for number in range(12)}}).encode()
    await post_lines(client, b"\n".join([long] * 5))
    assert [len(batch.rows) for batch in services.examples.batches] == [2, 2, 1]


async def test_an_upload_may_be_longer_than_the_limit_of_a_body(connect: Connect):
    async with connect(max_body_bytes=1024) as client:
        (reply,) = await post_lines(client, b"\n".join(row(number) for number in range(100)))
    assert reply["accepted"] == 100


async def test_a_failure_midway_is_the_last_line(client: httpx.AsyncClient, services: StubServices):
    services.examples.error, services.examples.after_calls = StoreCorrupt("disk"), 2
    replies = await post_lines(client, b"\n".join(row(number) for number in range(2000)))
    assert [reply.get("upto_line") for reply in replies] == [500, 1000, None]
    assert replies[-1]["code"] == "store_corrupt"
    assert replies[-1]["request_id"]


async def test_an_unforeseen_failure_midway_says_nothing_about_itself(
    client: httpx.AsyncClient, services: StubServices
):
    services.examples.error, services.examples.after_calls = RuntimeError("secret"), 1
    replies = await post_lines(client, b"\n".join(row(number) for number in range(2000)))
    assert replies[-1]["code"] == "internal"
    assert "secret" not in str(replies)


async def test_a_failure_of_the_first_batch_is_a_plain_problem(
    client: httpx.AsyncClient, services: StubServices
):
    services.examples.error = StoreCorrupt("disk")
    response = await client.post(PATH, content=row(1), headers=NDJSON)
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"


class Exchange:
    """One request whose two directions the test moves by hand."""

    def __init__(self, services: StubServices) -> None:
        self.sent: list[Message] = []
        self.may_send = asyncio.Event()
        self.may_send.set()
        self._body: asyncio.Queue[Message] = asyncio.Queue()
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": PATH,
            "raw_path": PATH.encode(),
            "query_string": b"",
            "headers": [(b"content-type", b"application/x-ndjson")],
            "server": ("localhost", 80),
            "client": ("127.0.0.1", 1),
            "root_path": "",
        }
        app = create_app(services, Settings())
        self.task = asyncio.create_task(app(scope, self._body.get, self._send))

    async def _send(self, message: Message) -> None:
        await self.may_send.wait()
        self.sent.append(message)

    def upload(self, lines: Iterable[bytes], *, is_last: bool = False) -> None:
        body = b"".join(line + b"\n" for line in lines)
        self._body.put_nowait({"type": "http.request", "body": body, "more_body": not is_last})

    def hang_up(self) -> None:
        self._body.put_nowait({"type": "http.disconnect"})

    def replies(self) -> list[dict[str, Any]]:
        text = b"".join(message.get("body", b"") for message in self.sent[1:])
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
async def exchange(services: StubServices) -> AsyncIterator[Exchange]:
    made = Exchange(services)
    yield made
    made.task.cancel()
    await asyncio.gather(made.task, return_exceptions=True)


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_a_batch_is_answered_while_the_rest_is_still_being_sent(exchange: Exchange):
    exchange.upload(row(number) for number in range(600))
    await settle()
    assert [reply["upto_line"] for reply in exchange.replies()] == [500]
    exchange.upload([row(600)], is_last=True)
    await exchange.task
    assert [reply["upto_line"] for reply in exchange.replies()] == [500, 601]


async def test_a_caller_who_hangs_up_keeps_what_was_acknowledged(exchange: Exchange, services: StubServices):
    exchange.upload(row(number) for number in range(700))
    await settle()
    exchange.hang_up()
    await exchange.task
    assert len(services.examples.ids) == 500
    assert [reply["upto_line"] for reply in exchange.replies()] == [500]


async def test_a_caller_who_reads_nothing_until_the_end_is_not_waited_for(
    exchange: Exchange, services: StubServices
):
    exchange.may_send.clear()
    for start in range(0, 5000, 500):
        exchange.upload(row(number) for number in range(start, start + 500))
    exchange.upload([], is_last=True)
    await settle()
    assert len(services.examples.ids) == 5000
    assert exchange.sent == []
    exchange.may_send.set()
    await exchange.task
    assert exchange.replies()[-1]["upto_line"] == 5000


async def test_unread_answers_are_bounded(
    exchange: Exchange, services: StubServices, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ndjson, "MAX_UNREAD_BYTES", 1000)
    exchange.upload(row(number) for number in range(500))
    await settle()
    exchange.may_send.clear()
    for start in range(500, 5000, 500):
        exchange.upload(row(number) for number in range(start, start + 500))
    exchange.upload([], is_last=True)
    await settle()
    assert len(services.examples.ids) < 2000
    exchange.may_send.set()
    await exchange.task
    assert len(services.examples.ids) == 5000
    assert exchange.replies()[-1]["upto_line"] == 5000


@given(
    st.lists(st.binary(max_size=12).filter(lambda line: b"\n" not in line), max_size=12),
    st.booleans(),
    st.lists(st.integers(0, 200), max_size=8),
)
def test_lines_do_not_depend_on_where_chunks_end(lines: list[bytes], has_end: bool, cuts: list[int]):
    body = b"\n".join(lines) + (b"\n" if has_end and lines else b"")
    edges = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    reader = Lines(max_bytes=8)
    found = [one for start, stop in pairwise(edges) for one in reader.feed(body[start:stop])]
    found += reader.end()
    whole = body.split(b"\n")
    if not whole[-1]:
        whole.pop()
    assert found == [(number, line if len(line) <= 8 else None) for number, line in enumerate(whole, start=1)]
