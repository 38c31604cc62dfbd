"""From rows of any accepted kind to batches that are sent."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from kshot.clients.sdk.calls.base import encode
from kshot.errors import InvalidInput, InvalidParameter
from kshot.records import Content
from kshot.schemas.examples import ExampleIn, UpsertReply

Row: TypeAlias = Mapping[str, Any] | ExampleIn | tuple[Content, Content]
"""One example: its fields, or just ``(inputs, outputs)``."""

MAX_BATCH_BYTES = 4_000_000
"""A batch is closed early rather than let it grow beyond this; one larger row travels alone."""
MAX_BATCH_ROWS = 10_000


@dataclass(slots=True)
class Batch:
    """Rows as JSON, and the line of the source that each one stands on, counted from 1."""

    rows: list[bytes] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    size: int = 0

    def add(self, line: int, row: bytes) -> None:
        """Append one row."""
        self.rows.append(row)
        self.lines.append(line)
        self.size += len(row)

    def in_source_lines(self, reply: UpsertReply) -> UpsertReply:
        """Let a reply speak of the source's lines instead of the batch's."""
        return reply.model_copy(
            update={
                "rejected": [
                    row.model_copy(update={"line": self.lines[row.line - 1]}) for row in reply.rejected
                ],
                "notices": [
                    row.model_copy(update={"line": self.lines[row.line - 1]}) for row in reply.notices
                ],
                "upto_line": self.lines[-1],
            }
        )


def numbered_rows(examples: Iterable[Row]) -> Iterator[tuple[int, bytes]]:
    """Write examples as JSON.

    Raises
    ------
    InvalidInput
        A row is neither fields nor a pair, or cannot be written as JSON; the message names its line.
    """
    if isinstance(examples, str | Mapping):
        raise InvalidInput(f"examples is one {type(examples).__name__}, wanted an iterable of examples")
    for line, example in enumerate(examples, start=1):
        try:
            yield line, encode(_as_fields(example))
        except InvalidInput as error:
            raise InvalidInput(f"row {line}: {error.message}") from error


def _as_fields(example: Row) -> Mapping[str, Any] | ExampleIn:
    if isinstance(example, Mapping | ExampleIn):
        return example
    if isinstance(example, tuple) and len(example) == 2:
        return {"inputs": example[0], "outputs": example[1]}
    raise InvalidInput(
        f"{type(example).__name__} is no example; wanted a dict, ExampleIn or (inputs, outputs)"
    )


def numbered_lines(lines: Iterable[bytes | str]) -> Iterator[tuple[int, bytes]]:
    """Count lines of NDJSON from 1 and leave out the blank ones."""
    for number, line in enumerate(lines, start=1):
        # A lone surrogate travels as invalid UTF-8: the server then rejects this line and no other.
        row = line.encode("utf-8", "surrogatepass") if isinstance(line, str) else line
        if row := row.strip():
            yield number, row


def batches(rows: Iterable[tuple[int, bytes]], batch_size: int) -> Iterator[Batch]:
    """Cut rows into batches of at most ``batch_size`` rows and about `MAX_BATCH_BYTES`.

    Raises
    ------
    InvalidParameter
        ``batch_size`` is outside 1 to 10,000.
    """
    if not 1 <= batch_size <= MAX_BATCH_ROWS:
        raise InvalidParameter(f"batch_size is {batch_size}, allowed: 1 to {MAX_BATCH_ROWS}")
    batch = Batch()
    for line, row in rows:
        if batch.rows and (len(batch.rows) == batch_size or batch.size + len(row) > MAX_BATCH_BYTES):
            yield batch
            batch = Batch()
        batch.add(line, row)
    if batch.rows:
        yield batch
