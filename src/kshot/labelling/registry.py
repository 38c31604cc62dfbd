"""The formats by name, and the guess of a file's format."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from kshot.errors import InvalidInput, InvalidParameter
from kshot.labelling import argilla, csv_rows, jsonl_rows, label_studio, prodigy
from kshot.labelling.answers import AnswerFile
from kshot.labelling.parsing import described, file_text, parse_json
from kshot.labelling.tasks import Task
from kshot.labelling.votes import Expected

AUTO: Final = "auto"


@dataclass(frozen=True, slots=True)
class LabellingFormat:
    """How a tool takes tasks, and how it gives answers back."""

    name: str
    #: What the tool's files are usually called.
    suffix: str
    write_tasks: Callable[[Iterable[Task], Sequence[str]], bytes]
    read_answers: Callable[[bytes, Expected], AnswerFile]


FORMATS: Final[Mapping[str, LabellingFormat]] = MappingProxyType(
    {
        module.NAME: LabellingFormat(module.NAME, suffix, module.write_tasks, module.read_answers)
        for module, suffix in (
            (label_studio, ".json"),
            (argilla, ".json"),
            (prodigy, ".jsonl"),
            (csv_rows, ".csv"),
            (jsonl_rows, ".jsonl"),
        )
    }
)
"""Every format by its name."""


def tasks_file(form: str, tasks: Iterable[Task], *, labels: Sequence[str] = ()) -> bytes:
    """Write tasks as a labelling tool imports them, in the order of their ranks.

    Parameters
    ----------
    form : str
        A name of `FORMATS`.
    tasks : iterable of Task
    labels : sequence of str
        What an annotator chooses from, for the formats that carry it; without, answers are written.

    Raises
    ------
    InvalidParameter
        There is no such format.
    InvalidInput
        A task cannot be written: a value is no JSON, or a text no valid Unicode.
    """
    return _format_of(form).write_tasks(tasks, labels)


def read_answers(
    data: bytes,
    form: str = AUTO,
    *,
    pool: str | None = None,
    plan: str | None = None,
    output_fields: Sequence[str] = (),
) -> AnswerFile:
    """Read what a labelling tool exports.

    A bad row becomes a `Problem` and stops no other.

    Parameters
    ----------
    data : bytes
        UTF-8, with or without a byte order mark; line ends of any system.
    form : str
        A name of `FORMATS`, or ``auto``: the file shows what it is.
    pool, plan : str, optional
        Where the answers should belong; rows that name another are reported as ``other_project``.
    output_fields : sequence of str
        Which of the tool's questions make the outputs: one gives a text, several give named fields. Default:
        all that the file has answers to.

    Raises
    ------
    InvalidParameter
        There is no such format.
    InvalidInput
        The whole file is something else, or has no answer to any of the questions asked for.
    PayloadTooLarge
        The file has more than 256 MiB.
    """
    expected = Expected(pool=pool, plan=plan, output_fields=tuple(output_fields))
    name = recognised(data, output_fields) if form == AUTO else form
    return _format_of(name).read_answers(data, expected)


def recognised(data: bytes, output_fields: Sequence[str] = ()) -> str:
    """Tell the format of a file of answers by what is in it; ``output_fields`` as in `read_answers`.

    Raises
    ------
    InvalidInput
        It is none of `FORMATS`.
    """
    text = file_text(data)
    stripped = text.lstrip()
    if stripped.startswith(("[", "{")):
        found, received = _of_json(stripped, output_fields)
    else:
        found = csv_rows.NAME if csv_rows.is_answers(text, output_fields) else None
        received = csv_rows.described(text)
    if found is not None:
        return found
    raise InvalidInput(
        f"this is no file of answers: received {received}; allowed are a JSON or JSON_MIN export of Label "
        "Studio, records of Argilla with responses, lines of `prodigy db-out`, and JSON Lines or CSV with id "
        "and " + (", ".join(output_fields) or "outputs")
    )


def _of_json(text: str, output_fields: Sequence[str]) -> tuple[str | None, str]:
    """Return the format, if it is one, and in words what the text holds."""
    try:
        value: Any = parse_json(text)
    except ValueError:
        value = rows = _first_lines(text)
    else:
        if value == [] or label_studio.is_export(value):
            return label_studio.NAME, described(value)
        # A single line of JSON Lines is an object as well.
        rows = [value]
    found = _of_rows(rows, output_fields) or (argilla.NAME if argilla.is_export(value) else None)
    return found, described(value)


def _first_lines(text: str) -> list[Any]:
    rows = []
    for line in text.split("\n", 1000)[:1000]:
        try:
            rows.append(parse_json(line))
        except ValueError:
            continue
    return rows


def _of_rows(rows: Sequence[Any], output_fields: Sequence[str]) -> str | None:
    for row in rows:
        if isinstance(row, dict) and prodigy.is_export(row):
            return prodigy.NAME
        if isinstance(row, dict) and jsonl_rows.is_answers(row, output_fields):
            return jsonl_rows.NAME
    return None


def _format_of(name: str) -> LabellingFormat:
    try:
        return FORMATS[name]
    except KeyError:
        allowed = ", ".join(FORMATS)
        raise InvalidParameter(f"there is no format {name[:40]!r}, allowed are {allowed}") from None
