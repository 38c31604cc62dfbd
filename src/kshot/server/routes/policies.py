"""Policies: which variants there are, and how one is chosen."""

from fastapi import APIRouter, Request, Response

from kshot.errors import (
    Conflict,
    DecisionConflict,
    DimensionMismatch,
    EmbedderUnavailable,
    IdempotencyConflict,
    MetricNotFound,
    Overloaded,
    PolicyExists,
    PolicyNotFound,
    PoolNotFound,
    PromptNotFound,
    UnknownSelector,
    VariantNotFound,
)
from kshot.schemas.decisions import DecideRequest, DecisionReply
from kshot.schemas.policies import (
    AlgorithmList,
    PolicyCreate,
    PolicyInfo,
    PolicyList,
    PolicyPatch,
    VariantCreate,
    VariantPatch,
)
from kshot.server.algorithms_schema import algorithm_infos
from kshot.server.bodies import read_model, reply
from kshot.server.idempotency import once
from kshot.server.openapi import contract
from kshot.server.routes.common import Page, services

router = APIRouter(prefix="/v1", tags=["policies"])


@router.post(
    "/policies/{policy}/decide",
    response_model=DecisionReply,
    **contract(
        body=DecideRequest,
        problems=(
            PolicyNotFound,
            VariantNotFound,
            PromptNotFound,
            DecisionConflict,
            Conflict,
            DimensionMismatch,
            EmbedderUnavailable,
            Overloaded,
        ),
    ),
)
async def decide(policy: str, request: Request) -> Response:
    """Choose a variant for one request, with the exact probability of the choice."""
    body = await read_model(request, DecideRequest)
    return reply(await services(request).decisions.decide(policy, body))


@router.get("/algorithms", response_model=AlgorithmList, **contract())
async def list_algorithms() -> Response:
    """List every algorithm that a policy may use: its name, what it does, its parameters."""
    return reply(AlgorithmList(data=algorithm_infos()))


@router.post(
    "/policies",
    status_code=201,
    response_model=PolicyInfo,
    **contract(
        body=PolicyCreate,
        problems=(
            PolicyExists,
            PromptNotFound,
            PoolNotFound,
            MetricNotFound,
            UnknownSelector,
            IdempotencyConflict,
        ),
    ),
)
async def create_policy(request: Request) -> Response:
    """Create a policy with its variants."""
    body = await read_model(request, PolicyCreate)

    async def work() -> Response:
        return reply(await services(request).policies.create(body), status=201)

    response = await once(services(request).idempotency, request, work)
    response.headers["Location"] = f"/v1/policies/{body.name}"
    return response


@router.get("/policies", response_model=PolicyList, **contract())
async def list_policies(request: Request, page: Page) -> Response:
    """List policies in alphabetical order."""
    return reply(await services(request).policies.list(page.cursor, page.limit))


@router.get("/policies/{policy}", response_model=PolicyInfo, **contract(problems=(PolicyNotFound,)))
async def get_policy(policy: str, request: Request) -> Response:
    """Describe a policy: its settings, its variants, what was learnt of each."""
    return reply(await services(request).policies.get(policy))


@router.patch(
    "/policies/{policy}",
    response_model=PolicyInfo,
    **contract(
        body=PolicyPatch, problems=(PolicyNotFound, PoolNotFound, MetricNotFound, UnknownSelector, Conflict)
    ),
)
async def patch_policy(policy: str, request: Request) -> Response:
    """Change settings; another algorithm, context or half-life learns anew from the log."""
    body = await read_model(request, PolicyPatch)
    return reply(await services(request).policies.patch(policy, body))


@router.delete("/policies/{policy}", status_code=204, **contract(problems=(PolicyNotFound,)))
async def delete_policy(policy: str, request: Request) -> Response:
    """Delete a policy with its decisions and their feedback."""
    await services(request).policies.delete(policy)
    return Response(status_code=204)


@router.post(
    "/policies/{policy}/variants",
    status_code=201,
    response_model=PolicyInfo,
    **contract(body=VariantCreate, problems=(PolicyNotFound, PromptNotFound, Conflict, IdempotencyConflict)),
)
async def add_variant(policy: str, request: Request) -> Response:
    """Add a variant; an edit of another one names it as its parent and starts near what that learnt."""
    body = await read_model(request, VariantCreate)

    async def work() -> Response:
        return reply(await services(request).policies.add_variant(policy, body), status=201)

    return await once(services(request).idempotency, request, work)


@router.patch(
    "/policies/{policy}/variants/{variant}",
    response_model=PolicyInfo,
    **contract(body=VariantPatch, problems=(PolicyNotFound, VariantNotFound)),
)
async def patch_variant(policy: str, variant: str, request: Request) -> Response:
    """Pause, retire or activate a variant, or change what it is expected to cost."""
    body = await read_model(request, VariantPatch)
    return reply(await services(request).policies.patch_variant(policy, variant, body))
