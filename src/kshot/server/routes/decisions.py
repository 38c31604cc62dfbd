"""Decisions after they were made."""

from fastapi import APIRouter, Request, Response

from kshot.errors import DecisionConflict, DecisionNotFound, IdempotencyConflict, VariantNotFound
from kshot.schemas.base import Deleted
from kshot.schemas.decisions import DecisionDeletion, DecisionReply, ServedRequest
from kshot.server.bodies import read_model, reply
from kshot.server.idempotency import once
from kshot.server.openapi import contract
from kshot.server.routes.common import services

router = APIRouter(prefix="/v1", tags=["decisions"])
_PROBLEMS = (DecisionNotFound, DecisionConflict)


@router.get(
    "/decisions/{decision_id}", response_model=DecisionReply, **contract(problems=(DecisionNotFound,))
)
async def get_decision(decision_id: str, request: Request) -> Response:
    """Return a decision and what is known of its outcome."""
    return reply(await services(request).decisions.get(decision_id))


@router.post(
    "/decisions/{decision_id}/activate", response_model=DecisionReply, **contract(problems=_PROBLEMS)
)
async def activate_decision(decision_id: str, request: Request) -> Response:
    """Say that what was decided was shown, where the decision was made with `defer_activation`."""
    return reply(await services(request).decisions.activate(decision_id))


@router.post("/decisions/{decision_id}/cancel", response_model=DecisionReply, **contract(problems=_PROBLEMS))
async def cancel_decision(decision_id: str, request: Request) -> Response:
    """Say that what was decided was never shown: no outcome of it counts, now or later."""
    return reply(await services(request).decisions.cancel(decision_id))


@router.post(
    "/decisions/{decision_id}/served",
    response_model=DecisionReply,
    **contract(body=ServedRequest, problems=(*_PROBLEMS, VariantNotFound)),
)
async def override_decision(decision_id: str, request: Request) -> Response:
    """Say that another variant was shown: that one's outcome it is, and its probability is unknown."""
    body = await read_model(request, ServedRequest)
    return reply(await services(request).decisions.served(decision_id, body))


@router.post(
    "/decisions:delete",
    response_model=Deleted,
    **contract(body=DecisionDeletion, problems=(IdempotencyConflict,)),
)
async def delete_decisions(request: Request) -> Response:
    """Erase every decision about a subject, with its feedback and all that was learnt from it."""
    body = await read_model(request, DecisionDeletion)

    async def work() -> Response:
        return reply(await services(request).decisions.delete(body.subject_id))

    return await once(services(request).idempotency, request, work)
