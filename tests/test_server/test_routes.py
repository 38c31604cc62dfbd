"""Each path calls the right service method with what was sent, and answers with its reply."""

from urllib.parse import quote

import httpx
import pytest

from kshot.schemas.difficulty import DifficultyRequest
from kshot.schemas.examples import DeleteRequest, ExamplePatch
from kshot.schemas.plans import PlanRequest
from kshot.schemas.pools import PoolPatch
from kshot.schemas.selections import RenderRequest, SelectRequest
from kshot.schemas.tuning import TuneRequest
from tests.test_server.stubs import StubServices

POOL = "/v1/pools/tickets"


async def test_creating_a_pool_says_where_it_is(client: httpx.AsyncClient, services: StubServices):
    response = await client.post("/v1/pools", json={"name": "new"})
    assert response.status_code == 201
    assert response.headers["location"] == "/v1/pools/new"
    assert response.json()["settings"]["embedder"] == {"type": "minilm"}
    assert "new" in services.pools.names


async def test_creating_a_pool_twice_is_a_conflict(client: httpx.AsyncClient):
    response = await client.post("/v1/pools", json={"name": "tickets"})
    assert response.status_code == 409
    assert response.json()["code"] == "pool_exists"


async def test_pools_are_listed_described_changed_and_deleted(
    client: httpx.AsyncClient, services: StubServices
):
    listed = await client.get("/v1/pools", params={"cursor": "c", "limit": 7})
    assert [pool["name"] for pool in listed.json()["data"]] == ["tickets"]
    assert (await client.get(POOL)).json()["name"] == "tickets"
    assert (await client.get(f"{POOL}/stats")).json()["vector_index"] == "exact"
    assert (await client.get(f"{POOL}/stats?health=true")).json()["health"] is None
    assert (await client.get(f"{POOL}/stats?health=perhaps")).status_code == 422
    assert (await client.get(f"{POOL}/stats?wealth=true")).status_code == 422
    assert (await client.patch(POOL, json={"settings": {"retention_days": 3}})).status_code == 200
    deleted = await client.delete(POOL)
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert (await client.get(POOL)).json()["code"] == "pool_not_found"
    assert services.pools.calls == [
        ("list", ("c", 7)),
        ("get", "tickets"),
        ("stats", ("tickets", False)),
        ("stats", ("tickets", True)),
        ("patch", PoolPatch(settings={"retention_days": 3})),
        ("delete", "tickets"),
        ("get", "tickets"),
    ]


async def test_select_passes_the_request_and_returns_the_reply_as_it_is(
    client: httpx.AsyncClient, services: StubServices
):
    response = await client.post(f"{POOL}/select", json={"inputs": {"q": "a"}, "k": 3})
    assert response.json() == services.selections.reply.model_dump(mode="json")
    assert services.selections.calls == [("select", SelectRequest(inputs={"q": "a"}, k=3))]


async def test_batch_search_and_render_have_paths_of_their_own(
    client: httpx.AsyncClient, services: StubServices
):
    batch = await client.post(f"{POOL}/select:batch", json={"queries": [{"inputs": "a"}, 3]})
    assert batch.json() == {"results": []}
    assert (await client.post(f"{POOL}/search", json={"inputs": "a"})).json()["hits"][0]["id"] == "a"
    rendered = await client.post(f"{POOL}/render", json={"inputs": "a", "format": "text"})
    assert rendered.json()["text"] == "prompt"
    assert services.selections.calls[-1] == ("render", RenderRequest(inputs="a", format="text"))


async def test_a_stored_selection_is_returned(client: httpx.AsyncClient):
    assert (await client.get("/v1/selections/s1")).json()["selection_id"] == "s1"


async def test_gaps_are_listed_below_a_similarity(client: httpx.AsyncClient, services: StubServices):
    listed = (await client.get(f"{POOL}/gaps", params={"below": 0.5, "cursor": "c", "limit": 7})).json()
    assert ([gap["query"] for gap in listed["data"]], listed["next_cursor"]) == (["a"], "next")
    assert (await client.get(f"{POOL}/gaps")).status_code == 200
    assert services.selections.calls == [
        ("gaps", {"below": 0.5, "cursor": "c", "limit": 7}),
        ("gaps", {"below": None, "cursor": None, "limit": 100}),
    ]
    for wrong in ("1.5", "-2", "nan", "near"):
        response = await client.get(f"{POOL}/gaps", params={"below": wrong})
        assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "/below"), wrong


@pytest.mark.parametrize(
    "example_id", ["a", "a/b", "a b", "a?b#c", "ü", "a%2Fb", "examples:delete", "/", "a/"]
)
async def test_any_id_reaches_its_example(example_id: str, client: httpx.AsyncClient, services: StubServices):
    path = f"{POOL}/examples/{quote(example_id, safe='')}"
    assert (await client.get(path)).json()["id"] == example_id
    assert (await client.patch(path, json={"group": None})).json()["id"] == example_id
    assert (await client.delete(path)).json()["ids"] == [example_id]
    assert [name for name, _ in services.examples.calls] == ["get", "patch", "delete"]


async def test_a_patch_keeps_null_apart_from_absent(client: httpx.AsyncClient, services: StubServices):
    await client.patch(f"{POOL}/examples/a", json={"group": None, "status": "retired"})
    ((_, patch),) = services.examples.calls
    assert isinstance(patch, ExamplePatch)
    assert patch.model_fields_set == {"group", "status"}


async def test_deleting_an_absent_example_is_not_found(client: httpx.AsyncClient):
    response = await client.delete(f"{POOL}/examples/absent")
    assert response.status_code == 404
    assert response.json()["code"] == "example_not_found"


async def test_deleting_many_passes_the_request(client: httpx.AsyncClient, services: StubServices):
    response = await client.post(f"{POOL}/examples:delete", json={"ids": ["a", "absent"]})
    assert response.json() == {"deleted": 1, "ids": ["a"], "version": 2}
    assert services.examples.calls == [("delete", DeleteRequest(ids=["a", "absent"]))]


async def test_examples_are_listed_by_filter(client: httpx.AsyncClient, services: StubServices):
    text = '{"all": [{"field": "metadata.lang", "in": ["en"]}]}'
    response = await client.get(f"{POOL}/examples", params={"filter": text, "cursor": "c", "limit": 1000})
    assert response.json()["next_cursor"] == "next"
    ((_, passed),) = services.examples.calls
    assert passed["filter"].all[0].in_ == ["en"]
    assert (passed["cursor"], passed["limit"]) == ("c", 1000)


async def test_examples_are_listed_a_hundred_at_a_time(client: httpx.AsyncClient, services: StubServices):
    await client.get(f"{POOL}/examples")
    assert services.examples.calls == [("list", {"filter": None, "cursor": None, "limit": 100})]


async def test_jobs_are_listed_read_and_cancelled(client: httpx.AsyncClient, services: StubServices):
    assert (await client.get("/v1/jobs?pool=tickets")).json()["data"][0]["id"] == "j1"
    assert services.jobs.calls == [("list", ("tickets", None, 100))]
    assert (await client.get("/v1/jobs/j1")).json()["state"] == "running"
    assert (await client.delete("/v1/jobs/j1")).json()["state"] == "cancelled"
    assert (await client.get("/v1/jobs/absent")).json()["code"] == "job_not_found"


async def test_tuning_starts_a_job_and_says_where_it_is(client: httpx.AsyncClient, services: StubServices):
    response = await client.post(f"{POOL}/tune", json={"apply": True, "layers": [4]})
    assert (response.status_code, response.headers["location"]) == (202, "/v1/jobs/j2")
    assert (response.json()["kind"], response.json()["state"]) == ("tune", "queued")
    assert services.tuning.calls == [("start", ("tickets", TuneRequest(apply=True, layers=[4])))]
    assert (await client.post(f"{POOL}/tune", json={"layers": ["4"]})).status_code == 422


async def test_measuring_difficulty_starts_a_job_and_says_where_it_is(
    client: httpx.AsyncClient, services: StubServices
):
    response = await client.post(f"{POOL}/difficulty", json={"measure": "answer_perplexity"})
    assert (response.status_code, response.headers["location"]) == (202, "/v1/jobs/j3")
    asked = DifficultyRequest(measure="answer_perplexity")
    assert services.difficulty.calls == [("start", ("tickets", asked))]
    assert (await client.post(f"{POOL}/difficulty", json={"measure": "length"})).status_code == 422


async def test_selectors_are_listed_with_their_parameters(client: httpx.AsyncClient):
    found = {item["name"]: item for item in (await client.get("/v1/selectors")).json()["data"]}
    mmr = found["mmr"]
    assert mmr["summary"].endswith(".")
    assert mmr["parameters"]["properties"]["diversity"]["maximum"] == 1
    assert mmr["parameters"]["additionalProperties"] is False
    assert "vectors" in mmr["needs"]


async def test_readiness_is_503_with_the_failed_check(client: httpx.AsyncClient, services: StubServices):
    assert (await client.get("/readyz")).status_code == 200
    services.is_ready = False
    response = await client.get("/readyz")
    assert response.status_code == 503
    assert response.json() == {"ready": False, "checks": {"store": "locked"}}


async def test_the_version_names_the_methods(client: httpx.AsyncClient):
    body = (await client.get("/version")).json()
    assert body["version"] == "0.1.0"
    assert "fused" in body["selectors"]


async def test_a_plan_is_asked_for_followed_and_read(client: httpx.AsyncClient, services: StubServices):
    response = await client.post("/v1/plans", json={"pool": "tickets", "budget": 3})
    assert response.status_code == 202
    assert response.headers["location"] == "/v1/plans/p1"
    assert (await client.get("/v1/plans/p1")).json()["state"] == "running"
    listed = (await client.get("/v1/plans", params={"pool": "tickets", "cursor": "c", "limit": 7})).json()
    assert ([plan["id"] for plan in listed["data"]], listed["next_cursor"]) == (["p1"], "p1")
    items = (await client.get("/v1/plans/p1/items", params={"cursor": "4", "limit": 7})).json()
    assert ([item["id"] for item in items["data"]], items["next_cursor"]) == (["a"], "1")
    exported = await client.get("/v1/plans/p1/export", params={"format": "csv", "all": "true"})
    assert (exported.content, exported.headers["content-type"]) == (b"{}\n", "text/csv; charset=utf-8")
    assert (await client.delete("/v1/plans/p1")).json()["state"] == "cancelled"
    assert (await client.get("/v1/plans/absent")).json()["code"] == "plan_not_found"
    assert services.plans.calls == [
        ("start", PlanRequest(pool="tickets", budget=3)),
        ("list", ("tickets", "c", 7)),
        ("items", ("p1", "4", 7)),
        ("export", ("p1", "csv", True)),
    ]


async def test_planners_are_listed_with_their_parameters(client: httpx.AsyncClient):
    listed = (await client.get("/v1/planners")).json()["data"]
    (found,) = [one for one in listed if one["name"] == "fast_vote_k"]
    assert found["parameters"]["properties"]["n_neighbors"]["default"] == 150
    assert (found["needs"], found["nested"]) == (["graph", "vectors"], True)
