"""Argilla 2: records as ``Dataset.records.from_json`` takes them, and what its exports hold.

A record's field is ``text`` and its question ``outputs``. Four shapes of responses are read: by question (as
``to_json`` and ``to_list`` write them), flattened (``to_list(flatten=True)``, data sets of Hugging Face), a
list by question, and a list by user (as the server's interface has them).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from kshot.errors import InvalidInput
from kshot.labelling.answers import AnswerFile, Verdict
from kshot.labelling.outputs import Unsupported
from kshot.labelling.parsing import described, file_text, parse_json
from kshot.labelling.tasks import RESERVED, Task, in_rank_order, json_bytes
from kshot.labelling.votes import Expected, Votes, line_objects, objects

NAME = "argilla"
FIELD = "text"
QUESTION = "outputs"
_RESPONSES = ".responses"
_STATUS_TO_VERDICT = {"submitted": Verdict.GIVEN, "discarded": Verdict.SKIPPED}


def write_tasks(tasks: Iterable[Task], labels: Sequence[str] = ()) -> bytes:  # noqa: ARG001  (its questions are settings)
    """Write records, in rank order; a suggestion becomes one to the question ``outputs``, or to each field's.

    The metadata has ``kshot_rank`` to sort by, ``kshot_gain``, ``kshot_plan`` and ``kshot_pool``.
    """
    return json_bytes([_record(task) for task in in_rank_order(tasks)], indent=1)


def _record(task: Task) -> dict[str, Any]:
    origin = task.origin()
    record_id = origin.pop(RESERVED + "id")
    suggested = {QUESTION: task.suggestion} if isinstance(task.suggestion, str) else task.suggestion or {}
    return {
        "id": record_id,
        "fields": {FIELD: task.text},
        "metadata": origin,
        "suggestions": {name: {"value": value, "agent": "kshot"} for name, value in suggested.items()},
        "responses": {},
        "vectors": {},
    }


def is_export(value: Any) -> bool:
    """Tell whether parsed JSON has records with responses, in any of the shapes."""
    return any(_has_responses(row) for row in _rows(value) if isinstance(row, dict))


def read_answers(data: bytes, expected: Expected) -> AnswerFile:
    """Read exported records.

    Submitted responses are answers, discarded ones skips, drafts are reported as ``unfinished``. Where the
    export has no status (``to_json`` leaves it out), responses count once the record is completed.

    Raises
    ------
    InvalidInput
        The file is something else.
    """
    text = file_text(data)
    votes = Votes(expected)
    try:
        value = parse_json(text)
    except ValueError as error:
        numbered = list(line_objects(text, votes))
        if not any(_has_responses(row) for _, row in numbered):
            raise InvalidInput(f"wanted records of Argilla as JSON; this is none: {error}") from None
    else:
        if value != [] and not is_export(value):
            raise InvalidInput(f"wanted records of Argilla with responses, received {described(value)}")
        numbered = list(objects(_rows(value), votes))
    for place, record in numbered:
        _read_record(place, record, votes)
    return votes.finish(NAME)


def _rows(value: Any) -> Iterable[Any]:
    """Return the records of a list, of columns (``to_dict()``), or by id (``orient="index"``)."""
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        return []
    if _has_responses(value) and not isinstance(value.get("id"), list):
        return [value]
    if isinstance(value.get("id"), list):
        columns = {name: column for name, column in value.items() if isinstance(column, list)}
        return [dict(zip(columns, cells, strict=False)) for cells in zip(*columns.values(), strict=False)]
    return value.values()


def _has_responses(row: dict[str, Any]) -> bool:
    # Label Studio's tasks have no responses, and other tools' rows none beside an id.
    return "id" in row and ("responses" in row or any(name.endswith(_RESPONSES) for name in row))


def _read_record(place: int, record: dict[str, Any], votes: Votes) -> None:
    metadata = record.get("metadata")
    origin = metadata if isinstance(metadata, dict) else record
    found = record.get("external_id") or record.get("id")
    own_id = votes.own_id(
        place, found, pool=origin.get(RESERVED + "pool"), plan=origin.get(RESERVED + "plan")
    )
    if own_id is None:
        return
    try:
        responses = list(_responses(record))
    except (TypeError, ValueError, AttributeError, KeyError):
        votes.problem(
            place, "invalid_row", "its responses have a shape that Argilla does not write", id=own_id
        )
        return
    if not responses:
        votes.unanswered += 1
    # One user answers all questions at once, so status and time are the same in each response.
    by_user: dict[str | None, list[_Response]] = {}
    for response in responses:
        by_user.setdefault(response.user, []).append(response)
    for user, several in by_user.items():
        verdict = _verdict(several[0].status, record.get("status"))
        if verdict is None:
            message = "a response is a draft, or the record is not completed"
            votes.problem(place, "unfinished", message, id=own_id)
            continue
        values = {response.question: _value(response.value) for response in several}
        votes.add(place, own_id, values=values, verdict=verdict, annotator=user, annotated_at=several[0].time)


class _Response(NamedTuple):
    question: str
    value: Any
    user: str | None
    status: Any
    time: Any = None

    @classmethod
    def of(cls, question: str, value: Any, user: Any, status: Any, time: Any = None) -> "_Response":
        if not isinstance(user, str | None):
            raise TypeError
        return cls(question, value, user, status, time)


def _verdict(status: Any, record_status: Any) -> Verdict | None:
    if status is None:
        return Verdict.GIVEN if record_status in (None, "completed") else None
    return _STATUS_TO_VERDICT.get(status) if isinstance(status, str) else None


def _responses(record: dict[str, Any]) -> Iterator[_Response]:
    """Yield what users answered; any error means that the shape is none of Argilla's."""
    found = record.get("responses")
    if isinstance(found, dict):
        for question, several in found.items():
            for one in several:
                yield _Response.of(question, one.get("value"), one.get("user_id"), one.get("status"))
    elif isinstance(found, list):
        for one in found:
            yield from _listed(one)
    elif found is None:
        yield from _flat(record)
    else:
        raise TypeError


def _listed(one: dict[str, Any]) -> Iterator[_Response]:
    user, status = one.get("user_id"), one.get("status")
    time = one.get("updated_at") or one.get("inserted_at")
    if "question_name" in one:
        yield _Response.of(str(one["question_name"]), one.get("value"), user, status, time)
        return
    # A discarded response may have no values, and says all the same that the user was here.
    for question, value in (one["values"] or {"": {}}).items():
        yield _Response.of(question, value.get("value"), user, status, time)


def _flat(record: dict[str, Any]) -> Iterator[_Response]:
    for name, values in record.items():
        if not name.endswith(_RESPONSES) or values is None:
            continue
        users = record.get(f"{name}.users") or [None] * len(values)
        statuses = record.get(f"{name}.status") or [None] * len(values)
        for value, user, status in zip(values, users, statuses, strict=True):
            yield _Response.of(name.removesuffix(_RESPONSES), value, user, status)


def _value(value: Any) -> Any:
    if isinstance(value, list) and any(isinstance(one, dict | list) for one in value):
        return Unsupported("a list of spans or ranks")
    return value
