"""Prompts: versions that never change, and labels that move between them."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from kshot.errors import IdempotencyConflict, PromptExists, PromptNotFound
from kshot.schemas.prompts import (
    Label,
    LabelMove,
    PromptCreate,
    PromptInfo,
    PromptList,
    PromptRender,
    PromptVersion,
    PromptVersionCreate,
    PromptVersionList,
    RenderedPrompt,
)
from kshot.server.bodies import read_model, reply
from kshot.server.idempotency import once
from kshot.server.openapi import contract
from kshot.server.routes.common import Page, services

router = APIRouter(prefix="/v1/prompts", tags=["prompts"])
LabelName = Annotated[Label, Path()]
Which = Annotated[str, Path(description="a version's number, a label, or `latest`")]


@router.post(
    "",
    status_code=201,
    response_model=PromptVersion,
    **contract(body=PromptCreate, problems=(PromptExists, IdempotencyConflict)),
)
async def create_prompt(request: Request) -> Response:
    """Create a prompt and its version 1."""
    body = await read_model(request, PromptCreate)

    async def work() -> Response:
        return reply(await services(request).prompts.create(body), status=201)

    response = await once(services(request).idempotency, request, work)
    response.headers["Location"] = f"/v1/prompts/{body.name}"
    return response


@router.get("", response_model=PromptList, **contract())
async def list_prompts(request: Request, page: Page) -> Response:
    """List prompts in alphabetical order."""
    return reply(await services(request).prompts.list(page.cursor, page.limit))


@router.get("/{name}", response_model=PromptInfo, **contract(problems=(PromptNotFound,)))
async def get_prompt(name: str, request: Request) -> Response:
    """Describe a prompt: how many versions it has and where its labels stand."""
    return reply(await services(request).prompts.get(name))


@router.delete("/{name}", status_code=204, **contract(problems=(PromptNotFound,)))
async def delete_prompt(name: str, request: Request) -> Response:
    """Delete a prompt with its versions; variants that name it cannot be rendered any more."""
    await services(request).prompts.delete(name)
    return Response(status_code=204)


@router.post(
    "/{name}/versions",
    status_code=201,
    response_model=PromptVersion,
    **contract(body=PromptVersionCreate, problems=(PromptNotFound, IdempotencyConflict)),
)
async def add_prompt_version(name: str, request: Request) -> Response:
    """Add a version; one that says the same as the newest is not added again."""
    body = await read_model(request, PromptVersionCreate)

    async def work() -> Response:
        return reply(await services(request).prompts.add_version(name, body), status=201)

    return await once(services(request).idempotency, request, work)


@router.get("/{name}/versions", response_model=PromptVersionList, **contract(problems=(PromptNotFound,)))
async def list_prompt_versions(name: str, request: Request, page: Page) -> Response:
    """List versions, the newest first."""
    return reply(await services(request).prompts.versions(name, page.cursor, page.limit))


@router.get("/{name}/versions/{which}", response_model=PromptVersion, **contract(problems=(PromptNotFound,)))
async def get_prompt_version(name: str, which: Which, request: Request) -> Response:
    """Return one version."""
    return reply(await services(request).prompts.version(name, which))


@router.put(
    "/{name}/labels/{label}",
    response_model=PromptVersion,
    **contract(body=LabelMove, problems=(PromptNotFound,)),
)
async def move_prompt_label(name: str, label: LabelName, request: Request) -> Response:
    """Let a label stand at a version; everybody who asks for the label gets it from now on."""
    body = await read_model(request, LabelMove)
    return reply(await services(request).prompts.move_label(name, label, body))


@router.delete("/{name}/labels/{label}", status_code=204, **contract(problems=(PromptNotFound,)))
async def remove_prompt_label(name: str, label: LabelName, request: Request) -> Response:
    """Take a label away."""
    await services(request).prompts.remove_label(name, label)
    return Response(status_code=204)


@router.post(
    "/{name}/render",
    response_model=RenderedPrompt,
    **contract(body=PromptRender, problems=(PromptNotFound,)),
)
async def render_prompt(name: str, request: Request) -> Response:
    """Put a prompt together with the caller's variables."""
    body = await read_model(request, PromptRender)
    return reply(await services(request).prompts.render(name, body))
