"""Coverage gaps on the wire: queries to which nothing in the pool comes close."""

from datetime import datetime

from pydantic import Field

from kshot.records import Content
from kshot.schemas.base import Page, Reply


class Gap(Reply):
    """A query, or several equal ones, whose nearest example was too far away."""

    query: Content | None = Field(description="null where the pool keeps no queries")
    count: int = Field(description="selections with this query")
    best_similarity: float = Field(description="cosine to the nearest example; the lowest of the selections'")
    first_at: datetime
    last_at: datetime
    selection_id: str = Field(description="one of the selections")


class GapList(Page):
    """Gaps, the worst first."""

    data: list[Gap]
    below: float = Field(description="the cosine below which a selection counts")
