"""Examples: upload as JSON or NDJSON, list, read, change, delete."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from kshot.errors import (
    DimensionMismatch,
    ExampleNotFound,
    FieldError,
    IdempotencyConflict,
    PoolNotFound,
)
from kshot.schemas.base import Existing, Wait
from kshot.schemas.base import Request as Body
from kshot.schemas.examples import (
    DeleteReply,
    DeleteRequest,
    ExampleIn,
    ExampleInfo,
    ExampleList,
    ExamplePatch,
    UpsertReply,
    UpsertRequest,
)
from kshot.schemas.filters import Filter
from kshot.schemas.selections import SizedFilter
from kshot.server.bodies import (
    JSON,
    NDJSON,
    NotJsonError,
    nothing_stored,
    parse_json,
    read_json,
    read_model,
    reply,
    require_media_type,
)
from kshot.server.idempotency import once
from kshot.server.ndjson import Batch, UpsertStream, store_lines
from kshot.server.openapi import contract, reference
from kshot.server.problems import request_id_of
from kshot.server.routes.common import PageParameters, services
from kshot.server.validation import refusal, validated

router = APIRouter(prefix="/v1/pools/{pool}", tags=["examples"])

_ROWS = {"type": "array", "items": reference(ExampleIn)}
_UPLOAD = {
    JSON: {"schema": {"anyOf": [reference(UpsertRequest), _ROWS]}},
    NDJSON: {"schema": reference(ExampleIn)},
}


class UpsertParameters(BaseModel):
    """Query parameters of an upload."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    wait: Wait = Field(default="none", description="`indexed`: answer once the rows can be selected")
    existing: Existing = Field(
        default="update", description="`keep`: rows whose id is stored already change nothing"
    )


class ListParameters(PageParameters):
    """Query parameters of a listing of examples."""

    filter: str | None = Field(
        default=None, max_length=65_536, description="a filter as JSON text, as in a selection"
    )


class _FilterParameter(Body):
    filter: SizedFilter


@router.post(
    "/examples",
    response_model=UpsertReply,
    **contract(
        content=_UPLOAD,
        problems=(
            PoolNotFound,
            DimensionMismatch,
            IdempotencyConflict,
        ),
    ),
)
async def upsert_examples(
    pool: str, request: Request, parameters: Annotated[UpsertParameters, Query()]
) -> Response:
    """Store examples; a bad row is reported and stops no other.

    NDJSON is read as it arrives and answered with one line per batch of rows. If it fails midway, the last
    line is a problem, and the rows up to the `upto_line` before it are stored.
    """
    if require_media_type(request, JSON, NDJSON) == NDJSON:
        return await _store_stream(pool, request, parameters)
    return await once(
        services(request).idempotency, request, partial(_store_array, pool, request, parameters)
    )


async def _store_array(pool: str, request: Request, parameters: UpsertParameters) -> Response:
    body = await read_json(request)
    is_bare = isinstance(body, list)
    rows = validated(UpsertRequest, {"examples": body} if is_bare else body).examples
    stored = await services(request).examples.upsert(
        pool,
        list(enumerate(rows, start=1)),
        rejected=(),
        upto_line=len(rows),
        wait=parameters.wait,
        existing=parameters.existing,
    )
    if stored.rejected and not stored.accepted:
        base = "" if is_bare else "/examples"
        raise nothing_stored(
            [
                FieldError(f"{base}/{row.line - 1}{row.pointer}", row.message, row.code, row.line)
                for row in stored.rejected
            ]
        )
    return reply(stored)


async def _store_stream(pool: str, request: Request, parameters: UpsertParameters) -> Response:
    examples = services(request).examples

    async def store(batch: Batch, wait: Wait) -> UpsertReply:
        return await examples.upsert(
            pool,
            batch.rows,
            rejected=batch.rejected,
            upto_line=batch.upto_line,
            wait=wait,
            existing=parameters.existing,
        )

    limit = request.app.state.settings.max_line_bytes
    replies = store_lines(request.stream(), store, wait=parameters.wait, max_line_bytes=limit)
    # The first batch decides about the status: a missing pool is a plain 404.
    first = await anext(replies)
    return UpsertStream(first, replies, request_id_of(request))


@router.get("/examples", response_model=ExampleList, **contract(problems=(PoolNotFound,)))
async def list_examples(
    pool: str, request: Request, parameters: Annotated[ListParameters, Query()]
) -> Response:
    """List examples in the order of ingestion."""
    page = await services(request).examples.list(
        pool, filter=_filter(parameters.filter), cursor=parameters.cursor, limit=parameters.limit
    )
    return reply(page)


def _filter(text: str | None) -> Filter | None:
    if text is None:
        return None
    try:
        value: Any = parse_json(text.encode("utf-8", "surrogatepass"))
    except NotJsonError as error:
        raise refusal([FieldError("/filter", f"is no JSON: {error}", "json")]) from None
    return validated(_FilterParameter, {"filter": value}).filter


# A colon is no part of an id's path: `examples:delete` and `examples/{id}` never meet.
@router.post(
    "/examples:delete",
    response_model=DeleteReply,
    **contract(body=DeleteRequest, problems=(PoolNotFound, IdempotencyConflict)),
)
async def delete_examples(pool: str, request: Request) -> Response:
    """Delete examples by ids or by whose data they are, and wipe their texts."""
    body = await read_model(request, DeleteRequest)

    async def work() -> Response:
        return reply(await services(request).examples.delete(pool, body))

    return await once(services(request).idempotency, request, work)


@router.get(
    "/examples/{example_id:path}",
    response_model=ExampleInfo,
    **contract(problems=(PoolNotFound, ExampleNotFound)),
)
async def get_example(pool: str, example_id: str, request: Request) -> Response:
    """Return one example; an id with special characters must be percent-encoded."""
    return reply(await services(request).examples.get(pool, example_id))


@router.patch(
    "/examples/{example_id:path}",
    response_model=ExampleInfo,
    **contract(body=ExamplePatch, problems=(PoolNotFound, ExampleNotFound)),
)
async def patch_example(pool: str, example_id: str, request: Request) -> Response:
    """Change the fields that are sent; null clears one."""
    body = await read_model(request, ExamplePatch)
    return reply(await services(request).examples.patch(pool, example_id, body))


@router.delete(
    "/examples/{example_id:path}",
    response_model=DeleteReply,
    **contract(problems=(PoolNotFound, ExampleNotFound)),
)
async def delete_example(pool: str, example_id: str, request: Request) -> Response:
    """Delete one example and wipe its texts."""
    body = validated(DeleteRequest, {"ids": [example_id]})
    deleted = await services(request).examples.delete(pool, body)
    if not deleted.deleted:
        raise ExampleNotFound(f"pool {pool!r} holds no example {example_id!r}")
    return reply(deleted)
