"""Pools: create, list, describe, change, delete."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from kshot.errors import (
    Conflict,
    EmbedderMismatch,
    IdempotencyConflict,
    MissingDependency,
    PoolExists,
    PoolNotFound,
    ScorerUnavailable,
)
from kshot.schemas.difficulty import DifficultyRequest
from kshot.schemas.operations import JobInfo
from kshot.schemas.pools import PoolCreate, PoolInfo, PoolList, PoolPatch, PoolStats
from kshot.schemas.tuning import TuneRequest
from kshot.server.bodies import read_model, reply
from kshot.server.idempotency import once
from kshot.server.openapi import contract
from kshot.server.routes.common import Page, services

router = APIRouter(prefix="/v1/pools", tags=["pools"])


@router.post(
    "",
    status_code=201,
    response_model=PoolInfo,
    **contract(body=PoolCreate, problems=(PoolExists, IdempotencyConflict, MissingDependency)),
)
async def create_pool(request: Request) -> Response:
    """Create a pool; everything but its name has a default."""
    body = await read_model(request, PoolCreate)

    async def work() -> Response:
        return reply(await services(request).pools.create(body), status=201)

    response = await once(services(request).idempotency, request, work)
    response.headers["Location"] = f"/v1/pools/{body.name}"
    return response


@router.get("", response_model=PoolList, **contract())
async def list_pools(request: Request, page: Page) -> Response:
    """List pools in alphabetical order."""
    return reply(await services(request).pools.list(page.cursor, page.limit))


@router.get("/{pool}", response_model=PoolInfo, **contract(problems=(PoolNotFound,)))
async def get_pool(pool: str, request: Request) -> Response:
    """Describe a pool."""
    return reply(await services(request).pools.get(pool))


@router.patch(
    "/{pool}", response_model=PoolInfo, **contract(body=PoolPatch, problems=(PoolNotFound, Conflict))
)
async def patch_pool(pool: str, request: Request) -> Response:
    """Change settings of a pool; `job_id` names the job that embeds its examples again, if one is needed."""
    body = await read_model(request, PoolPatch)
    return reply(await services(request).pools.patch(pool, body))


@router.delete("/{pool}", status_code=204, **contract(problems=(PoolNotFound, Conflict)))
async def delete_pool(pool: str, request: Request) -> Response:
    """Delete a pool with its examples, vectors and selections; not while a policy embeds as it does."""
    await services(request).pools.delete(pool)
    return Response(status_code=204)


class StatsParameters(BaseModel):
    """Query parameters of the counts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    health: bool = Field(
        default=False,
        description="also look for near-duplicates, doubtful labels and a lack of diversity; seconds for a "
        "large pool, and at once if nothing changed since",
    )


@router.get("/{pool}/stats", response_model=PoolStats, **contract(problems=(PoolNotFound,)))
async def get_pool_stats(
    pool: str, request: Request, parameters: Annotated[StatsParameters, Query()]
) -> Response:
    """Count what a pool holds, by status, split and label, and what it takes on disk."""
    return reply(await services(request).pools.stats(pool, health=parameters.health))


@router.post(
    "/{pool}/tune",
    status_code=202,
    response_model=JobInfo,
    **contract(body=TuneRequest, problems=(PoolNotFound, EmbedderMismatch, IdempotencyConflict)),
)
async def tune_pool(pool: str, request: Request) -> Response:
    """Start a job that chooses token layer and weights of the fused relevance by the labels of neighbours."""
    body = await read_model(request, TuneRequest)

    async def work() -> Response:
        return reply(await services(request).tuning.start(pool, body), status=202)

    return _with_location(await once(services(request).idempotency, request, work))


@router.post(
    "/{pool}/difficulty",
    status_code=202,
    response_model=JobInfo,
    **contract(body=DifficultyRequest, problems=(PoolNotFound, ScorerUnavailable, IdempotencyConflict)),
)
async def measure_difficulty(pool: str, request: Request) -> Response:
    """Start a job that asks the scorer how likely the answer of every example is, given its question."""
    body = await read_model(request, DifficultyRequest)

    async def work() -> Response:
        return reply(await services(request).difficulty.start(pool, body), status=202)

    return _with_location(await once(services(request).idempotency, request, work))


def _with_location(response: Response) -> Response:
    job = JobInfo.model_validate_json(bytes(response.body))
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return response
