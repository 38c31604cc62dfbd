"""Annotations: the answers of annotators come home."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from kshot.errors import IdempotencyConflict, PoolNotFound
from kshot.schemas.annotations import AnnotationReply, AnnotationRequest
from kshot.schemas.base import Wait
from kshot.server.bodies import read_model, reply
from kshot.server.idempotency import once
from kshot.server.openapi import contract
from kshot.server.routes.common import services

router = APIRouter(prefix="/v1/pools/{pool}", tags=["examples"])


class AnnotationParameters(BaseModel):
    """Query parameters of an import of answers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    wait: Wait = Field(default="none", description="`indexed`: answer once the examples can be selected")


@router.post(
    "/annotations",
    response_model=AnnotationReply,
    **contract(body=AnnotationRequest, problems=(PoolNotFound, IdempotencyConflict)),
)
async def annotate(
    pool: str, request: Request, parameters: Annotated[AnnotationParameters, Query()]
) -> Response:
    """Write answers as the outputs of draft examples and approve them; a bad answer stops no other.

    Importing the same answers again changes nothing.
    """
    body = await read_model(request, AnnotationRequest)

    async def work() -> Response:
        return reply(await services(request).annotations.annotate(pool, body, parameters.wait))

    return await once(services(request).idempotency, request, work)
