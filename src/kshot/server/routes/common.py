"""What all routes share: their services, the page parameters."""

from typing import Annotated, cast

from fastapi import Query, Request
from pydantic import BaseModel, ConfigDict, Field

from kshot.server.ports import Services


def services(request: Request) -> Services:
    """Return the services that `kshot.server.app.create_app` was given."""
    return cast("Services", request.app.state.services)


class PageParameters(BaseModel):
    """Query parameters of a listing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cursor: str | None = Field(default=None, max_length=2048, description="`next_cursor` of the page before")
    limit: int = Field(default=100, ge=1, le=1000)


Page = Annotated[PageParameters, Query()]
