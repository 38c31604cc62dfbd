"""Every exception becomes the problem that the client turns back into the same class."""

import json
from pathlib import Path

import httpx
import pytest

from kshot.errors import FieldError, InvalidInput, KshotError, SegmentCorrupt, code_to_error
from kshot.schemas.base import Problem
from kshot.schemas.selections import Exclude
from kshot.server.problems import problem
from kshot.server.validation import validated
from tests.test_server.stubs import StubServices

CODE_TO_STATUS = {
    "internal": 500,
    "invalid_input": 422,
    "invalid_shape": 422,
    "invalid_parameter": 422,
    "unknown_selector": 422,
    "invalid_filter": 422,
    "invalid_template": 422,
    "payload_too_large": 413,
    "too_costly": 422,
    "unsupported_media_type": 415,
    "method_not_allowed": 405,
    "unauthorized": 401,
    "not_found": 404,
    "pool_not_found": 404,
    "example_not_found": 404,
    "selection_not_found": 404,
    "job_not_found": 404,
    "plan_not_found": 404,
    "prompt_not_found": 404,
    "policy_not_found": 404,
    "variant_not_found": 404,
    "decision_not_found": 404,
    "metric_not_found": 404,
    "prompt_exists": 409,
    "policy_exists": 409,
    "metric_exists": 409,
    "decision_conflict": 409,
    "insufficient_support": 409,
    "state_corrupt": 500,
    "conflict": 409,
    "pool_exists": 409,
    "embedder_mismatch": 409,
    "dimension_mismatch": 409,
    "idempotency_conflict": 409,
    "data_folder_locked": 409,
    "missing_dependency": 501,
    "unavailable": 503,
    "server_unreachable": 503,
    "embedder_unavailable": 503,
    "scorer_unavailable": 503,
    "overloaded": 429,
    "corrupt": 500,
    "segment_corrupt": 500,
    "store_corrupt": 500,
}
GOLDEN = Path(__file__).parents[1] / "golden" / "problems.json"
BAD_BODIES: dict[str, tuple[str, object]] = {
    "empty query": ("select", {"inputs": ""}),
    "query of the wrong type": ("select", {"inputs": 5}),
    "no field": ("select", {"inputs": {}}),
    "unknown field": ("select", {"inputs": "a", "top_k": 3}),
    "k out of range": ("select", {"inputs": "a", "k": 0}),
    "k as text": ("select", {"inputs": "a", "k": "8"}),
    "unknown order": ("select", {"inputs": "a", "order": "best_last"}),
    "unknown kind of order": ("select", {"inputs": "a", "order": {"type": "shuffle"}}),
    "method without a type": ("select", {"inputs": "a", "method": {"lam": 0.1}}),
    "misspelt comparison": ("select", {"filter": {"field": "metadata.lang", "equals": "en"}}),
    "filter on an unknown field": ("select", {"filter": {"all": [{"field": "lang", "eq": "en"}]}}),
    "filter that is no list": ("select", {"filter": {"all": 5}}),
    "filter too deep": ("select", {"filter": json.loads('{"not":' * 20 + '{"all":[]}' + "}" * 20)}),
    "body is an array": ("select", [1, 2]),
    "format of a prompt": ("render", {"inputs": "a", "format": "gemini"}),
    "key with a slash": ("select", {"inputs": "a", "a/b~c": 1}),
}


@pytest.mark.parametrize("code", sorted(code_to_error()))
async def test_every_error_class_has_its_status(code: str, client: httpx.AsyncClient, services: StubServices):
    services.pools.error = code_to_error()[code]("what happened", errors=[FieldError("/k", "no", line=3)])
    response = await client.get("/v1/pools/tickets", headers={"X-Request-Id": "r-1"})
    assert response.status_code == CODE_TO_STATUS[code]
    assert response.headers["content-type"] == "application/problem+json"
    body = Problem.model_validate_json(response.content)
    assert (body.code, body.status, body.request_id) == (code, response.status_code, "r-1")
    assert body.type == f"/problems/{code}"
    assert [(item.pointer, item.message, item.line) for item in body.errors] == [("/k", "no", 3)]
    if code != "internal":
        assert body.detail == "what happened"


def test_no_error_class_is_left_out():
    assert set(CODE_TO_STATUS) == set(code_to_error())


@pytest.mark.parametrize(
    ("code", "field"), [("unauthorized", "www-authenticate"), ("overloaded", "retry-after")]
)
async def test_some_errors_come_with_a_header(
    code: str, field: str, client: httpx.AsyncClient, services: StubServices
):
    services.pools.error = code_to_error()[code]()
    assert field in (await client.get("/v1/pools/tickets")).headers


@pytest.mark.parametrize(
    "error", [RuntimeError("secret text"), KshotError("secret text"), KeyError("secret")]
)
async def test_an_unforeseen_error_says_nothing_about_itself(
    error: Exception, client: httpx.AsyncClient, services: StubServices
):
    services.pools.error = error
    response = await client.get("/v1/pools/tickets")
    assert response.status_code == 500
    assert response.json()["code"] == "internal"
    assert response.json()["request_id"] == response.headers["x-request-id"]
    assert "secret" not in response.text


async def test_corruption_says_what_is_corrupt(client: httpx.AsyncClient, services: StubServices):
    services.pools.error = SegmentCorrupt("segment 7 fails its checksum")
    assert (await client.get("/v1/pools/tickets")).json()["detail"] == "segment 7 fails its checksum"


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/pools/", "/v1/nothing", "/v1/pools/a/b/c"])
async def test_unknown_paths_are_problems(path: str, client: httpx.AsyncClient):
    response = await client.get(path)
    assert response.status_code == 404
    assert response.json()["code"] == "not_found"
    assert path in response.json()["detail"]


async def test_a_wrong_method_is_a_problem_that_names_the_right_one(client: httpx.AsyncClient):
    response = await client.put("/v1/pools/tickets/select")
    assert response.status_code == 405
    assert response.json()["code"] == "method_not_allowed"
    assert response.headers["allow"] == "POST"


async def test_every_problem_type_resolves(client: httpx.AsyncClient):
    for code, cls in code_to_error().items():
        explained = (await client.get(problem(cls()).type)).json()
        assert explained["code"] == code
        assert explained["description"].startswith((cls.__doc__ or "").strip()[:20])


async def test_an_unknown_problem_type_is_not_found(client: httpx.AsyncClient):
    assert (await client.get("/problems/nonsense")).status_code == 404


@pytest.mark.parametrize("name", BAD_BODIES)
async def test_a_refused_body_says_what_came_and_what_is_allowed(name: str, client: httpx.AsyncClient):
    operation, body = BAD_BODIES[name]
    response = await client.post(f"/v1/pools/tickets/{operation}", json=body, headers={"X-Request-Id": "r"})
    golden = json.loads(GOLDEN.read_text("utf-8"))
    assert response.status_code == 422
    assert response.json() == golden[name]


@pytest.mark.parametrize(
    ("query", "pointer", "said"),
    [
        ("limit=0", "/limit", "'0': input should be greater than or equal to 1"),
        ("limit=many", "/limit", "'many': input should be a valid integer"),
        ("size=3", "/size", "not permitted"),
        ("filter=nonsense", "/filter", "is no JSON"),
        ('filter={"field":"lang","eq":1}', "/filter/field", "received 'lang', allowed id, label"),
    ],
)
async def test_refused_query_parameters_are_named(
    query: str, pointer: str, said: str, client: httpx.AsyncClient
):
    response = await client.get(f"/v1/pools/tickets/examples?{query}")
    assert response.status_code == 422
    (found,) = response.json()["errors"]
    assert found["pointer"] == pointer
    assert said in found["message"]


def test_at_most_a_hundred_fields_are_listed_and_three_quoted():
    with pytest.raises(InvalidInput) as caught:
        validated(Exclude, {"ids": [""] * 9000})
    assert len(caught.value.errors) == 100
    assert caught.value.message.endswith("and 97 more")
