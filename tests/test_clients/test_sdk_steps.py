"""Operations of several calls against a small stand-in for the server."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from kshot.clients.sdk.async_client import AsyncClient
from kshot.clients.sdk.client import Client
from kshot.clients.sdk.rows import MAX_BATCH_BYTES, batches
from kshot.errors import EmbedderMismatch, InvalidInput, InvalidParameter, KshotError, PoolExists, Unavailable
from kshot.schemas.examples import ExampleIn
from tests.test_clients import replies
from tests.test_clients.adapters import Awaited


class StoreStub:
    """Accepts rows, but for those whose inputs are "bad"; remembers how it was asked."""

    def __init__(self) -> None:
        self.waits: list[str] = []
        self.rows: list[list[Any]] = []
        self.indexed_at_once = True
        self.polls_until_indexed = 0
        self.fail_on_batch: int | None = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            self.polls_until_indexed -= 1
            behind = 0 if self.polls_until_indexed > 0 else 3
            return httpx.Response(200, json=replies.pool(indexed_version=behind))
        if len(self.rows) == self.fail_on_batch:
            return replies.problem(503, "unavailable")
        wait = request.url.params["wait"]
        assert request.headers["Content-Type"] == "application/x-ndjson"
        rows = [json.loads(line) for line in request.content.splitlines()]
        self.waits.append(wait)
        self.rows.append(rows)
        bad = [number for number, row in enumerate(rows, start=1) if row["inputs"] == "bad"]
        rejected = [{"line": n, "pointer": "/inputs", "code": "invalid", "message": "is bad"} for n in bad]
        reply = replies.upserted(
            len(rows) - len(bad),
            rejected=rejected,
            upto_line=len(rows),
            indexed=wait == "indexed" and self.indexed_at_once,
        )
        return httpx.Response(200, json=reply)


@pytest.fixture
def store() -> StoreStub:
    return StoreStub()


@pytest.fixture(params=["sync", "async"])
def client(request, store) -> Iterator[Any]:
    transport = httpx.MockTransport(store)
    made: Client | Awaited = (
        Client("http://kshot.test", max_retries=0, transport=transport)
        if request.param == "sync"
        else Awaited(AsyncClient("http://kshot.test", max_retries=0, transport=transport))
    )
    yield made
    made.close()


def test_rows_may_be_dicts_models_or_pairs(client, store):
    client.upsert("tickets", [{"inputs": "a"}, ExampleIn(inputs="b", outputs="2"), ("c", {"y": 3})])
    assert store.rows == [
        [{"inputs": "a"}, {"inputs": "b", "outputs": "2"}, {"inputs": "c", "outputs": {"y": 3}}]
    ]


def test_rows_are_sent_in_batches_and_only_the_last_one_waits(client, store):
    progress: list[int] = []
    rows = ((f"q{i}", "a") for i in range(5))
    reply = client.upsert("tickets", rows, batch_size=2, on_progress=progress.append)
    assert [len(batch) for batch in store.rows] == [2, 2, 1]
    assert store.waits == ["none", "none", "indexed"]
    assert progress == [2, 4, 5]
    assert (reply.accepted, reply.created, reply.upto_line, reply.indexed) == (5, 5, 5, True)
    assert len(reply.ids) == 5


def test_rejected_rows_are_named_by_their_line_in_the_whole(client):
    rows = [("a", "1"), ("bad", "2"), ("c", "3"), ("d", "4"), ("bad", "5")]
    reply = client.upsert("tickets", rows, batch_size=2)
    assert [row.line for row in reply.rejected] == [2, 5]
    assert reply.accepted == 3


def test_more_than_a_thousand_rows_do_not_wait_by_default(client, store):
    reply = client.upsert("tickets", ((str(i), "a") for i in range(1001)))
    assert store.waits == ["none", "none", "none"]
    assert not reply.indexed
    exactly = client.upsert("tickets", ((str(i), "a") for i in range(1000)))
    assert exactly.indexed


def test_waiting_for_many_rows_is_asked_for_bit_by_bit(client, store):
    store.polls_until_indexed = 3
    reply = client.upsert("tickets", ((str(i), "a") for i in range(1001)), wait="indexed")
    assert store.waits == ["none", "none", "none"]
    assert reply.indexed
    assert store.polls_until_indexed == 0


def test_a_server_that_gives_up_waiting_is_asked_again(client, store):
    store.indexed_at_once = False
    store.polls_until_indexed = 2
    assert client.upsert("tickets", [("a", "b")]).indexed


def test_waiting_may_be_declined(client, store):
    assert not client.upsert("tickets", [("a", "b")], wait="none").indexed
    assert store.waits == ["none"]


def test_waiting_for_the_index_ends_with_the_time_given(client, store):
    store.indexed_at_once = False
    store.polls_until_indexed = 1000
    with pytest.raises(Unavailable, match=r"indexed up to version 0 after 0\.01 s, wanted 3"):
        client.upsert("tickets", [("a", "b")], timeout_s=0.01)


def test_no_rows_are_no_request_but_a_look_at_the_pool(client, store):
    reply = client.upsert("tickets", [])
    assert store.rows == []
    assert (reply.accepted, reply.version, reply.indexed) == (0, 3, True)


def test_a_row_that_is_no_example_is_named_and_earlier_batches_are_noted(client, store):
    with pytest.raises(InvalidInput, match="row 4: int is no example") as caught:
        client.upsert("tickets", [("a", "1"), ("b", "2"), ("c", "3"), 4], batch_size=1)
    assert caught.value.__notes__ == ["the batches up to line 1 are stored"]
    with pytest.raises(InvalidInput, match="row 1: the request cannot be written as JSON"):
        client.upsert("tickets", [{"inputs": {"x": float("nan")}}])


def test_a_single_example_is_no_iterable_of_examples(client):
    with pytest.raises(InvalidInput, match="examples is one dict"):
        client.upsert("tickets", {"inputs": "a"})


def test_a_failure_midway_tells_what_is_stored(client, store):
    store.fail_on_batch = 2
    with pytest.raises(Unavailable) as caught:
        client.upsert("tickets", [("a", "1")] * 6, batch_size=2)
    assert caught.value.__notes__ == ["the batches up to line 4 are stored"]


def test_lines_are_sent_as_they_are_and_blank_ones_are_counted(client, store):
    lines = ['{"inputs": "a"}', "", b"  \r\n", b'{"inputs": "bad"}\r\n', '{"inputs": "c"}\n']
    reply = client.upsert_ndjson("tickets", lines, batch_size=2)
    assert store.rows == [[{"inputs": "a"}, {"inputs": "bad"}], [{"inputs": "c"}]]
    assert [row.line for row in reply.rejected] == [4]
    assert (reply.accepted, reply.ids, reply.upto_line) == (2, [], 5)


def test_a_file_is_read_line_by_line(client, store, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"inputs": "ä"}\n\n{"inputs": "bad"}\n', encoding="utf-8")
    for source in (path, str(path)):
        assert [row.line for row in client.upsert_ndjson("tickets", source).rejected] == [3]
    assert store.rows[0][0] == {"inputs": "ä"}


def test_a_problem_after_the_status_is_raised():
    def handler(_: httpx.Request) -> httpx.Response:
        first = json.dumps(replies.upserted(1))
        last = replies.problem(503, "embedder_unavailable", "endpoint silent").text
        return httpx.Response(200, text=f"{first}\n{last}\n")

    client = Client("http://kshot.test", max_retries=0, transport=httpx.MockTransport(handler))
    with pytest.raises(Unavailable, match="endpoint silent"):
        client.upsert_ndjson("tickets", [b'{"inputs": "a"}'])


def test_several_answer_lines_are_added_up():
    def handler(_: httpx.Request) -> httpx.Response:
        lines = [replies.upserted(2, upto_line=2, indexed=False), replies.upserted(1, upto_line=3)]
        return httpx.Response(200, text="".join(json.dumps(line) + "\n" for line in lines))

    with Client("http://kshot.test", transport=httpx.MockTransport(handler)) as client:
        reply = client.upsert_ndjson("tickets", [b"{}"] * 3)
    assert (reply.accepted, reply.upto_line, reply.indexed) == (3, 3, True)


def test_an_empty_answer_to_lines_is_an_error():
    client = Client("http://kshot.test", transport=httpx.MockTransport(lambda _: httpx.Response(200)))
    with pytest.raises(KshotError, match="no answer of a kshot server"):
        client.upsert_ndjson("tickets", [b"{}"])


@pytest.mark.parametrize("size", [0, -1, 10_001])
def test_a_batch_size_outside_its_range_is_refused(client, size):
    with pytest.raises(InvalidParameter, match=f"batch_size is {size}"):
        client.upsert("tickets", [("a", "b")], batch_size=size)


def test_a_batch_is_closed_before_it_grows_too_large():
    third = b"x" * (MAX_BATCH_BYTES // 3)
    huge = b"y" * (2 * MAX_BATCH_BYTES)
    made = list(batches(enumerate([third] * 4 + [huge, b"z"], start=1), batch_size=100))
    assert [batch.lines for batch in made] == [[1, 2, 3], [4], [5], [6]]


class PoolStub:
    """A server that has the pool already, with the hashing embedder."""

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return replies.problem(409, "pool_exists")
        return httpx.Response(200, json=replies.pool())


def test_an_existing_pool_is_a_conflict_unless_that_is_fine():
    with Client("http://kshot.test", transport=httpx.MockTransport(PoolStub())) as client:
        with pytest.raises(PoolExists):
            client.create_pool("tickets")
        assert client.create_pool("tickets", exist_ok=True).name == "tickets"
        assert client.create_pool("tickets", exist_ok=True, embedder="hashing").name == "tickets"


def test_an_existing_pool_with_another_embedder_is_not_what_was_asked_for():
    client = Client("http://kshot.test", transport=httpx.MockTransport(PoolStub()))
    with pytest.raises(EmbedderMismatch, match="hashing"):
        client.create_pool("tickets", exist_ok=True, embedder="minilm")
