"""Plans through every client: sync over HTTP, async over HTTP, and in process."""

import json
from typing import Any

import httpx
import pytest

from kshot.clients.sdk.client import Client
from kshot.errors import InvalidInput, MissingDependency, PlanNotFound, Unavailable, UnknownSelector
from tests.test_clients import replies

TEXTS = [f"text {i} about {topic}" for i, topic in enumerate(["lamps", "money", "parcels", "phones"] * 5)]


@pytest.fixture
def drafts(client, empty_pool: str) -> str:
    client.upsert(empty_pool, [{"id": f"d{i}", "inputs": text} for i, text in enumerate(TEXTS)])
    return empty_pool


def test_a_plan_is_waited_for_and_read(client, drafts):
    seen: list[Any] = []
    plan = client.plan(
        drafts, budget=5, method={"type": "fast_vote_k", "n_neighbors": 4}, on_progress=seen.append
    )
    assert (plan.pool, plan.state, plan.result.planned) == (drafts, "succeeded", 5)
    assert seen[-1] == plan
    items = list(client.plan_items(plan.id))
    assert [item.rank for item in items] == [1, 2, 3, 4, 5]
    assert all(item.state == "unlabelled" and item.inputs in TEXTS for item in items)
    assert client.get_plan(plan.id) == plan
    assert plan in list(client.list_plans(drafts))
    assert plan.result.curve.needed.share == 0.9
    rows = [json.loads(line) for line in client.export_plan(plan.id).splitlines()]
    assert [row["id"] for row in rows] == [item.id for item in items]


def test_a_plan_that_is_not_waited_for_is_waited_for_later(client, drafts):
    started = client.plan(drafts, budget=3, wait=False, curve=False)
    assert started.id
    assert client.wait_plan(started.id, timeout_s=60).result.planned == 3
    assert client.cancel_plan(started.id).state == "succeeded"


def test_labelling_goes_on_where_the_labels_end(client, drafts):
    first = [item.id for item in client.plan_items(client.plan(drafts, budget=4, curve=False).id)]
    for one in first:
        client.patch_example(drafts, one, outputs="done", status="approved")
    client.wait_indexed(drafts)
    second = client.plan(drafts, budget=4, curve=False)
    assert second.result.labelled == 4
    assert set(first).isdisjoint(item.id for item in client.plan_items(second.id))


def test_examples_and_options_travel_with_the_request(client, empty_pool):
    rows = [{"inputs": text, "metadata": {"cost": 2 + i % 2}} for i, text in enumerate(TEXTS)]
    plan = client.plan(
        empty_pool,
        max_cost=9,
        cost_field="metadata.cost",
        method="k_center",
        examples=rows,
        exclude_splits=[],
        seed=4,
    )
    assert 6 <= plan.result.cost <= 9
    assert plan.request["seed"] == 4


def test_planners_say_what_they_do(client):
    names = [one.name for one in client.planners().data]
    assert names == sorted(names)
    assert {"fast_vote_k", "random", "k_center"} <= set(names)


def test_mistakes_keep_their_class(client, drafts):
    with pytest.raises(UnknownSelector, match="fast_vote_k"):
        client.plan(drafts, budget=1, method="nope")
    with pytest.raises(InvalidInput, match="exactly one of budget and max_cost"):
        client.plan(drafts)
    with pytest.raises(PlanNotFound):
        client.get_plan("none")
    with pytest.raises(PlanNotFound):
        next(iter(client.plan_items("none")))
    with pytest.raises(InvalidInput, match="format"):
        client.export_plan(client.plan(drafts, budget=1, curve=False).id, "paper")


class PlanStub:
    """A server with one plan that goes through some states, one per look."""

    def __init__(self, *states: str, **last: Any) -> None:
        self.plans = [replies.plan(state) for state in states]
        self.plans[-1].update(last)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return httpx.Response(202, json=replies.plan("queued"))
        return httpx.Response(200, json=self.plans.pop(0) if len(self.plans) > 1 else self.plans[0])


def over(stub: PlanStub) -> Client:
    return Client("http://kshot.test", transport=httpx.MockTransport(stub))


def test_a_plan_that_takes_too_long_is_given_up():
    with pytest.raises(Unavailable, match=r"plan p1 is still running after 0\.2 s \(1 of 2\)"):
        over(PlanStub("queued", "running")).wait_plan("p1", timeout_s=0.2)


def test_a_plan_that_failed_raises_what_it_failed_of():
    reason = {"code": "missing_dependency", "detail": "pip install it"}
    with pytest.raises(MissingDependency, match="plan p1 failed: pip install it"):
        over(PlanStub("running", "failed", error=reason)).plan("tickets", budget=2)


def test_a_plan_that_was_cancelled_is_returned_as_it_is():
    seen: list[str] = []
    plan = over(PlanStub("queued", "running", "cancelled")).plan(
        "tickets", budget=2, on_progress=lambda one: seen.append(one.state)
    )
    assert (plan.state, seen) == ("cancelled", ["queued", "running", "cancelled"])
