"""The example files: beside this module in a wheel, in ``examples/`` of the repository otherwise."""

import json
from dataclasses import dataclass
from pathlib import Path

from kshot.errors import InvalidInput
from kshot.records import Content

TICKETS = "support_tickets.jsonl"
QUERIES = "support_queries.jsonl"

_HERE = Path(__file__).resolve().parent
_FOLDERS = (_HERE / "data", _HERE.parents[3] / "examples")


@dataclass(frozen=True, slots=True)
class SampleQuery:
    """A query, and the answer that is expected if one is known."""

    inputs: Content
    outputs: Content | None


def sample_path(name: str) -> Path:
    """Find an example file.

    Raises
    ------
    InvalidInput
        The installation lacks it.
    """
    for folder in _FOLDERS:
        if (folder / name).is_file():
            return folder / name
    raise InvalidInput(f"{name} is not part of this installation; name a file instead")


def read_queries(path: Path) -> list[SampleQuery]:
    """Read queries from JSONL lines with ``inputs`` and perhaps ``outputs``.

    Raises
    ------
    InvalidInput
        A line is not like that.
    """
    queries = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            queries.append(SampleQuery(row["inputs"], row.get("outputs")))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InvalidInput(f"{path.name} line {number} is no JSON object with inputs") from None
    return queries
