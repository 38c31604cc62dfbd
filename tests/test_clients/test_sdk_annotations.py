"""Answers through every client, and how they are cut into requests."""

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from kshot.clients.sdk.async_client import AsyncClient
from kshot.clients.sdk.client import Client
from kshot.errors import InvalidInput, InvalidParameter, PoolNotFound, Unavailable
from kshot.labelling import Answer, Verdict, read_answers
from kshot.schemas.annotations import AnswerIn
from tests.test_clients import replies
from tests.test_clients.adapters import Awaited
from tests.test_labelling.round_trip import ANSWERS, FIXTURES, tasks

MOMENT = datetime(2026, 3, 1, 10, tzinfo=UTC)


@pytest.fixture
def drafts(client, empty_pool: str) -> str:
    client.upsert(empty_pool, [{"id": task.id, "inputs": task.inputs} for task in tasks()])
    return empty_pool


def outputs(client, pool: str) -> dict[str, Any]:
    return {one.id: one.outputs for one in client.list_examples(pool) if one.outputs is not None}


@pytest.mark.parametrize("name", ["label_studio.json", "label_studio_min.json", "argilla_api.json"])
def test_an_export_goes_into_a_pool_and_twice_is_once(client, drafts, name):
    answers = read_answers((FIXTURES / name).read_bytes())
    first = client.import_answers(drafts, answers)
    assert (first.approved, first.unchanged, first.rejected, first.indexed) == (6, 0, [], True)
    assert outputs(client, drafts) == ANSWERS
    again = client.import_answers(drafts, answers)
    assert (again.approved, again.unchanged, again.version) == (0, 6, first.version)
    stored = client.get_example(drafts, "t3")
    (answer,) = [one for one in answers.given if one.id == "t3"]
    assert stored.metadata["annotator"] == answer.annotator
    assert datetime.fromisoformat(stored.metadata["annotated_at"]) == answer.annotated_at


def test_conflicts_and_unknown_ids_are_told_by_the_lines_of_the_file(client, drafts):
    data = b"id,outputs\nt1,a\nnobody,a\nt2,a\nt1,b\n"
    client.import_answers(drafts, [("t1", "other")])
    reply = client.import_answers(drafts, read_answers(data), batch_size=1)
    assert [(row.line, row.id, row.code) for row in reply.rejected] == [
        (5, "t1", "conflict"),
        (3, "nobody", "unknown_id"),
    ]
    assert reply.approved == 1
    replaced = client.import_answers(drafts, read_answers(data), on_conflict="replace")
    assert (replaced.replaced, replaced.unchanged) == (1, 1)
    assert outputs(client, drafts) == {"t1": "b", "t2": "a"}


def test_a_dry_run_says_what_would_happen_and_changes_nothing(client, drafts):
    version = client.get_pool(drafts).version
    reply = client.import_answers(drafts, [("t1", "a"), ("nobody", "a")], dry_run=True)
    assert (reply.approved, [row.code for row in reply.rejected]) == (1, ["unknown_id"])
    assert (reply.version, outputs(client, drafts)) == (version, {})


def test_answers_of_any_kind_are_taken(client, drafts):
    reply = client.import_answers(
        drafts,
        [
            ("t1", "pair"),
            {"id": "t2", "outputs": {"label": "fields"}, "annotator": "anna", "annotated_at": MOMENT},
            AnswerIn(id="t3", outputs="model"),
            Answer(id="t4", outputs="answer", line=9),
            Answer(id="t5", outputs=None, line=10, verdict=Verdict.SKIPPED),
        ],
    )
    assert (reply.approved, reply.rejected) == (4, [])
    assert outputs(client, drafts) == {
        "t1": "pair",
        "t2": {"label": "fields"},
        "t3": "model",
        "t4": "answer",
    }
    assert client.get_example(drafts, "t2").metadata == {
        "annotator": "anna",
        "annotated_at": "2026-03-01T10:00:00+00:00",
    }


def test_no_answers_are_no_trouble_but_a_missing_pool_is(client, drafts):
    reply = client.import_answers(drafts, [])
    assert (reply.approved, reply.version, reply.indexed) == (0, 1, True)
    with pytest.raises(PoolNotFound):
        client.import_answers("nowhere", [])


def test_a_plan_goes_out_to_a_spreadsheet_and_comes_home(client, empty_pool):
    """The whole way: plan, export, fill in, import."""
    client.upsert(empty_pool, [{"id": task.id, "inputs": task.inputs} for task in tasks()])
    plan = client.plan(empty_pool, budget=3, method="k_center", curve=False)
    exported = client.export_plan(plan.id, "csv").decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(exported, newline="")))
    items = [item.id for item in client.plan_items(plan.id)]
    assert [row["id"] for row in rows] == items
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, rows[0], delimiter=";")
    writer.writeheader()
    writer.writerows({**row, "outputs": "done", "annotator": "anna"} for row in rows)
    answers = read_answers(stream.getvalue().encode(), pool=empty_pool, plan=plan.id)
    assert answers.problems == []
    reply = client.import_answers(empty_pool, answers)
    assert reply.approved == 3
    assert outputs(client, empty_pool) == dict.fromkeys(items, "done")


class Stub:
    """Takes answers, but for those with the outputs "bad"; remembers how it was asked."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        self.keys: list[str] = []
        self.fail_on_batch: int | None = None
        self.is_indexed = True

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            self.is_indexed = True
            return httpx.Response(200, json=replies.pool())
        if len(self.bodies) == self.fail_on_batch:
            return replies.problem(503, "unavailable")
        body = json.loads(request.content)
        self.bodies.append(body)
        self.keys.append(request.headers["Idempotency-Key"])
        rejected = [
            {"line": line, "id": one["id"], "pointer": "/outputs", "code": "conflict", "message": "is bad"}
            for line, one in enumerate(body["answers"], start=1)
            if one["outputs"] == "bad"
        ]
        return httpx.Response(
            200,
            json={
                "approved": len(body["answers"]) - len(rejected),
                "replaced": 0,
                "unchanged": 0,
                "rejected": rejected,
                "version": 3,
                "indexed": self.is_indexed,
            },
        )


@pytest.fixture
def stub() -> Stub:
    return Stub()


@pytest.fixture(params=["sync", "async"])
def stubbed(request, stub):
    transport = httpx.MockTransport(stub)
    made: Client | Awaited = (
        Client("http://kshot.test", max_retries=0, transport=transport)
        if request.param == "sync"
        else Awaited(AsyncClient("http://kshot.test", max_retries=0, transport=transport))
    )
    yield made
    made.close()


def test_answers_travel_in_batches_each_with_a_key_of_its_own(stubbed, stub):
    progress: list[int] = []
    answers = ((f"t{i}", "bad" if i == 3 else "x") for i in range(5))
    reply = stubbed.import_answers("tickets", answers, batch_size=2, on_progress=progress.append)
    assert [len(body["answers"]) for body in stub.bodies] == [2, 2, 1]
    assert {body["on_conflict"] for body in stub.bodies} == {"report"}
    assert len(set(stub.keys)) == 3
    assert progress == [2, 4, 5]
    assert reply.approved == 4
    assert [(row.line, row.id) for row in reply.rejected] == [(4, "t3")]


def test_the_index_is_waited_for_unless_told_otherwise(stubbed, stub):
    stub.is_indexed = False
    assert not stubbed.import_answers("tickets", [("a", "x")], wait="none").indexed
    assert not stubbed.import_answers("tickets", [(f"t{i}", "x") for i in range(1001)]).indexed
    assert stubbed.import_answers("tickets", [("a", "x")]).indexed


def test_a_failure_midway_says_what_is_stored(stubbed, stub):
    stub.fail_on_batch = 1
    with pytest.raises(Unavailable) as caught:
        stubbed.import_answers("tickets", [("a", "x"), ("b", "x"), ("c", "x")], batch_size=2)
    assert caught.value.__notes__ == ["the first 2 answers are stored"]


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ("t1", "answers is one str"),
        ({"id": "a", "outputs": "b"}, "answers is one dict"),
        ([("a",)], "answer 1: tuple is no answer"),
        ([("a", "x"), 7], "answer 2: int is no answer"),
        ([("a", float("nan"))], "answer 1: the request cannot be written as JSON"),
    ],
)
def test_what_is_no_answer_is_refused_before_it_is_sent(stubbed, stub, answers, words):
    with pytest.raises(InvalidInput, match=words):
        stubbed.import_answers("tickets", answers)
    assert stub.bodies == []


def test_a_batch_size_out_of_range_is_refused(stubbed):
    with pytest.raises(InvalidParameter, match="batch_size is 0"):
        stubbed.import_answers("tickets", [("a", "x")], batch_size=0)
