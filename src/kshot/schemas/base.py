"""What every wire model has in common."""

import math
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from kshot.errors import InvalidInput
from kshot.records import require_text

MAX_FIELD_CHARACTERS = 262_144
"""Longest text that one field of an example, query or template may hold."""


class Request(BaseModel):
    """A body sent by a client: unknown fields are refused, values are not coerced between types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Reply(BaseModel):
    """A body sent by the server: clients ignore fields that they do not know yet."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def _storable(value: str) -> str:
    try:
        return require_text(value, "value")
    except InvalidInput as error:
        raise ValueError(error.message.removeprefix("value ")) from None


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty")
    return value


def plain_json(value: Any) -> Any:
    """Refuse, at any depth, what is no JSON or what no database keeps: NaN, infinity, NUL, surrogates."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            _storable(item)
        elif isinstance(item, float):
            if not math.isfinite(item):
                raise ValueError(f"holds {item}, only finite numbers are allowed")
        elif isinstance(item, dict):
            waiting.extend(item)
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
        elif not (item is None or isinstance(item, int)):
            raise ValueError(f"holds a {type(item).__name__}, which is no JSON")
    return value


Text = Annotated[str, Field(max_length=MAX_FIELD_CHARACTERS), AfterValidator(_storable)]
NonBlankText = Annotated[Text, AfterValidator(_not_blank)]
Name = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="letters, digits, '.', '_' and '-', at most 100, starting with a letter or digit",
    ),
]
ShortText = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_storable)]
ExampleId = ShortText
Vector = Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=1, max_length=8192)]


def _some_text(fields: dict[str, Any]) -> dict[str, Any]:
    if not fields:
        raise ValueError("has no field")
    if not any(value.strip() if isinstance(value, str) else value is not None for value in fields.values()):
        raise ValueError("is empty")
    return fields


JsonObject = Annotated[dict[str, Any], AfterValidator(plain_json)]
JsonArray = Annotated[list[Any], AfterValidator(plain_json)]
FieldValue = Text | bool | int | Annotated[float, Field(allow_inf_nan=False)] | None | JsonArray | JsonObject
Fields = Annotated[
    dict[ShortText, FieldValue],
    Field(max_length=256),
    AfterValidator(_some_text),
]
ContentIn = NonBlankText | Fields
"""One text, or named fields with at least one that is not empty."""


def _utc(value: Any) -> datetime:
    if isinstance(value, str):
        try:
            time = datetime.fromisoformat(value)
            if time.tzinfo is not None:
                return time.astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    raise ValueError("is no ISO 8601 time with a zone, such as 2026-01-31T12:00:00Z")


UtcTime = Annotated[datetime, BeforeValidator(_utc)]
"""An aware time, as ISO 8601 on the wire."""


class Notice(Reply):
    """Something that worked, but perhaps not as meant."""

    code: str
    message: str


class Problem(Reply):
    """RFC 9457 problem details, the body of every error."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str | None = None
    errors: list["ProblemError"] = []


class ProblemError(Reply):
    """One refused field: a JSON pointer, why, and the line in NDJSON bodies."""

    pointer: str
    message: str
    code: str = "invalid"
    line: int | None = None


class Deleted(Reply):
    """How many things a deletion removed."""

    deleted: int


class Page(Reply):
    """One page of a listing; pass ``next_cursor`` back as ``cursor`` until it is null."""

    next_cursor: str | None = None


Wait = Literal["none", "indexed"]
Existing = Literal["update", "keep"]
"""What becomes of a stored example whose id comes again with other content."""
