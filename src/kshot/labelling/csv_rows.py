"""CSV for spreadsheets: one task per row, answered by filling in ``outputs``."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from kshot.errors import InvalidInput
from kshot.labelling.answers import AnswerFile
from kshot.labelling.parsing import file_text
from kshot.labelling.tasks import RESERVED, Task, in_rank_order
from kshot.labelling.votes import Expected, Votes

NAME = "csv"
_MAX_CELL_CHARACTERS = 2**20
_DELIMITERS = (",", ";", "\t")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_IDS = (RESERVED + "id", "id")
_WHOLE = "outputs"
_FIELD = "outputs."


def write_tasks(tasks: Iterable[Task], labels: Sequence[str] = ()) -> bytes:  # noqa: ARG001  (as every format)
    """Write one task per row, the first to label first, with ``outputs`` to be filled in.

    Inputs with names have one column each (``inputs.subject``). The file starts with a byte order mark, from
    which spreadsheets know UTF-8. A cell that a spreadsheet would take for a formula begins with an
    apostrophe.

    Raises
    ------
    InvalidInput
        A text is no valid Unicode.
    """
    in_order = in_rank_order(tasks)
    names = dict.fromkeys(name for task in in_order for name in _inputs(task))
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    tail = ("suggestion", "gain", "plan", "pool", "metadata")
    writer.writerow(["id", "rank", *map(escaped, names), "outputs", "annotator", "annotated_at", *tail])
    for task in in_order:
        inputs = _inputs(task)
        cells = [task.id, task.rank, *(inputs.get(name) for name in names), None, None, None]
        cells += [task.suggestion, task.gain, task.plan_id, task.pool, dict(task.metadata) or None]
        writer.writerow([_cell(value) for value in cells])
    try:
        return stream.getvalue().encode("utf-8-sig")
    except UnicodeEncodeError as error:
        raise InvalidInput(f"a text is not valid Unicode (lone surrogate at {error.start})") from None


def _inputs(task: Task) -> dict[str, Any]:
    if isinstance(task.inputs, str):
        return {"inputs": task.inputs}
    return {f"inputs.{name}": value for name, value in task.inputs.items()}


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, int | float):
        return value
    return escaped(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def escaped(text: str) -> str:
    """Put an apostrophe before what a spreadsheet would take for a formula, or what starts with one."""
    return f"'{text}" if text.startswith((*_FORMULA, "'")) else text


def unescaped(text: str) -> str:
    """Undo `escaped`."""
    return text[1:] if text.startswith("'") and text[1:].startswith((*_FORMULA, "'")) else text


def read_answers(data: bytes, expected: Expected) -> AnswerFile:
    """Read rows with ``id`` and ``outputs``, and ``annotator`` and ``annotated_at`` if they are there.

    Outputs with names have one column each (``outputs.label``), or any columns that ``output_fields`` names.
    Rows without outputs are not answered yet. Columns are set apart by comma, semicolon or tab. A CSV export
    of Label Studio is read as well, by its ``kshot_id`` and ``kshot_outputs``.

    Raises
    ------
    InvalidInput
        The file has no such columns.
    """
    text = file_text(data)
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_CELL_CHARACTERS))
    votes = Votes(expected)
    delimiter, header = _header(text)
    id_column = _first(header, *_IDS)
    column_to_name = _output_columns(header, expected.output_fields)
    if id_column is None or not column_to_name:
        wanted = ", ".join(expected.output_fields) or "outputs"
        raise InvalidInput(f"wanted CSV with the columns id and {wanted}, received {described(text)}")
    pool, plan = (_first(header, RESERVED + name, name) for name in ("pool", "plan"))
    time = _first(header, "annotated_at", "updated_at")
    rows = _rows(text, delimiter, votes)
    next(rows)  # the header
    for line, cells in rows:
        if len(cells) > len(header):
            votes.problem(line, "invalid_row", f"has {len(cells)} cells, the header {len(header)}")
            continue
        row = dict(zip(header, cells, strict=False))
        own_id = votes.own_id(
            line, unescaped(row.get(id_column, "")), pool=_plain(row, pool), plan=_plain(row, plan)
        )
        if own_id is None:
            continue
        values = {name: row.get(column) for column, name in column_to_name.items()}
        votes.add(
            line,
            own_id,
            values=values if expected.output_fields else None,
            outputs=values.get(_WHOLE, values),
            annotator=row.get("annotator"),
            annotated_at=row.get(time) if time else None,
        )
    return votes.finish(NAME)


def is_answers(text: str, output_fields: Sequence[str] = ()) -> bool:
    """Tell whether the first row of a text has an id and outputs."""
    _, names = _header(text)
    return bool(_output_columns(names, output_fields))


def _header(text: str) -> tuple[str, list[str]]:
    """Return the delimiter and the names of the first row; no names if none of them is an id."""
    first = text.lstrip("\r\n").split("\n", 1)[0]
    for delimiter in _DELIMITERS:
        try:
            names = next(csv.reader([first], delimiter=delimiter, strict=True), [])
        except csv.Error:
            continue
        if _first(names, *_IDS) is not None:
            return delimiter, names
    return ",", []


def _rows(text: str, delimiter: str, votes: Votes) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not blank, with the line on which each begins; report those that are no CSV."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            votes.problem(line, "invalid_row", f"is no CSV: {error}")
            cells = []
        if any(cell.strip() for cell in cells):
            yield line, cells
        line = reader.line_num + 1


def _output_columns(header: Sequence[str], wanted: Sequence[str]) -> dict[str, str]:
    """Map the columns that hold outputs to the names that they have there."""
    if wanted:
        return {name: name for name in wanted if name in header}
    if (whole := _first(header, RESERVED + _WHOLE, _WHOLE)) is not None:
        return {whole: _WHOLE}
    return {name: name.removeprefix(_FIELD) for name in header if name.startswith(_FIELD)}


def _first(header: Sequence[str], *names: str) -> str | None:
    return next((name for name in names if name in header), None)


def _plain(row: dict[str, str], column: str | None) -> str | None:
    return None if column is None or column not in row else unescaped(row[column])


def described(text: str) -> str:
    """Name what a text is in a message: its columns, if one of them is an id."""
    _, header = _header(text)
    if header:
        return ", ".join(header[:10])[:200]
    first = text.lstrip("\r\n").split("\n", 1)[0]
    return f"a first line of {len(first)} characters without an id" if first.strip() else "an empty file"
