"""The first look at untrusted files: bytes, texts, times, and what kind of thing a value is."""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from kshot.errors import InvalidInput, PayloadTooLarge
from kshot.records import require_text

MAX_FILE_BYTES = 256 * 2**20
"""A file is read as a whole; this much holds about a million short answers."""
MAX_ID_CHARACTERS = 256

_MAX_DIGITS = 1000
_BYTE_ORDER_MARK = "\ufeff"
_KINDS = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}


def file_text(data: bytes) -> str:
    """Decode a file.

    Raises
    ------
    PayloadTooLarge
        It has more than `MAX_FILE_BYTES`.
    InvalidInput
        It is not UTF-8.
    """
    if len(data) > MAX_FILE_BYTES:
        raise PayloadTooLarge(f"the file has {len(data)} bytes, allowed at most {MAX_FILE_BYTES}")
    try:
        return data.decode("utf-8").removeprefix(_BYTE_ORDER_MARK)
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the file is not UTF-8 (byte {error.start}); save it as UTF-8") from None


def parse_json(text: str) -> Any:
    """Parse JSON; `ValueError` says what is wrong.

    NaN passes, and stands for integers of absurd length as well: both matter only where they are an answer.
    """
    try:
        return json.loads(text, parse_int=_integer)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_DIGITS else math.nan


def moment(value: Any) -> datetime:
    """Read ISO 8601 text or seconds since 1970, as a UTC time; a time without a zone is UTC.

    Raises
    ------
    ValueError, OverflowError, OSError
        It is neither, or outside the years 1 to 9999.
    """
    if isinstance(value, str):
        time = datetime.fromisoformat(value.strip())
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return datetime.fromtimestamp(value, UTC)
    raise ValueError(f"{kind_of(value)} is no time")


def is_storable(text: str) -> bool:
    """Tell whether a database keeps a text: no NUL, no lone surrogate."""
    try:
        require_text(text, "/text")
    except InvalidInput:
        return False
    return True


def described(value: Any) -> str:
    """Name what parsed JSON is in a message: its kind, and the fields of its first object."""
    if isinstance(value, dict):
        return f"an object with {field_names(value)}"
    if isinstance(value, list):
        first = next((row for row in value if isinstance(row, dict)), None)
        return "a list" if first is None else f"a list of objects with {field_names(first)}"
    return kind_of(value)


def field_names(row: Mapping[str, Any]) -> str:
    """Name the first fields of an object in a message."""
    return ", ".join(list(row)[:5])[:200] or "nothing"


def kind_of(value: Any) -> str:
    """Name a value's kind in a message, without quoting it."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return f"a text of {len(value)} characters"
    return _KINDS.get(type(value), type(value).__name__)
