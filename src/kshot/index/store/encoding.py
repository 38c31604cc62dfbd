"""JSON columns: strict text in, fast values out."""

import json
from typing import Any

from kshot.errors import InvalidInput

_ENCODE = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_DECODE = json.JSONDecoder().raw_decode


def encode_json(value: Any) -> str:
    """Serialise a value as JSON text that every database accepts.

    Raises
    ------
    InvalidInput
        The value holds NaN, infinity, a lone surrogate, or something that JSON has no word for.
    """
    try:
        text = _ENCODE(value)
        if not text.isascii():
            text.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        reason = error.reason if isinstance(error, UnicodeEncodeError) else str(error)
        raise InvalidInput(f"the value cannot be stored as JSON: {reason}") from None
    return text


def decode_json(raw: str | bytes) -> Any:
    """Parse what `encode_json` wrote; SQLite hands over str, psycopg bytes."""
    text = raw if isinstance(raw, str) else raw.decode("utf-8")
    # Most cells are a plain text or an empty object, and need no parser: a JSON string without a backslash is
    # its own value between the quotes.
    if text[0] == '"' and "\\" not in text:
        return text[1:-1]
    return {} if text == "{}" else _DECODE(text)[0]
