"""CSV and JSON Lines: filled in by hand, by spreadsheets, and by whatever else writes such files."""

import csv
import io
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kshot.errors import InvalidInput
from kshot.labelling import Task, read_answers, tasks_file
from kshot.labelling.csv_rows import escaped, unescaped

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=20)
IDS = st.lists(TEXT, min_size=1, max_size=5, unique=True)


def codes(file):
    return [(problem.line, problem.code) for problem in file.problems]


def outputs(file):
    return {answer.id: answer.outputs for answer in file.given}


def cells(tasks):
    return list(csv.DictReader(io.StringIO(tasks_file("csv", tasks).decode("utf-8-sig"), newline="")))


def test_a_csv_has_one_row_per_task_with_outputs_to_fill_in():
    tasks = [
        Task(id="b", inputs={"subject": "s", "n": 2}, rank=2, suggestion={"label": "x"}),
        Task(id="a", inputs="text, with comma", gain=0.5, plan_id="p", pool="q", metadata={"lang": "en"}),
    ]
    assert cells(tasks) == [
        {
            "id": "a",
            "rank": "1",
            "inputs": "text, with comma",
            "inputs.subject": "",
            "inputs.n": "",
            "outputs": "",
            "annotator": "",
            "annotated_at": "",
            "suggestion": "",
            "gain": "0.5",
            "plan": "p",
            "pool": "q",
            "metadata": '{"lang": "en"}',
        },
        {
            "id": "b",
            "rank": "2",
            "inputs": "",
            "inputs.subject": "s",
            "inputs.n": "2",
            "outputs": "",
            "annotator": "",
            "annotated_at": "",
            "suggestion": '{"label": "x"}',
            "gain": "",
            "plan": "",
            "pool": "",
            "metadata": "",
        },
    ]


def test_spreadsheets_know_the_encoding_and_see_no_formula():
    written = tasks_file("csv", [Task(id="=id", inputs="=HYPERLINK(1)", pool="@pool", suggestion="-1")])
    assert written.startswith(b"\xef\xbb\xbfid,")
    (row,) = cells([Task(id="=id", inputs="=HYPERLINK(1)", pool="@pool", suggestion="-1")])
    assert (row["id"], row["inputs"], row["pool"], row["suggestion"]) == (
        "'=id",
        "'=HYPERLINK(1)",
        "'@pool",
        "'-1",
    )


@given(st.text())
def test_escaping_is_undone_and_leaves_no_formula(text):
    assert unescaped(escaped(text)) == text
    assert not escaped(text).startswith(("=", "+", "-", "@", "\t", "\r"))


@given(
    IDS,
    TEXT.filter(str.strip),
    st.sampled_from([",", ";", "\t"]),
    st.booleans(),
    st.sampled_from(["\r\n", "\n"]),
)
def test_a_csv_that_a_spreadsheet_has_saved_again_comes_home(ids, answer, delimiter, has_mark, line_end):
    tasks = [Task(id=one, inputs=one, rank=rank, pool=ids[0]) for rank, one in enumerate(ids, start=1)]
    rows = [{**row, "outputs": answer} for row in cells(tasks)]
    stream = io.StringIO(newline="")
    # Python's writer quotes a carriage return only where it is part of the line end.
    writer = csv.DictWriter(
        stream,
        rows[0],
        delimiter=delimiter,
        lineterminator=line_end,
        quoting=csv.QUOTE_MINIMAL if line_end == "\r\n" else csv.QUOTE_ALL,
    )
    writer.writeheader()
    writer.writerows(rows)
    saved = stream.getvalue().encode("utf-8-sig" if has_mark else "utf-8")
    file = read_answers(saved, pool=ids[0])
    assert (outputs(file), file.problems, file.format) == (dict.fromkeys(ids, answer), [], "csv")


@given(IDS, TEXT.filter(str.strip))
def test_json_lines_that_were_filled_in_come_home(ids, answer):
    tasks = [Task(id=one, inputs={"x": one}, rank=rank) for rank, one in enumerate(ids, start=1)]
    rows = [json.loads(line) for line in tasks_file("jsonl", tasks).split(b"\n") if line]
    assert [row["inputs"] for row in rows] == [{"x": one} for one in ids]
    filled = "\n".join(json.dumps({**row, "outputs": answer}) for row in rows).encode()
    file = read_answers(filled)
    assert (outputs(file), file.problems, file.format) == (dict.fromkeys(ids, answer), [], "jsonl")


def test_lines_are_counted_as_an_editor_counts_them():
    file = read_answers(b'id,outputs\r\na,"two\r\nlines"\r\n\r\n,x\r\nb,y,z\r\nc,ok\r\n')
    assert {answer.id: answer.line for answer in file.given} == {"a": 2, "c": 7}
    assert codes(file) == [(5, "other_project"), (6, "invalid_row")]


def test_rows_without_outputs_are_not_answered_yet():
    file = read_answers(b"id,outputs\na,\nb,  \nc\nd,x\n")
    assert (outputs(file), file.unanswered, file.problems) == ({"d": "x"}, 3, [])


def test_who_and_when_are_read_from_their_columns():
    (answer,) = read_answers(b"id,outputs,annotator,annotated_at\na,x,anna,2026-03-01 10:00\n").given
    assert answer.annotator == "anna"
    assert answer.annotated_at == datetime(2026, 3, 1, 10, tzinfo=UTC)


def test_columns_with_dots_become_fields_even_if_there_is_one():
    assert outputs(read_answers(b"id,outputs.label,outputs.why\na,x,since\nb,y,\n")) == {
        "a": {"label": "x", "why": "since"},
        "b": {"label": "y"},
    }
    assert outputs(read_answers(b"id,outputs.label\na,x\n")) == {"a": {"label": "x"}}


def test_any_columns_can_be_the_outputs():
    data = b"id,Label,Why\na,x,since\n"
    assert outputs(read_answers(data, output_fields=["Label"])) == {"a": "x"}
    assert outputs(read_answers(data, output_fields=["Label", "Why"])) == {
        "a": {"Label": "x", "Why": "since"}
    }
    lines = b'{"id": "a", "Label": "x"}'
    assert outputs(read_answers(lines, output_fields=["Label"])) == {"a": "x"}


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (b'b,"x"y', "invalid_row"),
        (b"b,x,y", "invalid_row"),
        (b",x", "other_project"),
        (b"b,x\x00", "unstorable"),
        (b"x" * 300 + b",y", "invalid_id"),
    ],
)
def test_a_bad_csv_row_is_reported_and_stops_no_other(row, code):
    file = read_answers(b"id,outputs\na,1\n" + row + b"\nc,3\n", "csv")
    assert codes(file) == [(3, code)]
    assert outputs(file) == {"a": "1", "c": "3"}


def test_an_unclosed_quote_is_reported_where_it_begins():
    file = read_answers(b'id,outputs\na,1\nb,"x\nc,3\n', "csv")
    assert codes(file) == [(3, "invalid_row")]
    assert outputs(file) == {"a": "1"}


def test_long_cells_are_no_trouble():
    assert outputs(read_answers(b"id,outputs\na," + b"x" * 200_000 + b"\n")) == {"a": "x" * 200_000}


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (b"{", "invalid_json"),
        (b"3", "invalid_row"),
        (b'{"outputs": "x"}', "other_project"),
        (b'{"id": 3, "outputs": "x"}', "invalid_id"),
        (b'{"id": "b", "outputs": NaN}', "unstorable"),
        (b'{"id": "b", "outputs": "\\ud800"}', "unstorable"),
        (b'{"id": "b", "outputs": {"\\u0000": "x"}}', "unstorable"),
        (b'{"id": "b", "outputs": ["x", "y"]}', "several_values"),
        (b'{"id": "b", "outputs": ' + b"9" * 5000 + b"}", "unstorable"),
        (b'{"id": "b", "outputs": 1e999}', "unstorable"),
        (b'{"id": "b", "outputs": {"x": ' + b"[" * 40 + b"1" + b"]" * 40 + b"}}", "unsupported_answer"),
        (b'{"id": "b", "outputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_json"),
        (b'{"id": "b", "outputs": "x", "pool": "other"}', "other_project"),
    ],
)
def test_a_bad_json_line_is_reported_and_stops_no_other(row, code):
    data = b'{"id": "a", "outputs": "1"}\r\n' + row + b'\r\n\r\n{"id": "c", "outputs": {"x": 1}}'
    file = read_answers(data, "jsonl", pool="mine")
    assert codes(file) == [(2, code)]
    assert outputs(file) == {"a": "1", "c": {"x": 1}}
    assert [answer.line for answer in file.given] == [1, 4]


@pytest.mark.parametrize(
    ("form", "data", "words"),
    [
        ("csv", b"name,outputs\n", "received a first line of 12 characters without an id"),
        ("csv", b"id,label\n", "received id, label"),
        ("csv", b"", "received an empty file"),
        ("jsonl", b'{"id": "a", "label": "x"}', "received objects with id, label"),
        ("jsonl", b"nonsense", "no line is a JSON object"),
        ("csv", "id,outputs\na,ü\n".encode("cp1252"), "not UTF-8"),
        ("jsonl", '{"id": "a"}'.encode("utf-16"), "not UTF-8"),
    ],
)
def test_a_file_of_another_shape_is_an_error(form, data, words):
    with pytest.raises(InvalidInput, match=words):
        read_answers(data, form)


@pytest.mark.parametrize("data", [b"", b"\n", b"\xef\xbb\xbf"])
def test_an_empty_file_of_json_lines_has_no_answers(data):
    file = read_answers(data, "jsonl")
    assert (file.answers, file.problems, file.unanswered) == ([], [], 0)
