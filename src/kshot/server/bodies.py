"""Reading JSON bodies and writing JSON replies, with no work done twice.

Routes read bodies here instead of declaring them to FastAPI: the parser refuses what the standard library
lets through (NaN, Infinity, deep nesting), and the refusals of `kshot.server.validation` need the model.
"""

from typing import Any, TypeVar

from fastapi import Request, Response
from pydantic import BaseModel
from pydantic_core import from_json

from kshot.errors import FieldError, InvalidInput, UnsupportedMediaType
from kshot.server.validation import Place, pointer, refusal, validated

M = TypeVar("M", bound=BaseModel)

JSON = "application/json"
NDJSON = "application/x-ndjson"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ESCAPED_NUL = b"\\u0000"


class NotJsonError(ValueError):
    """Bytes that are no JSON; the message says what was met and where, and quotes nothing."""


def media_type(request: Request) -> str:
    """Return the body's media type in lower case, without parameters; empty if none was sent."""
    return request.headers.get("content-type", "").split(";", 1)[0].strip().lower()


def require_media_type(request: Request, *allowed: str) -> str:
    """Return the body's media type.

    A missing type is refused as well: browsers may send such bodies to a server on this machine from any web
    page, without asking first.

    Raises
    ------
    UnsupportedMediaType
        It is none of ``allowed``.
    """
    received = media_type(request)
    if received.startswith("application/") and received.endswith("+json"):
        received = JSON
    if received not in allowed:
        shown = repr(received) if received else "none"
        raise UnsupportedMediaType(f"Content-Type is {shown}, allowed {' and '.join(allowed)}")
    return received


def parse_json(data: bytes) -> Any:
    """Parse strict JSON: UTF-8, no NaN or Infinity, at most 200 levels, no NUL in any text.

    Raises
    ------
    NotJsonError
        The position and the reason.
    """
    try:
        value = from_json(data.removeprefix(_BYTE_ORDER_MARK), allow_inf_nan=False)
    except ValueError as error:
        raise NotJsonError(_reason(data, error)) from None
    if _ESCAPED_NUL in data:  # rare, so that the walk is too; an escaped backslash before it is fine
        place = _nul(value)
        if place is not None:
            raise NotJsonError(f"NUL character in {pointer(place) or 'the text'}, which no database keeps")
    return value


def _reason(data: bytes, error: ValueError) -> str:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as undecodable:
        return f"invalid UTF-8 at byte {undecodable.start}"
    return str(error)


def _nul(value: Any) -> Place | None:
    waiting: list[tuple[Place, Any]] = [((), value)]
    while waiting:
        place, item = waiting.pop()
        if isinstance(item, str):
            if "\x00" in item:
                return place
        elif isinstance(item, dict):
            for key, inner in item.items():
                if "\x00" in key:
                    return place
                waiting.append(((*place, key), inner))
        elif isinstance(item, list):
            waiting.extend(((*place, index), inner) for index, inner in enumerate(item))
    return None


async def read_json(request: Request) -> Any:
    """Return the parsed body of a request that must be JSON.

    Raises
    ------
    UnsupportedMediaType
        The body is of another type.
    InvalidInput
        The body is empty or no JSON.
    """
    require_media_type(request, JSON)
    data = await request.body()
    try:
        return parse_json(data)
    except NotJsonError as error:
        message = f"is no JSON: {error}" if data.strip() else "is empty, wanted JSON"
        raise refusal([FieldError("", message, "json")]) from None


async def read_model(request: Request, model: type[M]) -> M:
    """Return the body as a ``model``.

    Raises
    ------
    InvalidInput
        Names every refused field.
    """
    return validated(model, await read_json(request))


def reply(body: BaseModel, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Answer with a model, serialised once and not validated again."""
    return Response(body.model_dump_json(), status_code=status, headers=headers, media_type=JSON)


def nothing_stored(errors: list[FieldError]) -> InvalidInput:
    """Return the problem of a batch in which no row was acceptable."""
    problem = refusal(errors)
    return InvalidInput(f"no row was stored: {problem.message}", errors=errors)
