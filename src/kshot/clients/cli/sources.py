"""Files of examples as lines of NDJSON: one item per line of the file, so that errors carry its numbers.

What is not JSONL is read record by record; a record that spans several lines is followed by blank items.
Nothing is read ahead: a file may be larger than memory.
"""

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

from kshot.errors import InvalidInput, MissingDependency

_CHUNK_BYTES = 1 << 20


class Format(StrEnum):
    """What can be read."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


_SUFFIX_TO_FORMAT = {
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".csv": Format.CSV,
    ".parquet": Format.PARQUET,
    ".pq": Format.PARQUET,
}


def format_of(path: Path) -> Format:
    """Tell the format by the file's name; standard input is JSONL.

    Raises
    ------
    InvalidInput
        The name does not tell.
    """
    if str(path) == "-":
        return Format.JSONL
    try:
        return _SUFFIX_TO_FORMAT[path.suffix.lower()]
    except KeyError:
        names = ", ".join(_SUFFIX_TO_FORMAT)
        raise InvalidInput(f"{path.name} does not end in one of {names}; say which with --format") from None


@dataclass(frozen=True, slots=True)
class Columns:
    """Which fields of a record become which part of an example.

    One name gives one text, several give named fields. Without names ``inputs``, ``outputs`` and ``id`` are
    taken where they exist, and `is_identity` is true.
    """

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()
    id: str | None = None
    is_identity: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_identity", not (self.inputs or self.outputs or self.metadata or self.id))

    def check(self, present: Iterable[str]) -> None:
        """Refuse names that no record has, before anything is sent.

        Raises
        ------
        InvalidInput
            The message lists the columns that there are.
        """
        columns = list(present)
        wanted = [
            *(self.inputs or ("inputs",)),
            *self.outputs,
            *self.metadata,
            *([self.id] if self.id else []),
        ]
        missing = [name for name in wanted if name not in columns]
        if missing:
            raise InvalidInput(
                f"no column {', '.join(missing)}; there are {', '.join(columns)}. Choose with --input-field, "
                "--output-field, --metadata-fields and --id-field"
            )

    def example(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Pick the parts of one record; absent and empty ones are left out."""
        parts: dict[str, Any] = {
            "id": record.get(self.id or "id"),
            "inputs": _picked(record, self.inputs or ("inputs",)),
            "outputs": _picked(record, self.outputs or ("outputs",)),
            "metadata": {name: record[name] for name in self.metadata if record.get(name) not in (None, "")},
        }
        if parts["id"] is not None:
            parts["id"] = str(parts["id"])
        return {name: value for name, value in parts.items() if value not in (None, "", {})}


def _picked(record: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    if len(names) == 1:
        value = record.get(names[0])
        return value if value is None or isinstance(value, str | dict) else str(value)
    fields = {name: record[name] for name in names if record.get(name) not in (None, "")}
    return fields or None


def read_lines(path: Path, form: Format, columns: Columns) -> Iterator[bytes]:
    """Yield the file's examples as NDJSON, one item per line of the file.

    Raises
    ------
    InvalidInput
        The file has no such column, or is not what its format says; the message names the line.
    MissingDependency
        Parquet without pyarrow.
    """
    if form is Format.PARQUET:
        yield from _parquet_lines(path, columns)
    elif form is Format.CSV:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            yield from _csv_lines(stream, columns)
    elif str(path) == "-":
        yield from _jsonl_lines(sys.stdin.buffer, columns)
    else:
        with path.open("rb") as stream:
            yield from _jsonl_lines(stream, columns)


def _jsonl_lines(stream: IO[bytes], columns: Columns) -> Iterator[bytes]:
    for line in stream:
        yield line if columns.is_identity else _mapped(line, columns)


def _mapped(line: bytes, columns: Columns) -> bytes:
    try:
        record = json.loads(line)
    except ValueError:
        return line  # the server rejects it by its number, like any other bad line
    return _dumped(columns.example(record)) if isinstance(record, dict) else line


def _csv_lines(stream: IO[str], columns: Columns) -> Iterator[bytes]:
    reader = csv.DictReader(stream, strict=True)
    try:
        columns.check(reader.fieldnames or ())
        done = reader.line_num
        yield from (b"" for _ in range(done))
        for record in reader:
            yield _dumped(columns.example(record))
            # A quoted value may hold line ends: the record stands on its first line.
            yield from (b"" for _ in range(reader.line_num - done - 1))
            done = reader.line_num
    except (csv.Error, UnicodeDecodeError) as error:
        raise InvalidInput(f"after line {reader.line_num}: this is no CSV in UTF-8: {error}") from None


def _parquet_lines(path: Path, columns: Columns) -> Iterator[bytes]:
    for batch in _open_parquet(path, columns).iter_batches(batch_size=1000):
        for record in batch.to_pylist():
            yield _dumped(columns.example(record))


def _open_parquet(path: Path, columns: Columns) -> Any:
    try:
        import pyarrow as pa  # noqa: PLC0415  (an extra)
        from pyarrow import parquet  # noqa: PLC0415  (an extra)
    except ModuleNotFoundError:
        raise MissingDependency.of("pyarrow", extra="parquet", purpose="reading Parquet") from None
    try:
        file = parquet.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise InvalidInput(f"{path.name} is no Parquet file: {error}") from None
    columns.check(file.schema_arrow.names)
    return file


def _dumped(example: dict[str, Any]) -> bytes:
    return json.dumps(example, default=str).encode("ascii")


def count_lines(path: Path, form: Format) -> int | None:
    """Count what `read_lines` will yield, for a progress bar; None where that is not known beforehand."""
    if str(path) == "-" or form is Format.PARQUET:
        return None
    with path.open("rb") as stream:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: stream.read(_CHUNK_BYTES), b""))
