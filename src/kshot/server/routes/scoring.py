"""Likelihoods of completions."""

from fastapi import APIRouter, Request, Response

from kshot.errors import MissingDependency, ScorerUnavailable
from kshot.schemas.scoring import ScoreReply, ScoreRequest, ScorerInfo
from kshot.server.bodies import read_model, reply
from kshot.server.openapi import contract
from kshot.server.routes.common import services

router = APIRouter(prefix="/v1", tags=["scoring"])


@router.post(
    "/score",
    response_model=ScoreReply,
    **contract(body=ScoreRequest, problems=(ScorerUnavailable, MissingDependency)),
)
async def score(request: Request) -> Response:
    """Return how likely completions are given their contexts; a pair that cannot be scored fails alone."""
    body = await read_model(request, ScoreRequest)
    return reply(await services(request).scoring.score(body))


@router.get("/scorer", response_model=ScorerInfo, **contract())
async def get_scorer(request: Request) -> Response:
    """Tell which scorer is configured, what it can do, and why not."""
    return reply(await services(request).scoring.info())
