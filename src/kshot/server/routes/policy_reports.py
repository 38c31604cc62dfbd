"""How policies do, and what others would have earned."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from kshot.errors import PolicyNotFound, VariantNotFound
from kshot.schemas.decisions import EvaluateRequest, EvaluationReply, PolicyReport
from kshot.server.bodies import read_model, reply
from kshot.server.openapi import contract
from kshot.server.routes.common import services

router = APIRouter(prefix="/v1/policies", tags=["policies"])


class ReportParameters(BaseModel):
    """Query parameters of a report."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    periods: int = Field(default=24, ge=1, le=500, description="parts of equal length that time is cut into")


@router.get("/{policy}/report", response_model=PolicyReport, **contract(problems=(PolicyNotFound,)))
async def report_policy(
    policy: str, request: Request, parameters: Annotated[ReportParameters, Query()]
) -> Response:
    """Tell traffic and reward of every variant, over all time and in periods, and what is out of order."""
    return reply(await services(request).reports.report(policy, parameters.periods))


@router.post(
    "/{policy}/evaluate",
    response_model=EvaluationReply,
    **contract(body=EvaluateRequest, problems=(PolicyNotFound, VariantNotFound)),
)
async def evaluate_policy(policy: str, request: Request) -> Response:
    """Estimate from the log what other policies would have earned."""
    body = await read_model(request, EvaluateRequest)
    return reply(await services(request).evaluations.evaluate(policy, body))
