"""Annotation plans: what to label next."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from kshot.errors import (
    Conflict,
    DimensionMismatch,
    EmbedderMismatch,
    IdempotencyConflict,
    PlanNotFound,
    PoolNotFound,
    ScorerUnavailable,
)
from kshot.labelling import FORMATS
from kshot.schemas.plans import PlanInfo, PlanList, PlannedList, PlannerList, PlanRequest
from kshot.server.bodies import JSON, NDJSON, read_model, reply
from kshot.server.idempotency import once
from kshot.server.openapi import contract
from kshot.server.planners_schema import planner_infos
from kshot.server.routes.common import Page, PageParameters, services

router = APIRouter(prefix="/v1", tags=["plans"])


class PlanParameters(PageParameters):
    """Query parameters of a listing of plans."""

    pool: str | None = Field(default=None, max_length=100, description="only this pool's plans")


class ExportParameters(BaseModel):
    """Query parameters of an export."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["label-studio", "argilla", "prodigy", "csv", "jsonl"] = Field(
        default="jsonl", description="the tool that is to read it"
    )
    all: bool = Field(default=False, description="also what is labelled or retired since")


_SUFFIX_TO_TYPE = {".json": JSON, ".jsonl": NDJSON, ".csv": "text/csv; charset=utf-8"}


@router.get("/planners", response_model=PlannerList, **contract())
async def list_planners() -> Response:
    """List every planner: its name, what it does, its parameters."""
    return reply(PlannerList(data=planner_infos()))


@router.post(
    "/plans",
    status_code=202,
    response_model=PlanInfo,
    **contract(
        body=PlanRequest,
        problems=(PoolNotFound, EmbedderMismatch, DimensionMismatch, IdempotencyConflict, ScorerUnavailable),
    ),
)
async def create_plan(request: Request) -> Response:
    """Start a job that says which unlabelled examples of a pool to label, under a budget."""
    body = await read_model(request, PlanRequest)

    async def work() -> Response:
        return reply(await services(request).plans.start(body), status=202)

    response = await once(services(request).idempotency, request, work)
    plan = PlanInfo.model_validate_json(bytes(response.body))
    response.headers["Location"] = f"/v1/plans/{plan.id}"
    return response


@router.get("/plans", response_model=PlanList, **contract(problems=(PoolNotFound, PlanNotFound)))
async def list_plans(request: Request, parameters: Annotated[PlanParameters, Query()]) -> Response:
    """List plans, newest first."""
    page = await services(request).plans.list(parameters.pool, parameters.cursor, parameters.limit)
    return reply(page)


@router.get("/plans/{plan_id}", response_model=PlanInfo, **contract(problems=(PlanNotFound,)))
async def get_plan(plan_id: str, request: Request) -> Response:
    """Tell how far a plan is, or what it comes to."""
    return reply(await services(request).plans.get(plan_id))


@router.get(
    "/plans/{plan_id}/items", response_model=PlannedList, **contract(problems=(PlanNotFound, Conflict))
)
async def list_plan_items(plan_id: str, request: Request, page: Page) -> Response:
    """List what a plan proposes, the first to label first, and what became of it since."""
    return reply(await services(request).plans.items(plan_id, page.cursor, page.limit))


@router.get(
    "/plans/{plan_id}/export",
    response_class=Response,
    **contract(problems=(PlanNotFound, Conflict)),
)
async def export_plan(
    plan_id: str, request: Request, parameters: Annotated[ExportParameters, Query()]
) -> Response:
    """Write what a plan proposes as a file for a labelling tool, the first to label first."""
    data = await services(request).plans.export(plan_id, parameters.format, everything=parameters.all)
    suffix = FORMATS[parameters.format].suffix
    name = f"plan-{plan_id[:8]}{suffix}"
    return Response(
        data,
        media_type=_SUFFIX_TO_TYPE[suffix],
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


@router.delete("/plans/{plan_id}", response_model=PlanInfo, **contract(problems=(PlanNotFound,)))
async def cancel_plan(plan_id: str, request: Request) -> Response:
    """Ask a plan to stop; it does so at its next safe point."""
    return reply(await services(request).plans.cancel(plan_id))
