"""The OpenAPI document is what clients are generated from: it changes on purpose only."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.test_server.golden import FOLDER, openapi

HTTP_METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi()


def references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method in HTTP_METHODS & set(methods):
            yield f"{method.upper()} {path}", methods[method]


def test_the_document_is_the_golden_one(document: dict[str, Any]):
    # To change it on purpose: python -m tests.test_server.golden
    assert document == json.loads((FOLDER / "openapi.json").read_text("utf-8"))


async def test_the_server_serves_it(client: httpx.AsyncClient, document: dict[str, Any]):
    assert (await client.get("/openapi.json")).json() == document


def test_every_reference_resolves(document: dict[str, Any]):
    schemas = document["components"]["schemas"]
    names = {reference.removeprefix("#/components/schemas/") for reference in references(document)}
    assert names <= set(schemas)
    assert {"SelectRequest", "ExampleIn", "Problem"} <= names


def test_every_operation_is_described_and_documents_its_problems(document: dict[str, Any]):
    for name, operation in operations(document):
        assert operation["description"], name
        problems = {status: answer for status, answer in operation["responses"].items() if status[0] in "45"}
        for answer in problems.values():
            assert list(answer["content"]) == ["application/problem+json"], name
        if "security" in operation:
            assert {"401", "422"} <= set(problems), name


def test_every_body_is_documented(document: dict[str, Any]):
    for name, operation in operations(document):
        if name.split()[0] in {"POST", "PATCH"} and not name.endswith(("/activate", "/cancel")):
            assert operation["requestBody"]["required"], name


def test_only_probes_are_open(document: dict[str, Any]):
    open_paths = {name for name, operation in operations(document) if "security" not in operation}
    assert open_paths == {"GET /livez", "GET /readyz", "GET /version", "GET /problems/{code}"}


def test_the_paths_are_these(document: dict[str, Any]):
    pool, example = "/v1/pools/{pool}", "/v1/pools/{pool}/examples/{example_id}"
    assert {name for name, _ in operations(document)} == {
        "POST /v1/pools",
        "GET /v1/pools",
        f"GET {pool}",
        f"PATCH {pool}",
        f"DELETE {pool}",
        f"GET {pool}/stats",
        f"GET {pool}/gaps",
        f"POST {pool}/tune",
        f"POST {pool}/difficulty",
        f"POST {pool}/examples",
        f"GET {pool}/examples",
        f"POST {pool}/examples:delete",
        f"POST {pool}/annotations",
        f"GET {example}",
        f"PATCH {example}",
        f"DELETE {example}",
        f"POST {pool}/select",
        f"POST {pool}/select:batch",
        f"POST {pool}/search",
        f"POST {pool}/render",
        "GET /v1/selections/{selection_id}",
        "GET /v1/selectors",
        "GET /v1/planners",
        "POST /v1/plans",
        "GET /v1/plans",
        "GET /v1/plans/{plan_id}",
        "GET /v1/plans/{plan_id}/items",
        "GET /v1/plans/{plan_id}/export",
        "DELETE /v1/plans/{plan_id}",
        "POST /v1/feedback",
        "POST /v1/feedback:batch",
        "POST /v1/metrics",
        "GET /v1/metrics",
        "GET /v1/metrics/{name}",
        "GET /v1/pools/{pool}/utilities",
        "POST /v1/prompts",
        "GET /v1/prompts",
        "GET /v1/prompts/{name}",
        "DELETE /v1/prompts/{name}",
        "POST /v1/prompts/{name}/versions",
        "GET /v1/prompts/{name}/versions",
        "GET /v1/prompts/{name}/versions/{which}",
        "PUT /v1/prompts/{name}/labels/{label}",
        "DELETE /v1/prompts/{name}/labels/{label}",
        "POST /v1/prompts/{name}/render",
        "GET /v1/algorithms",
        "POST /v1/policies",
        "GET /v1/policies",
        "GET /v1/policies/{policy}",
        "PATCH /v1/policies/{policy}",
        "DELETE /v1/policies/{policy}",
        "POST /v1/policies/{policy}/decide",
        "GET /v1/policies/{policy}/report",
        "POST /v1/policies/{policy}/evaluate",
        "POST /v1/policies/{policy}/variants",
        "PATCH /v1/policies/{policy}/variants/{variant}",
        "GET /v1/decisions/{decision_id}",
        "POST /v1/decisions/{decision_id}/activate",
        "POST /v1/decisions/{decision_id}/cancel",
        "POST /v1/decisions/{decision_id}/served",
        "POST /v1/decisions:delete",
        "POST /v1/score",
        "GET /v1/scorer",
        "GET /v1/jobs",
        "GET /v1/jobs/{job_id}",
        "DELETE /v1/jobs/{job_id}",
        "GET /livez",
        "GET /readyz",
        "GET /version",
        "GET /metrics",
        "GET /problems/{code}",
    }
