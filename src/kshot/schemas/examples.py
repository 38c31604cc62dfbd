"""Examples on the wire: upsert with per-row errors, listing, patch, delete."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from kshot.records import Content, Status
from kshot.schemas.base import (
    ContentIn,
    ExampleId,
    Fields,
    Page,
    Reply,
    Request,
    ShortText,
    Text,
    Vector,
    plain_json,
)

Outputs = Text | Fields
Metadata = Annotated[dict[ShortText, Any], Field(max_length=256), AfterValidator(plain_json)]
StatusIn = Annotated[Status, Field(strict=False)]


class ExampleIn(Request):
    """One example to store. Without ``id`` it gets one derived from its content."""

    id: ExampleId | None = None
    inputs: ContentIn
    outputs: Outputs | None = Field(default=None, description="absent until annotated")
    metadata: Metadata = {}
    split: ShortText | None = None
    status: StatusIn | None = Field(default=None, description="default: approved, or draft without outputs")
    subject_id: ShortText | None = Field(default=None, description="whose data this is, for deletion")
    group: ShortText | None = Field(default=None, description="rows not to be shown to one another's queries")
    vector: Vector | None = Field(default=None, description="pools with the external embedder only")


class ExamplePatch(Request):
    """Body of ``PATCH .../examples/{id}``: the fields to change."""

    inputs: ContentIn | None = None
    outputs: Outputs | None = None
    metadata: Metadata | None = None
    split: ShortText | None = None
    status: StatusIn | None = None
    subject_id: ShortText | None = None
    group: ShortText | None = None
    vector: Vector | None = None


class ExampleInfo(Reply):
    """A stored example."""

    id: str
    inputs: Content
    outputs: Content | None
    metadata: dict[str, Any]
    split: str | None
    status: Status
    subject_id: str | None
    group: str | None
    content_hash: str
    added_in: int
    created_at: datetime
    updated_at: datetime
    vector: list[float] | None = Field(
        default=None, description="scaled to length 1; null where the pool embeds texts by itself"
    )


class ExampleList(Page):
    """Examples in the order of ingestion."""

    data: list[ExampleInfo]


class UpsertRequest(Request):
    """JSON body of ``POST .../examples``; rows are validated one by one, so a bad row stops no other."""

    examples: Annotated[list[Any], Field(min_length=1, max_length=10_000)]


class RejectedRow(Reply):
    """A row that was not stored, and why."""

    line: int = Field(description="counted from 1")
    id: str | None = None
    pointer: str = Field(description="JSON pointer into the row")
    code: str
    message: str


class NoticedRow(Reply):
    """A stored row worth a look."""

    line: int
    id: str
    code: Literal["duplicate_id", "equal_inputs"]
    message: str


class UpsertReply(Reply):
    """What became of a batch. Accepted rows are durable; they are selectable once ``indexed``."""

    accepted: int
    created: int
    updated: int
    unchanged: int
    rejected: list[RejectedRow] = []
    notices: list[NoticedRow] = []
    ids: list[str] = Field(default=[], description="of the accepted rows, in the order received")
    version: int
    indexed: bool
    upto_line: int = Field(description="every line up to here is accounted for")


class DeleteRequest(Request):
    """Body of ``POST .../examples:delete``: exactly one of the two."""

    ids: Annotated[list[ExampleId], Field(min_length=1, max_length=10_000)] | None = None
    subject_id: ShortText | None = None


class DeleteReply(Reply):
    """Ids that existed and are gone; their texts are wiped from the store."""

    deleted: int
    ids: list[str]
    version: int
