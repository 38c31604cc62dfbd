"""The filter language: JSON predicates over what is known about an example.

``{"all": [...]}``, ``{"any": [...]}`` and ``{"not": {...}}`` combine conditions; a condition names a field
and one or more comparisons, all of which must hold::

    {"all": [{"field": "metadata.lang", "in": ["en", "de"]}, {"field": "metadata.priority", "gte": 2}]}

Fields are ``id``, ``label``, ``split``, ``status``, ``group``, ``subject_id`` and ``metadata.<name>``
(dots reach into nested objects). A row without the field matches no comparison but ``{"exists": false}``.
Numbers compare with numbers, texts with texts, booleans with booleans; values of different kinds are never
equal (so ``ne`` holds), smaller or larger. ``contains`` looks for an item of a list or a part of a text; a
list itself equals nothing.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from kshot.schemas.base import Request

Scalar = bool | int | Annotated[float, Field(allow_inf_nan=False)] | str
Ordered = int | Annotated[float, Field(allow_inf_nan=False)] | str
MAX_FILTER_NODES = 256
MAX_FILTER_DEPTH = 16
PLAIN_FIELDS = ("id", "label", "split", "status", "group", "subject_id")
COMPARISONS = ("eq", "ne", "in", "gt", "gte", "lt", "lte", "exists", "contains")


class Condition(Request):
    """Comparisons of one field; all must hold."""

    field: str
    eq: Scalar | None = None
    ne: Scalar | None = None
    in_: Annotated[list[Scalar], Field(max_length=10_000)] | None = Field(default=None, alias="in")
    gt: Ordered | None = None
    gte: Ordered | None = None
    lt: Ordered | None = None
    lte: Ordered | None = None
    exists: bool | None = None
    contains: Scalar | None = None

    @field_validator("field")
    @classmethod
    def _known_field(cls, value: str) -> str:
        if value in PLAIN_FIELDS or (value.startswith("metadata.") and len(value) > len("metadata.")):
            return value
        raise ValueError(f"received {value!r}, allowed {', '.join(PLAIN_FIELDS)} and metadata.<name>")

    @model_validator(mode="after")
    def _compares_something(self) -> Condition:
        if all(comparison is None for _, comparison in self.comparisons()):
            raise ValueError(f"compares nothing; allowed comparisons: {', '.join(COMPARISONS)}")
        return self

    def comparisons(self) -> list[tuple[str, Any]]:
        """Return (operator, operand) pairs; the operand is None where the operator is not used."""
        return [(name, getattr(self, "in_" if name == "in" else name)) for name in COMPARISONS]


class All(Request):
    """True where every part is; an empty list is true."""

    all: list[Filter]


class Any_(Request):  # noqa: N801  (Any is a name of typing)
    """True where at least one part is; an empty list is false."""

    any: list[Filter]


class Not(Request):
    """True where the part is not."""

    not_: Filter = Field(alias="not")


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        for key in ("all", "any", "not"):
            if key in value:
                return key
        return "condition"
    parsed: dict[type[Any], str] = {All: "all", Any_: "any", Not: "not"}
    return parsed.get(type(value), "condition")


Filter = Annotated[
    Annotated[All, Tag("all")]
    | Annotated[Any_, Tag("any")]
    | Annotated[Not, Tag("not")]
    | Annotated[Condition, Tag("condition")],
    Discriminator(_kind),
]

All.model_rebuild()
Any_.model_rebuild()
Not.model_rebuild()


def check_size(value: Any, depth: int = 1) -> int:
    """Count the nodes of a raw filter and refuse one that is too large or too deep, before it is parsed.

    Raises
    ------
    ValueError
        More than `MAX_FILTER_NODES` nodes or `MAX_FILTER_DEPTH` levels.
    """
    if depth > MAX_FILTER_DEPTH:
        raise ValueError(f"is nested deeper than {MAX_FILTER_DEPTH} levels")
    if not isinstance(value, dict):
        return 1
    lists = [value[key] for key in ("all", "any") if isinstance(value.get(key), list)]
    parts = [value.get("not"), *(part for parts in lists for part in parts)]
    nodes = 1 + sum(check_size(part, depth + 1) for part in parts if part is not None)
    if nodes > MAX_FILTER_NODES:
        raise ValueError(f"has more than {MAX_FILTER_NODES} parts")
    return nodes
