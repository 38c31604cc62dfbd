"""The formats together: their names, their guess, and files that mean harm."""

import copy
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.errors import InvalidInput, InvalidParameter, PayloadTooLarge
from kshot.labelling import FORMATS, Task, parsing, read_answers, recognised, tasks_file
from kshot.labelling.answers import CODES
from tests.test_labelling.round_trip import FIXTURES

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
EXPORTS = [
    "label_studio.json",
    "label_studio_min.json",
    "argilla.json",
    "argilla_flat.json",
    "argilla_api.json",
]


def test_the_formats_are_these():
    assert list(FORMATS) == ["label-studio", "argilla", "prodigy", "csv", "jsonl"]
    assert [form.name for form in FORMATS.values()] == list(FORMATS)


def test_an_unknown_format_is_an_error_that_lists_those_that_exist():
    for call in (lambda: tasks_file("excel", []), lambda: read_answers(b"", "excel")):
        with pytest.raises(InvalidParameter, match="'excel', allowed are label-studio, argilla"):
            call()


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (b"[]", "label-studio"),
        (b' [{"annotations": [], "data": {}}]', "label-studio"),
        (b'{"text": "x", "answer": "accept", "meta": {}}', "prodigy"),
        (b'{"broken\n{"answer": "accept", "_task_hash": 1}', "prodigy"),
        (b'{"id": "a", "outputs": null}', "jsonl"),
        (b'{"id": "a", "x.responses": []}\n{"id": "b", "x.responses": []}', "argilla"),
        (b"\xef\xbb\xbfid;outputs\n", "csv"),
        (b"kshot_id\tkshot_outputs\n", "csv"),
    ],
)
def test_a_file_shows_what_it_is(data, form):
    assert recognised(data) == form


@pytest.mark.parametrize(
    ("data", "received"),
    [
        (b"", "an empty file"),
        (b"hello", "a first line of 5 characters without an id"),
        (b"{}", "an object with nothing"),
        (b"[3]", "a list"),
        (b"id,label\n", "id, label"),
        (b'{"id": "a"}', "an object with id"),
        (b'{"inputs": "a"}\n{"inputs": "b"}\n', "a list of objects with inputs"),
        (tasks_file("label-studio", [Task(id="a", inputs="x")]), "a list of objects with data, predictions"),
        (b"\x00" * 9, "a first line of 9 characters without an id"),
    ],
)
def test_what_is_no_file_of_answers_is_an_error_that_says_what_it_is_and_what_is_allowed(data, received):
    allowed = "allowed are a JSON or JSON_MIN export of Label Studio"
    with pytest.raises(InvalidInput, match=re.escape(f"received {received}; {allowed}")):
        read_answers(data)


def test_columns_that_are_asked_for_make_a_file_recognisable():
    assert recognised(b"id,label\n", ["label"]) == "csv"
    assert recognised(b'{"id": "a", "label": "x"}', ["label"]) == "jsonl"


def test_a_file_above_the_limit_is_refused_unread(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parsing, "MAX_FILE_BYTES", 10)
    for form in FORMATS:
        with pytest.raises(PayloadTooLarge, match="11 bytes, allowed at most 10"):
            read_answers(b"x" * 11, form)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("task", [{"inputs": "\ud800"}, {"inputs": {"a": "\ud800"}}, {"id": "\ud800"}])
def test_texts_that_are_no_unicode_cannot_be_written(form, task):
    with pytest.raises(InvalidInput):
        tasks_file(form, [Task(**{"id": "a", "inputs": "x", **task})])


@pytest.mark.parametrize("form", ["label-studio", "argilla", "prodigy", "jsonl"])
def test_numbers_that_are_no_json_cannot_be_written(form):
    with pytest.raises(InvalidInput, match="cannot be written as JSON"):
        tasks_file(form, [Task(id="a", inputs="x", gain=float("nan"))])


@pytest.mark.parametrize("form", FORMATS)
def test_no_tasks_make_a_file_without_any(form):
    assert b"kshot_id" not in tasks_file(form, [])


@given(st.binary(max_size=60), st.sampled_from([*FORMATS, "auto"]))
def test_bytes_of_any_kind_are_read_or_refused(data, form):
    _read_or_refuse(data, form)


@given(JSON, st.sampled_from([*FORMATS, "auto"]))
def test_json_of_any_kind_is_read_or_refused(value, form):
    _read_or_refuse(json.dumps(value).encode(), form)


@pytest.mark.parametrize("name", EXPORTS)
@given(data=st.data())
def test_junk_anywhere_in_one_row_of_an_export_leaves_the_others_alone(name, data):
    rows = json.loads((FIXTURES / name).read_text("utf-8"))
    before = read_answers(json.dumps(rows).encode())
    place = data.draw(st.integers(0, len(rows) - 1))
    spoilt = copy.deepcopy(rows)
    spoilt[place] = _spoilt(spoilt[place], data)
    after = read_answers(json.dumps(spoilt).encode())
    touched = {_id(rows[place]), _id(spoilt[place])}
    # A new question makes fields of all answers: only then may others change, and only their shape.
    others = {one.id for one in before.given} - touched
    assert {one.id for one in after.given} >= others
    assert all(answer.line >= 1 for answer in after.answers)


def _spoilt(value: Any, data: st.DataObject) -> Any:
    """Put junk in the place of some part of a value."""
    if isinstance(value, dict) and value and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(value)))
        return {**value, key: _spoilt(value[key], data)}
    if isinstance(value, list) and value and data.draw(st.booleans()):
        return [_spoilt(value[0], data), *value[1:]]
    return data.draw(JSON)


def _id(row: Any) -> Any:
    if not isinstance(row, dict):
        return None
    found = row.get("kshot_id") or row.get("external_id") or row.get("id")
    if isinstance(row.get("data"), dict):
        found = row["data"].get("kshot_id")
    return found if isinstance(found, str) else None


def _read_or_refuse(data: bytes, form: str) -> None:
    """Any other exception fails the test."""
    try:
        file = read_answers(data, form)
    except InvalidInput:
        return
    assert all(json.dumps(answer.outputs, allow_nan=False) for answer in file.given)
    assert len({answer.id for answer in file.answers}) == len(file.answers)
    assert {problem.code for problem in file.problems} <= CODES.keys()


@pytest.mark.parametrize("depth", [20, 150, 400, 900, 5_000, 200_000])
@pytest.mark.parametrize(
    "key",
    ["data", "annotations", "result", "value", "completed_by", "responses", "meta", "outputs", "accept"],
)
def test_deep_nesting_anywhere_is_read_or_refused(depth, key):
    deep = "[" * depth + "]" * depth
    row = {"kshot_id": "a", "id": "a", "answer": "accept", "meta": {"kshot_id": "a"}, "annotation_id": 1}
    inside = json.dumps({**row, key: "DEEP"}).replace('"DEEP"', deep)
    around = '{"id": "a", "data": {"kshot_id": "a"}, "annotations": [INSIDE], "responses": [INSIDE]}'
    for text in (f"[{inside}]", inside, f"[{around.replace('INSIDE', inside)}]"):
        for form in (*FORMATS, "auto"):
            _read_or_refuse(text.encode(), form)
