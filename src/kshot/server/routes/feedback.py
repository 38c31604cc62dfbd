"""Outcomes: metrics, feedback, and what it says of examples."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from kshot.errors import (
    DecisionConflict,
    DecisionNotFound,
    IdempotencyConflict,
    MetricExists,
    MetricNotFound,
    PoolNotFound,
    SelectionNotFound,
)
from kshot.schemas.feedback import (
    Feedback,
    FeedbackBatch,
    FeedbackBatchReply,
    FeedbackReply,
    MetricCreate,
    MetricInfo,
    MetricList,
    UtilityList,
)
from kshot.server.bodies import read_model, reply
from kshot.server.idempotency import once
from kshot.server.openapi import contract
from kshot.server.routes.common import Page, PageParameters, services

router = APIRouter(prefix="/v1", tags=["feedback"])


class UtilityParameters(PageParameters):
    """Query parameters of the estimates per example."""

    metric: str = Field(default="reward", max_length=100, description="which outcomes count")


@router.post(
    "/feedback",
    response_model=FeedbackReply,
    **contract(
        body=Feedback,
        problems=(DecisionNotFound, SelectionNotFound, MetricNotFound, DecisionConflict),
    ),
)
async def add_feedback(request: Request) -> Response:
    """Say how a decision or a selection went; counts once per idempotency key."""
    return reply(await services(request).feedback.add(await read_model(request, Feedback)))


@router.post("/feedback:batch", response_model=FeedbackBatchReply, **contract(body=FeedbackBatch))
async def add_feedback_batch(request: Request) -> Response:
    """Say how many decisions and selections went; a bad item stops no other."""
    return reply(await services(request).feedback.add_batch(await read_model(request, FeedbackBatch)))


@router.post(
    "/metrics",
    status_code=201,
    response_model=MetricInfo,
    **contract(body=MetricCreate, problems=(MetricExists, IdempotencyConflict)),
)
async def declare_metric(request: Request) -> Response:
    """Declare a metric; the same again changes nothing."""
    body = await read_model(request, MetricCreate)

    async def work() -> Response:
        return reply(await services(request).metrics.declare(body), status=201)

    response = await once(services(request).idempotency, request, work)
    response.headers["Location"] = f"/v1/metrics/{body.name}"
    return response


@router.get("/metrics", response_model=MetricList, **contract())
async def list_metrics(request: Request, page: Page) -> Response:
    """List metrics in alphabetical order."""
    return reply(await services(request).metrics.list(page.cursor, page.limit))


@router.get("/metrics/{name}", response_model=MetricInfo, **contract(problems=(MetricNotFound,)))
async def get_metric(name: str, request: Request) -> Response:
    """Describe a metric."""
    return reply(await services(request).metrics.get(name))


@router.get(
    "/pools/{pool}/utilities",
    response_model=UtilityList,
    **contract(problems=(PoolNotFound, MetricNotFound)),
)
async def list_utilities(
    pool: str, request: Request, parameters: Annotated[UtilityParameters, Query()]
) -> Response:
    """List what examples were worth by the feedback on selections, those that hurt most first."""
    page = await services(request).feedback.utilities(
        pool, parameters.metric, parameters.cursor, parameters.limit
    )
    return reply(page)
