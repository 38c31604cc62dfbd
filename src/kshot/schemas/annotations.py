"""Answers of annotators on the wire."""

from typing import Annotated, Any, Literal

from pydantic import Field

from kshot.schemas.base import ContentIn, ExampleId, Reply, Request, ShortText, UtcTime
from kshot.schemas.examples import RejectedRow

OnConflict = Literal["report", "replace"]
"""What becomes of an answer to an example that has other outputs."""


class AnswerIn(Request):
    """One answer: the outputs of an example that the pool holds."""

    id: ExampleId
    outputs: ContentIn
    annotator: ShortText | None = Field(default=None, description="kept as `metadata.annotator`")
    annotated_at: UtcTime | None = Field(
        default=None, description="ISO 8601 with a zone; kept as `metadata.annotated_at`, in UTC"
    )


class AnnotationRequest(Request):
    """Body of ``POST .../annotations``; answers are validated one by one, so a bad one stops no other."""

    answers: Annotated[list[Any], Field(min_length=1, max_length=10_000)]
    on_conflict: OnConflict = Field(
        default="report",
        description="`report`: an example that has other outputs keeps them; `replace`: it gets the answer",
    )
    dry_run: bool = Field(default=False, description="say what would happen, and change nothing")


class AnnotationReply(Reply):
    """What became of the answers. Everything counted here is durable."""

    approved: int = Field(description="examples that had no approved outputs, and have them now")
    replaced: int = Field(description="examples that had other outputs; only with `on_conflict: replace`")
    unchanged: int = Field(description="answers that were stored already")
    rejected: list[RejectedRow] = Field(
        default=[],
        description="`line` counts the answers from 1; codes besides those of bad fields: `unknown_id`, "
        "`retired`, `conflict`",
    )
    version: int
    indexed: bool
