"""What every call is made of."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Generic, Literal, Protocol, Self, TypeVar
from urllib.parse import quote

from pydantic import BaseModel

from kshot.clients.sdk.fallback import Fallback
from kshot.errors import InvalidInput, KshotError

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
JSON = "application/json"
NDJSON = "application/x-ndjson"
PAGE_SIZE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """One request, and how its answer becomes a ``T``.

    Attributes
    ----------
    method, path : str
        The path starts with a slash and is percent-encoded already.
    read : callable
        Turns the body of a good answer into the result.
    params : mapping
        Query parameters.
    body, content_type : bytes and str
        None for requests without a body.
    creates : bool
        Whether a repetition would do more than the first request; it then travels with an idempotency key.
    accepts : frozenset of int
        Statuses besides 2xx whose body is an answer rather than a problem.
    timeout_s : float, or None
        Replaces the client's own limit.
    recover : callable, or None
        What to answer when the server fails: gets the client's fallback and the failure, returns None if
        there is nothing to fall back to.
    """

    method: str
    path: str
    read: Callable[[bytes], T]
    params: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    content_type: str = JSON
    creates: bool = False
    accepts: frozenset[int] = frozenset()
    timeout_s: float | None = None
    recover: Callable[[Fallback | None, KshotError], T | None] | None = None


@dataclass(frozen=True, slots=True)
class Pages(Generic[T]):
    """A listing: ``page`` makes the call for one cursor (None for the first page)."""

    page: Callable[[str | None], Call[tuple[list[T], str | None]]]


def path_of(*segments: str) -> str:
    """Join path segments below ``/v1``, each percent-encoded as a whole.

    Raises
    ------
    InvalidInput
        A segment is empty or no text: it would address something else.
    """
    return "/v1/" + "/".join(_encoded(segment) for segment in segments)


def _encoded(segment: str) -> str:
    if not isinstance(segment, str) or not segment:
        raise InvalidInput(f"a name or id must be a non-empty text, received {segment!r}")
    try:
        encoded = quote(segment, safe=":")
    except UnicodeEncodeError as error:
        raise InvalidInput(f"a name or id is not valid Unicode (lone surrogate at {error.start})") from None
    # `quote` leaves dots alone, but '.' and '..' would be taken for steps in the path.
    return encoded.replace(".", "%2E") if encoded in {".", ".."} else encoded


def encode(value: Any) -> bytes:
    """Serialise a request body.

    Arrays (anything with ``tolist``), dates and pydantic models are understood besides plain JSON types.

    Raises
    ------
    InvalidInput
        A value of another type, NaN or infinity.
    """
    try:
        return json.dumps(value, default=_plain, allow_nan=False, separators=(",", ":")).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"the request cannot be written as JSON: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON type")


def present(**fields: Any) -> dict[str, Any]:
    """Keep the fields that are not None: an absent field means the server's default."""
    return {name: value for name, value in fields.items() if value is not None}


def reader(model: type[M]) -> Callable[[bytes], M]:
    """Read a body as one model; fields that a newer server has added, at any depth, are passed over."""
    return lambda body: model.model_validate_json(body, extra="ignore")


class _Page(Protocol[T]):
    """A schema of one page: what it lists, and where the next one begins."""

    @property
    def data(self) -> list[T]: ...

    @property
    def next_cursor(self) -> str | None: ...

    @classmethod
    def model_validate_json(cls, json_data: bytes, *, extra: Literal["ignore"]) -> Self: ...


def listing(model: type[_Page[T]], path: str, **others: str | None) -> Pages[T]:
    """Return a listing of what the pages at a path hold, with query parameters besides those of paging."""

    def read(body: bytes) -> tuple[list[T], str | None]:
        page = model.model_validate_json(body, extra="ignore")
        return page.data, page.next_cursor

    def page(cursor: str | None) -> Call[tuple[list[T], str | None]]:
        params = present(limit=str(PAGE_SIZE), cursor=cursor, **others)
        return Call(method="GET", path=path, params=params, read=read)

    return Pages(page)


def listed(values: Iterable[str] | None) -> list[str] | None:
    """Copy ids into a list; a single text, whose letters would pass as ids, is refused."""
    if isinstance(values, str):
        raise InvalidInput(f"wanted a list of ids, received the text {values!r}")
    return None if values is None else list(values)
