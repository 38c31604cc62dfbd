"""Label Studio: tasks as it imports them, a matching interface, and its JSON and JSON_MIN exports."""

import re
from collections.abc import Iterable, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

from kshot.errors import InvalidInput, InvalidParameter
from kshot.labelling.answers import AnswerFile, Verdict
from kshot.labelling.outputs import Unsupported
from kshot.labelling.parsing import described, file_text, kind_of, parse_json
from kshot.labelling.tasks import RESERVED, Task, in_rank_order, json_bytes
from kshot.labelling.votes import Expected, Votes, objects

NAME = "label-studio"
CONTROL = RESERVED + "outputs"
"""The question that `label_studio_config` asks, and that suggestions belong to."""
FIELDS = RESERVED + "fields"
"""Names the inputs among a task's data, which JSON_MIN mixes with the answers."""

_OF_JSON_MIN = {
    "id",
    "annotator",
    "annotation_id",
    "created_at",
    "updated_at",
    "lead_time",
    "agreement",
}
_TYPE_TO_KEY = {
    "choices": "choices",
    "textarea": "text",
    "rating": "rating",
    "number": "number",
    "datetime": "datetime",
}
_VARIABLE = re.compile(r"[A-Za-z_]\w*")
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LONG_LIST = 20
_WANTED = "wanted a JSON or JSON_MIN export of Label Studio"


def write_tasks(tasks: Iterable[Task], labels: Sequence[str] = ()) -> bytes:
    """Write the JSON list that *Import* and ``POST /api/projects/{id}/import`` take.

    ``data`` holds the text, or the fields and the text made of them, and what brings the answer home:
    ``kshot_id``, ``kshot_rank``, ``kshot_plan``, ``kshot_pool``. Each task has a prediction whose ``score``
    is 1 / rank, by which the Data Manager sorts; a suggestion that is a text, and one of the labels if there
    are any, is its result.

    Parameters
    ----------
    tasks : iterable of Task
    labels : sequence of str
        As for `label_studio_config`: suggestions are choices if there are any, else free text.
    """
    return json_bytes([_task(task, labels) for task in in_rank_order(tasks)], indent=1)


def _task(task: Task, labels: Sequence[str]) -> dict[str, Any]:
    shown: dict[str, Any] = {"text": task.text}
    if isinstance(task.inputs, dict):
        named = {name: value for name, value in task.inputs.items() if not name.startswith(RESERVED)}
        shown = named if isinstance(named.get("text"), str) else {**named, **shown}
    result = []
    if isinstance(task.suggestion, str) and (not labels or task.suggestion in labels):
        kind, key = ("choices", "choices") if labels else ("textarea", "text")
        value = {key: [task.suggestion]}
        result.append({"from_name": CONTROL, "to_name": "text", "type": kind, "value": value})
    model = task.plan_id or "kshot"
    return {
        "data": {
            **shown,
            **task.origin(),
            FIELDS: list(shown),
            RESERVED + "metadata": dict(task.metadata),
        },
        "predictions": [{"model_version": model, "score": 1 / max(1, task.rank), "result": result}],
    }


def label_studio_config(labels: Sequence[str] = (), fields: Sequence[str] = ("text",)) -> str:
    """Make the labelling interface (XML) for tasks of `write_tasks`.

    Parameters
    ----------
    labels : sequence of str
        One of these is chosen; without any the annotator writes the outputs.
    fields : sequence of str
        What is shown of a task's data: ``text``, or the names of the inputs' fields.

    Raises
    ------
    InvalidParameter
        A label occurs twice, is empty or cannot stand in XML; a field's name cannot be a variable.
    """
    if len(set(labels)) < len(labels):
        raise InvalidParameter("a label occurs twice")
    if bad := [label for label in labels if not label.strip() or _NO_XML.search(label)]:
        raise InvalidParameter(f"label {bad[0]!r} is blank or has characters that XML does not know")
    if not fields or (bad := [name for name in fields if not _VARIABLE.fullmatch(name)]):
        raise InvalidParameter(
            f"fields are {list(fields)}, allowed: letters, digits and _; `text` has all of them"
        )
    shown = [f"  <Text name={quoteattr(name)} value={quoteattr('$' + name)}/>" for name in fields]
    to_name = quoteattr(fields[0])
    if labels:
        layout = 'layout="select"' if len(labels) > _LONG_LIST else 'showInLine="true"'
        choices = "\n".join(f"    <Choice value={quoteattr(label)}/>" for label in labels)
        head = f'  <Choices name="{CONTROL}" toName={to_name} choice="single" required="true" {layout}>'
        question = f"{head}\n{choices}\n  </Choices>"
    else:
        question = (
            f'  <TextArea name="{CONTROL}" toName={to_name} rows="4" maxSubmissions="1" editable="true" '
            'required="true"/>'
        )
    return "\n".join(["<View>", *shown, question, "</View>", ""])


def is_export(value: Any) -> bool:
    """Tell whether parsed JSON is one of the two exports."""
    rows = [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
    return any("annotations" in row or "annotation_id" in row for row in rows)


def read_answers(data: bytes, expected: Expected) -> AnswerFile:
    """Read a JSON or JSON_MIN export.

    Of several annotations of a task the one that was submitted last counts; cancelled ones are skips.

    Raises
    ------
    InvalidInput
        The file is something else.
    """
    try:
        value = parse_json(file_text(data))
    except ValueError as error:
        raise InvalidInput(f"{_WANTED}; this is no JSON: {error}") from None
    if value != [] and not is_export(value):
        raise InvalidInput(f"{_WANTED}, with annotations; received {described(value)}")
    votes = Votes(expected)
    for place, row in objects(value, votes):
        if "annotations" in row:
            _read_task(place, row, votes)
        else:
            _read_flat(place, row, votes)
    return votes.finish(NAME)


def _read_task(place: int, task: dict[str, Any], votes: Votes) -> None:
    data = task.get("data")
    if not isinstance(data, dict):
        votes.problem(place, "invalid_row", f"its data is {kind_of(data)}, wanted an object")
        return
    own_id = _own_id(place, data, votes)
    annotations = task["annotations"]
    if own_id is None:
        return
    if not isinstance(annotations, list):
        message = f"its annotations are {kind_of(annotations)}, wanted a list"
        votes.problem(place, "invalid_row", message, id=own_id)
        return
    if not annotations:
        votes.unanswered += 1
    for annotation in annotations:
        if not isinstance(annotation, dict) or not isinstance(annotation.get("result", []), list):
            votes.problem(
                place, "invalid_row", "an annotation is no object with a list of results", id=own_id
            )
            continue
        values = _values(annotation.get("result", []))
        is_skip = annotation.get("was_cancelled") is True or not values
        votes.add(
            place,
            own_id,
            values=values,
            verdict=Verdict.SKIPPED if is_skip else Verdict.GIVEN,
            annotator=_person(annotation.get("completed_by")),
            annotated_at=annotation.get("updated_at") or annotation.get("created_at"),
        )


def _values(results: list[Any]) -> dict[str, Any]:
    """Map each question to its values; a question may have several results."""
    values: dict[str, list[Any]] = {}
    for result in results:
        if not isinstance(result, dict) or not isinstance(result.get("from_name"), str):
            continue
        kind, value = result.get("type"), result.get("value")
        key = _TYPE_TO_KEY.get(kind) if isinstance(kind, str) else None
        found = value.get(key) if key is not None and isinstance(value, dict) else None
        if key is None or found is None:
            found = Unsupported(f"of the type {kind[:40]!r}" if isinstance(kind, str) else "of no type")
        values.setdefault(result["from_name"], []).extend(found if isinstance(found, list) else [found])
    return values


def _person(found: Any) -> Any:
    if isinstance(found, dict):
        return next((found[key] for key in ("email", "username", "id") if found.get(key)), None)
    return found


def _read_flat(place: int, row: dict[str, Any], votes: Votes) -> None:
    own_id = _own_id(place, row, votes)
    if own_id is None:
        return
    if row.get("annotation_id") is None:
        votes.unanswered += 1
        return
    fields = row.get(FIELDS)
    inputs = {name for name in fields if isinstance(name, str)} if isinstance(fields, list) else {"text"}
    known = inputs | _OF_JSON_MIN
    values = {
        name: _flat_value(value)
        for name, value in row.items()
        if name not in known and (name == CONTROL or not name.startswith(RESERVED))
    }
    votes.add(
        place,
        own_id,
        values=values,
        verdict=Verdict.GIVEN if values else Verdict.SKIPPED,
        annotator=_person(row.get("annotator")),
        annotated_at=row.get("updated_at") or row.get("created_at"),
    )


def _flat_value(value: Any) -> Any:
    """Undo what JSON_MIN does to a question that has no single choice or text."""
    if not isinstance(value, list):
        return _unwrapped(value)
    flat: list[Any] = []
    for one in value:
        inner = _unwrapped(one)
        flat.extend(inner if isinstance(inner, list) else [inner])
    return flat


def _unwrapped(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return next((value[key] for key in _TYPE_TO_KEY.values() if key in value), Unsupported("of another type"))


def _own_id(place: int, data: dict[str, Any], votes: Votes) -> str | None:
    return votes.own_id(
        place,
        data.get(RESERVED + "id"),
        pool=data.get(RESERVED + "pool"),
        plan=data.get(RESERVED + "plan"),
    )
