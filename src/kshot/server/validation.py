"""pydantic's refusals in our words: one error per field, with a JSON pointer, what came and what is allowed.

pydantic reports a union by listing what was wrong with every branch, under locations that hold branch names.
Here a location is walked along the refused value itself: a step that does not lead into the value was a
branch name. Of the branches, the one that got furthest is reported.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from kshot.errors import FieldError, InvalidFilter, InvalidInput

M = TypeVar("M", bound=BaseModel)
Place: TypeAlias = tuple[str | int, ...]
Node: TypeAlias = dict[str, Any]

MAX_ERRORS = 100
"""More refused fields than this are not listed; nobody reads them."""
MAX_STEP_CHARACTERS = 256
"""A key of a megabyte is not sent back."""

_WRONG_TYPE = {
    "string_type": "text",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "int_parsing": "an integer",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "an array",
    "tuple_type": "an array",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "none_required": "null",
}
_BOUNDS = {
    "greater_than": (">", "gt"),
    "greater_than_equal": (">=", "ge"),
    "less_than": ("<", "lt"),
    "less_than_equal": ("<=", "le"),
}
_LENGTHS = {
    "string_too_long": ("characters, allowed at most", "max_length"),
    "string_too_short": ("characters, allowed at least", "min_length"),
    "too_long": ("items, allowed at most", "max_length"),
    "too_short": ("items, allowed at least", "min_length"),
}


def validated(model: type[M], value: Any, *, prefix: str = "") -> M:
    """Return ``value`` as a ``model``.

    Parameters
    ----------
    model : type
        The pydantic model that the value must follow.
    value : any
        Parsed JSON.
    prefix : str
        JSON pointer of the value inside the request.

    Raises
    ------
    InvalidInput
        Names every refused field; `InvalidFilter` if all of them lie inside ``filter``.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise refusal(field_errors(error, model, value, prefix=prefix)) from None


def refusal(errors: Sequence[FieldError]) -> InvalidInput:
    """Return the exception that says which fields were refused, the first few of them in its message."""
    shown = "; ".join(f"{item.pointer or 'the body'} {item.message}" for item in errors[:3])
    more = f"; and {len(errors) - 3} more" if len(errors) > 3 else ""
    is_filter = all(item.pointer.split("/")[1:2] == ["filter"] for item in errors)
    return (InvalidFilter if is_filter else InvalidInput)(shown + more, errors=errors)


def field_errors(
    error: ValidationError, model: type[BaseModel], value: Any, *, prefix: str = ""
) -> list[FieldError]:
    """Translate a validation error into one `FieldError` per refused field.

    Parameters
    ----------
    error : ValidationError
        Raised by validating ``value`` as ``model``.
    model, value : type, any
        The model, and the parsed JSON that it refused.
    prefix : str
        JSON pointer of the value inside the request.

    Returns
    -------
    list of FieldError
        In the order of pydantic's report, at most `MAX_ERRORS`.
    """
    found: dict[Place, list[ErrorDetails]] = {}
    for details in error.errors(include_url=False):
        found.setdefault(_place(details, value), []).append(details)
    parents = {place[:depth] for place in found for depth in range(len(place))}
    result = []
    for place, several in found.items():
        reasons = _reasons(several, is_parent=place in parents)
        if reasons:
            message = "; ".join(dict.fromkeys(_message(one, model, place, value) for one in reasons))
            if all(_is_mismatch(one) for one in reasons):
                message = _mismatch(reasons)
            result.append(FieldError(prefix + pointer(place), message, _code(reasons[0])))
        if len(result) == MAX_ERRORS:
            break
    return result


def pointer(place: Iterable[str | int]) -> str:
    """Write a location as a JSON pointer (RFC 6901); a step longer than any field name is cut."""
    steps = (str(step)[:MAX_STEP_CHARACTERS] for step in place)
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)


def describe(value: Any) -> str:
    """Name a received value briefly: long texts are cut, containers only counted."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else value[:40] + "...")
    if isinstance(value, int | float):
        text = repr(value)
        return text if len(text) <= 40 else text[:40] + "..."
    if isinstance(value, Mapping):
        return "an object"
    return f"an array of {len(value)}" if isinstance(value, Sequence) else f"a {type(value).__name__}"


def _place(details: ErrorDetails, value: Any) -> Place:
    location = details["loc"]
    names_absent_field = details["type"] == "missing"
    steps: list[str | int] = []
    for position, step in enumerate(location):
        is_inside = (isinstance(value, dict) and step in value) or (
            isinstance(value, list) and isinstance(step, int) and step < len(value)
        )
        if is_inside:
            value = value[step]
            steps.append(step)
        elif names_absent_field and position == len(location) - 1:
            steps.append(step)
    if details["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        steps.append(details["ctx"]["discriminator"].strip("'"))
    return tuple(steps)


def _reasons(several: list[ErrorDetails], *, is_parent: bool) -> list[ErrorDetails]:
    # A branch that accepted the type got further than one that did not, so its reason is the one that helps.
    others = [one for one in several if not _is_mismatch(one)]
    if others or is_parent:
        return others
    return several


def _is_mismatch(details: ErrorDetails) -> bool:
    return details["type"] in _WRONG_TYPE or details["type"] in {"literal_error", "enum"}


def _mismatch(several: list[ErrorDetails]) -> str:
    allowed = dict.fromkeys(
        _WRONG_TYPE.get(one["type"]) or one["ctx"]["expected"].replace("' or '", "', '") for one in several
    )
    if "a number" in allowed:
        allowed.pop("an integer", None)
    *first, last = allowed
    words = f"{', '.join(first)} or {last}" if first else last
    return f"received {describe(several[0]['input'])}, allowed {words}"


def _message(details: ErrorDetails, model: type[BaseModel], place: Place, value: Any) -> str:
    kind = details["type"]
    if kind == "extra_forbidden":
        return f"is unknown; allowed: {', '.join(_allowed_fields(model, place[:-1], value)) or 'nothing'}"
    if kind == "union_tag_not_found":
        return f"is missing; allowed {', '.join(_tags(model, place[:-1]))}"
    if kind == "missing":
        return "is missing"
    context = details.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind in _LENGTHS:
        words, key = _LENGTHS[kind]
        return f"received {len(details['input'])} {words} {context[key]}"
    if kind in _BOUNDS:
        sign, key = _BOUNDS[kind]
        bound = context[key]
        allowed = f"{sign} {bound:g}" if isinstance(bound, float) else f"{sign} {bound}"
    elif kind == "string_pattern_mismatch":
        allowed = _pattern(model, place, context["pattern"])
    elif kind == "union_tag_invalid":
        allowed = context["expected_tags"]
    else:
        allowed = "a finite number" if kind == "finite_number" else details["msg"]
    return f"received {describe(context.get('tag', details['input']))}, allowed {allowed}"


def _code(details: ErrorDetails) -> str:
    kind = details["type"]
    if kind in {"missing", "union_tag_not_found"}:
        return "missing"
    if kind == "extra_forbidden":
        return "unknown"
    if kind in _WRONG_TYPE:
        return "type"
    if kind in _BOUNDS or kind in _LENGTHS:
        return "range"
    return "choice" if kind in {"literal_error", "enum", "union_tag_invalid"} else "invalid"


@cache
def _schema(model: type[BaseModel]) -> Node:
    return model.model_json_schema()


def _expand(nodes: Iterable[Node], root: Node) -> list[Node]:
    """Follow references and unions down to the plain schemas that may apply."""
    plain, waiting = [], list(nodes)
    while waiting:
        node = waiting.pop(0)
        if "$ref" in node:
            waiting.append(root["$defs"][node["$ref"].rsplit("/", 1)[1]])
        branches = [*node.get("anyOf", ()), *node.get("oneOf", ()), *node.get("allOf", ())]
        waiting.extend(branches)
        if not branches and "$ref" not in node:
            plain.append(node)
    return plain


def _schemas_at(model: type[BaseModel], place: Place) -> list[Node]:
    root = _schema(model)
    nodes = _expand([root], root)
    for step in place:
        below = [
            node.get("items") if isinstance(step, int) else node.get("properties", {}).get(step)
            for node in nodes
        ]
        nodes = _expand([node for node in below if isinstance(node, dict)], root)
    return nodes


def _allowed_fields(model: type[BaseModel], place: Place, value: Any) -> list[str]:
    for step in place:
        value = value[step]

    def fit(node: Node) -> int:
        # Of several kinds of object the one meant has most of the fields sent, and the right constants.
        fields = node["properties"]
        return sum(
            -len(value) if "const" in fields[key] and fields[key]["const"] != value[key] else 1
            for key in value
            if key in fields
        )

    kinds = [node for node in _schemas_at(model, place) if "properties" in node]
    best = max(map(fit, kinds), default=0)
    return list(dict.fromkeys(name for node in kinds if fit(node) == best for name in node["properties"]))


def _pattern(model: type[BaseModel], place: Place, pattern: str) -> str:
    for node in _schemas_at(model, place):
        if node.get("pattern") == pattern and "description" in node:
            return str(node["description"])
    return f"text matching {pattern}"


def _tags(model: type[BaseModel], place: Place) -> list[str]:
    kinds = [node.get("properties", {}).get("type", {}) for node in _schemas_at(model, place)]
    return [repr(kind["const"]) for kind in kinds if "const" in kind]
