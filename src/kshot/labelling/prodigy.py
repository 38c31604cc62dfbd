"""Prodigy: a stream of tasks as JSON Lines, and what ``prodigy db-out`` writes.

Prodigy is no open source; the format follows its public documentation.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from kshot.errors import InvalidInput
from kshot.labelling.answers import AnswerFile, Verdict
from kshot.labelling.outputs import Unsupported
from kshot.labelling.parsing import field_names, file_text, kind_of
from kshot.labelling.tasks import RESERVED, Task, in_rank_order, json_lines
from kshot.labelling.votes import Expected, Votes, line_objects

NAME = "prodigy"
QUESTION = "outputs"
_ANSWER_TO_VERDICT = {"accept": Verdict.GIVEN, "reject": Verdict.REJECTED, "ignore": Verdict.SKIPPED}
_ANSWERING = ("accept", "user_input", "label")
_MARKING = ("spans", "relations", "audio_spans", "image_spans")


def write_tasks(tasks: Iterable[Task], labels: Sequence[str] = ()) -> bytes:
    """Write one task per line, the first to label first, as Prodigy serves a stream in its order.

    ``text`` is what is shown, ``fields`` has the inputs' fields for templates of your own, ``meta`` brings
    the answer home. With labels there are ``options`` for the ``choice`` interface, and a suggestion among
    them is chosen already (``accept``). Without, a suggestion that is a text becomes the ``label`` of a
    yes-or-no question.
    """
    return json_lines(_task(task, labels) for task in in_rank_order(tasks))


def _task(task: Task, labels: Sequence[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"text": task.text}
    if isinstance(task.inputs, dict):
        row["fields"] = task.inputs
    if labels:
        row["options"] = [{"id": label, "text": label} for label in labels]
        if task.suggestion in labels:
            row["accept"] = [task.suggestion]
    elif isinstance(task.suggestion, str):
        row["label"] = task.suggestion
    row["meta"] = task.origin()
    return row


def is_export(row: dict[str, Any]) -> bool:
    """Tell whether a parsed line was answered in Prodigy."""
    return "answer" in row and ("meta" in row or "_input_hash" in row or "_task_hash" in row)


def read_answers(data: bytes, expected: Expected) -> AnswerFile:
    """Read annotated tasks.

    Accepted tasks are answers: the chosen option (``accept``), else the text that was written
    (``user_input``), else the ``label``; other fields of a task count if they are asked for. Rejected and
    ignored tasks give none.

    Raises
    ------
    InvalidInput
        The file is something else.
    """
    votes = Votes(expected)
    rows = list(line_objects(file_text(data), votes))
    if rows and not any(is_export(row) for _, row in rows):
        found = field_names(rows[0][1])
        raise InvalidInput(
            f"wanted lines of `prodigy db-out`, received objects with {found}, without an answer"
        )
    if not rows and votes.problems:
        raise InvalidInput("wanted lines of `prodigy db-out`; no line is a JSON object")
    for line, row in rows:
        _read_row(line, row, votes)
    return votes.finish(NAME)


def _read_row(line: int, row: dict[str, Any], votes: Votes) -> None:
    meta = row.get("meta")
    origin = meta if isinstance(meta, dict) else {}
    own_id = votes.own_id(
        line,
        origin.get(RESERVED + "id"),
        pool=origin.get(RESERVED + "pool"),
        plan=origin.get(RESERVED + "plan"),
    )
    if own_id is None:
        return
    answer = row.get("answer")
    verdict = _ANSWER_TO_VERDICT.get(answer) if isinstance(answer, str) else None
    if verdict is None:
        received = repr(answer[:40]) if isinstance(answer, str) else kind_of(answer)
        message = f"its answer is {received}, allowed are {', '.join(_ANSWER_TO_VERDICT)}"
        votes.problem(line, "invalid_row", message, id=own_id)
        return
    votes.add(
        line,
        own_id,
        values=_values(row, votes.expected.output_fields),
        verdict=verdict,
        annotator=row.get("_annotator_id") or row.get("_session_id"),
        annotated_at=row.get("_timestamp"),
    )


def _values(row: dict[str, Any], wanted: Sequence[str]) -> dict[str, Any]:
    if wanted:
        return {name: row[name] for name in wanted if name in row}
    for name in _ANSWERING:
        if row.get(name) is not None:
            return {QUESTION: row[name]}
    marks = next((name for name in _MARKING if row.get(name)), None)
    return {} if marks is None else {QUESTION: Unsupported(f"a list of {marks}")}
