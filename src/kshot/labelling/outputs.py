"""From the values of a tool's questions to the outputs of an example."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kshot.labelling.parsing import is_storable
from kshot.records import Content

MAX_DEPTH = 16
"""Levels of nesting that outputs may have."""


@dataclass(frozen=True, slots=True)
class Unsupported:
    """Stands for a value that is no text, number or choice, such as marked spans."""

    kind: str


class UnusableError(Exception):
    """An answer that cannot be outputs; ``code`` is that of the problem to report."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def picked(values: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """Choose the values that make the outputs: of one name the bare value, of several the fields."""
    if len(names) == 1:
        return values.get(names[0])
    return {name: values[name] for name in names if not is_empty(values.get(name))}


def is_empty(value: Any, depth: int = 0) -> bool:
    """Tell whether nothing was answered: null, blank, or a container of such."""
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, dict | list) and depth <= MAX_DEPTH:
        inner = value.values() if isinstance(value, dict) else value
        return all(is_empty(one, depth + 1) for one in inner)
    return value is None


def content(raw: Any) -> Content:
    """Return a non-empty answer as outputs that can be stored: fields, or one text.

    A list of one value counts as that value. A number or a truth value becomes text where it is the whole
    answer, and stays what it is inside fields.

    Raises
    ------
    UnusableError
        The answer is a list of values, of an unsupported kind, too deep, or holds what no database keeps.
    """
    if isinstance(raw, Mapping):
        fields = {name: _single(value) for name, value in raw.items() if not is_empty(value)}
        _check(fields)
        return fields
    value = _single(raw)
    _check(value)
    if isinstance(value, list):
        message = f"the answer is a list of {len(value)}, wanted one value: one question gives one text"
        raise UnusableError("several_values", message)
    if isinstance(value, dict):
        raise _unsupported("an object")
    return value if isinstance(value, str) else json.dumps(value)


def _single(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _check(value: Any, depth: int = 0) -> None:
    if depth > MAX_DEPTH:
        raise UnusableError("unsupported_answer", f"the answer is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, Unsupported):
        raise _unsupported(value.kind)
    if isinstance(value, str) and not is_storable(value):
        raise UnusableError("unstorable", "the answer holds a NUL or a lone surrogate")
    if isinstance(value, float) and not math.isfinite(value):
        raise UnusableError("unstorable", f"the answer holds {value}, allowed are finite numbers")
    if isinstance(value, dict):
        for name in value:
            _check(name)
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            _check(inner, depth + 1)


def _unsupported(kind: str) -> UnusableError:
    return UnusableError(
        "unsupported_answer", f"the answer is {kind}; wanted text, a number, a rating or a choice"
    )
