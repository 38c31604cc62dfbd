"""What is given to annotators: one task per example of a plan."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kshot.errors import InvalidInput
from kshot.formatting import content_text
from kshot.records import Content

RESERVED = "kshot_"
"""Begins the names under which a tool keeps what brings an answer home; no input is written under one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """An example to be annotated, and its place in the plan."""

    id: str
    inputs: Content
    metadata: Mapping[str, Any] = field(default_factory=dict)
    #: 1 is the first to label.
    rank: int = 1
    #: Increase of the plan's objective by this label, in the planner's own unit.
    gain: float | None = None
    plan_id: str | None = None
    pool: str | None = None
    #: What the annotator may start from, such as a model's answer.
    suggestion: Content | None = None

    @property
    def text(self) -> str:
        """The inputs as one text; fields become ``name: value`` lines."""
        return content_text(self.inputs)

    def origin(self) -> dict[str, Any]:
        """Return what every tool keeps beside the task: the id, and which pool and plan it comes from."""
        known = {
            "id": self.id,
            "rank": self.rank,
            "gain": self.gain,
            "plan": self.plan_id,
            "pool": self.pool,
        }
        return {RESERVED + name: value for name, value in known.items() if value is not None}


def in_rank_order(tasks: Iterable[Task]) -> list[Task]:
    """Sort tasks so that the first to label comes first; of equal ranks the one given first."""
    return sorted(tasks, key=lambda task: task.rank)


def json_bytes(value: Any, *, indent: int | None = None) -> bytes:
    """Write JSON that every tool reads.

    Raises
    ------
    InvalidInput
        A value is no JSON: NaN, infinity, a lone surrogate, an object of another type.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"the tasks cannot be written as JSON: {error}") from None


def json_lines(rows: Iterable[Any]) -> bytes:
    """Write one JSON value per line; `InvalidInput` as in `json_bytes`."""
    return b"".join(json_bytes(row) + b"\n" for row in rows)
