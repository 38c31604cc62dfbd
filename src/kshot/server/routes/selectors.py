"""The methods that this server knows, with the JSON schema of their parameters."""

from fastapi import APIRouter, Response

from kshot.schemas.selections import SelectorList
from kshot.server.bodies import reply
from kshot.server.openapi import contract
from kshot.server.selectors_schema import selector_infos

router = APIRouter(prefix="/v1/selectors", tags=["selectors"])


@router.get("", response_model=SelectorList, **contract())
async def list_selectors() -> Response:
    """List every method: its name, what it does, its parameters."""
    return reply(SelectorList(data=selector_infos()))
