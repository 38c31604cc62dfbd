"""Plain JSON Lines: one task per line, answered by filling in ``outputs``."""

from collections.abc import Iterable, Sequence
from typing import Any

from kshot.errors import InvalidInput
from kshot.labelling.answers import AnswerFile
from kshot.labelling.parsing import field_names, file_text
from kshot.labelling.tasks import Task, in_rank_order, json_lines
from kshot.labelling.votes import Expected, Votes, line_objects

NAME = "jsonl"


def write_tasks(tasks: Iterable[Task], labels: Sequence[str] = ()) -> bytes:  # noqa: ARG001  (as every format)
    """Write one task per line, the first to label first, with ``outputs`` to be filled in."""
    return json_lines(_task(task) for task in in_rank_order(tasks))


def _task(task: Task) -> dict[str, Any]:
    return {
        "id": task.id,
        "rank": task.rank,
        "inputs": task.inputs,
        "outputs": None,
        "annotator": None,
        "annotated_at": None,
        "suggestion": task.suggestion,
        "gain": task.gain,
        "plan": task.plan_id,
        "pool": task.pool,
        "metadata": dict(task.metadata),
    }


def is_answers(row: dict[str, Any], output_fields: Sequence[str] = ()) -> bool:
    """Tell whether a parsed line has an id and outputs."""
    return "id" in row and any(name in row for name in output_fields or ("outputs",))


def read_answers(data: bytes, expected: Expected) -> AnswerFile:
    """Read lines with ``id`` and ``outputs``, and ``annotator`` and ``annotated_at`` if they are there.

    Lines whose outputs are null or blank are not answered yet. With ``output_fields`` the outputs are made
    of these names instead.

    Raises
    ------
    InvalidInput
        The file is something else.
    """
    votes = Votes(expected)
    wanted = expected.output_fields
    rows = list(line_objects(file_text(data), votes))
    if rows and not any(is_answers(row, wanted) for _, row in rows):
        found = field_names(rows[0][1])
        names = ", ".join(wanted) or "outputs"
        raise InvalidInput(f"wanted lines with id and {names}, received objects with {found}")
    if not rows and votes.problems:
        raise InvalidInput("wanted JSON Lines; no line is a JSON object")
    for line, row in rows:
        own_id = votes.own_id(line, row.get("id"), pool=row.get("pool"), plan=row.get("plan"))
        if own_id is None:
            continue
        votes.add(
            line,
            own_id,
            values={name: row[name] for name in wanted if name in row} if wanted else None,
            outputs=row.get("outputs"),
            annotator=row.get("annotator"),
            annotated_at=row.get("annotated_at"),
        )
    return votes.finish(NAME)
