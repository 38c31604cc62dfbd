"""Selections: the hot path, its batch, plain search, rendered prompts, and what was chosen before."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from kshot.errors import (
    DimensionMismatch,
    EmbedderUnavailable,
    InvalidFilter,
    InvalidParameter,
    InvalidTemplate,
    Overloaded,
    PoolNotFound,
    SelectionNotFound,
    UnknownSelector,
)
from kshot.schemas.gaps import GapList
from kshot.schemas.selections import (
    BatchReply,
    BatchRequest,
    RenderReply,
    RenderRequest,
    SearchReply,
    SearchRequest,
    SelectionReply,
    SelectRequest,
    StoredSelection,
)
from kshot.server.bodies import read_model, reply
from kshot.server.openapi import contract
from kshot.server.routes.common import PageParameters, services

router = APIRouter(prefix="/v1", tags=["selections"])

_PROBLEMS = (
    PoolNotFound,
    InvalidFilter,
    UnknownSelector,
    InvalidParameter,
    DimensionMismatch,
    Overloaded,
    EmbedderUnavailable,
)


@router.post(
    "/pools/{pool}/select",
    response_model=SelectionReply,
    **contract(body=SelectRequest, problems=_PROBLEMS),
)
async def select(pool: str, request: Request) -> Response:
    """Choose the best set of demonstrations for one query."""
    body = await read_model(request, SelectRequest)
    return reply(await services(request).selections.select(pool, body))


@router.post(
    "/pools/{pool}/select:batch",
    response_model=BatchReply,
    **contract(body=BatchRequest, problems=(PoolNotFound, Overloaded, EmbedderUnavailable)),
)
async def select_batch(pool: str, request: Request) -> Response:
    """Choose for many queries, each a body of `select`; a bad one fails alone."""
    body = await read_model(request, BatchRequest)
    return reply(await services(request).selections.select_batch(pool, body))


@router.post(
    "/pools/{pool}/search",
    response_model=SearchReply,
    **contract(body=SearchRequest, problems=_PROBLEMS),
)
async def search(pool: str, request: Request) -> Response:
    """Return the plain nearest neighbours of a query."""
    body = await read_model(request, SearchRequest)
    return reply(await services(request).selections.search(pool, body))


@router.post(
    "/pools/{pool}/render",
    response_model=RenderReply,
    **contract(body=RenderRequest, problems=(*_PROBLEMS, InvalidTemplate)),
)
async def render(pool: str, request: Request) -> Response:
    """Choose demonstrations and put them into a prompt that is ready to be sent."""
    body = await read_model(request, RenderRequest)
    return reply(await services(request).selections.render(pool, body))


class GapParameters(PageParameters):
    """Query parameters of the gaps."""

    below: float | None = Field(
        default=None, ge=-1, le=1, description="cosine below which one counts; default: the pool's gap_below"
    )


@router.get("/pools/{pool}/gaps", response_model=GapList, **contract(problems=(PoolNotFound,)))
async def list_gaps(pool: str, request: Request, parameters: Annotated[GapParameters, Query()]) -> Response:
    """List the queries to which nothing in the pool came close, the worst first; equal ones are counted."""
    page = await services(request).selections.gaps(
        pool, below=parameters.below, cursor=parameters.cursor, limit=parameters.limit
    )
    return reply(page)


@router.get(
    "/selections/{selection_id}",
    response_model=StoredSelection,
    **contract(problems=(SelectionNotFound,)),
)
async def get_selection(selection_id: str, request: Request) -> Response:
    """Return what was chosen, from which version of the pool, and why."""
    return reply(await services(request).selections.get(selection_id))
