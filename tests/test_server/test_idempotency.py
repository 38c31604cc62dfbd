"""A repeated request with the same key does its work once."""

import asyncio

import httpx
import pytest

from kshot.errors import StoreCorrupt
from tests.test_server.stubs import StubServices

KEY = {"Idempotency-Key": "k-1"}
PATH = "/v1/pools/tickets/examples"


async def test_the_second_request_gets_the_first_answer(client: httpx.AsyncClient, services: StubServices):
    first = await client.post("/v1/pools", json={"name": "new"}, headers=KEY)
    second = await client.post("/v1/pools", json={"name": "new"}, headers=KEY)
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.json() == first.json()
    assert second.headers["idempotency-replayed"] == "true"
    assert second.headers["location"] == first.headers["location"]
    assert [name for name, _ in services.pools.calls] == ["create"]


@pytest.mark.parametrize(("path", "body"), [(PATH, [{"inputs": "a"}]), (f"{PATH}:delete", {"ids": ["a"]})])
async def test_writes_to_a_pool_are_done_once(
    path: str, body: object, client: httpx.AsyncClient, services: StubServices
):
    first, second = [await client.post(path, json=body, headers=KEY) for _ in range(2)]
    assert second.json() == first.json()
    assert len(services.examples.calls) == 1


async def test_the_same_key_with_another_body_is_a_conflict(client: httpx.AsyncClient):
    await client.post(PATH, json=[{"inputs": "a"}], headers=KEY)
    response = await client.post(PATH, json=[{"inputs": "b"}], headers=KEY)
    assert response.status_code == 409
    assert response.json()["code"] == "idempotency_conflict"


async def test_a_key_counts_per_path_and_query(client: httpx.AsyncClient, services: StubServices):
    for path in (PATH, f"{PATH}?wait=indexed"):
        assert (await client.post(path, json=[{"inputs": "a"}], headers=KEY)).status_code == 200
    assert len(services.examples.batches) == 2


async def test_without_a_key_every_request_counts(client: httpx.AsyncClient, services: StubServices):
    for _ in range(2):
        await client.post(PATH, json=[{"inputs": "a"}])
    assert len(services.examples.batches) == 2


@pytest.mark.parametrize("error", [StoreCorrupt("disk"), RuntimeError("bug"), asyncio.CancelledError()])
async def test_a_failed_request_frees_its_key(
    error: BaseException, client: httpx.AsyncClient, services: StubServices
):
    services.examples.error = error
    try:
        response = await client.post(PATH, json=[{"inputs": "a"}], headers=KEY)
        assert response.status_code == 500
    except asyncio.CancelledError:
        assert isinstance(error, asyncio.CancelledError)
    services.examples.error = None
    assert (await client.post(PATH, json=[{"inputs": "a"}], headers=KEY)).status_code == 200


async def test_a_refused_request_frees_its_key(client: httpx.AsyncClient):
    assert (await client.post(PATH, json=[{"inputs": ""}], headers=KEY)).status_code == 422
    assert (await client.post(PATH, json=[{"inputs": "a"}], headers=KEY)).status_code == 200


async def test_a_request_in_flight_blocks_its_key(client: httpx.AsyncClient, services: StubServices):
    services.idempotency.reserve_idempotency_key(f"POST {PATH}?", "k-1", "hash")
    response = await client.post(PATH, json=[{"inputs": "a"}], headers=KEY)
    assert response.status_code == 409


@pytest.mark.parametrize("key", ["", "a b", "a" * 256, b"\xff"])
async def test_an_unusable_key_is_refused(key: str, client: httpx.AsyncClient):
    response = await client.post(PATH, json=[{"inputs": "a"}], headers={"Idempotency-Key": key})
    assert response.status_code == 422


async def test_a_selection_ignores_the_key(client: httpx.AsyncClient, services: StubServices):
    for k in (1, 2):
        body = {"inputs": "a", "k": k}
        response = await client.post("/v1/pools/tickets/select", json=body, headers=KEY)
        assert response.status_code == 200
    assert len(services.selections.calls) == 2
    assert services.idempotency.kept == {}
