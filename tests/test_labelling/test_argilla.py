"""Argilla: what is written, and what hostile or half-finished records give."""

import json

import pytest

from kshot.errors import InvalidInput
from kshot.labelling import Task, Verdict, read_answers, tasks_file

USER = "00000000-0000-0000-0000-000000000001"
OTHER = "00000000-0000-0000-0000-000000000002"


def read(*records, **options):
    return read_answers(json.dumps(records).encode(), "argilla", **options)


def codes(file):
    return [(problem.line, problem.code) for problem in file.problems]


def record(responses, id="t1", **fields):  # noqa: A002
    return {"id": id, "fields": {"text": "x"}, "metadata": {}, "responses": responses, **fields}


def of_server(*responses, **fields):
    """A record as the server lists it: its own id, and ours as the external one."""
    return record(list(responses), id="server-side", external_id="t1", **fields)


def test_a_record_has_one_text_field_and_metadata_to_sort_by():
    tasks = [
        Task(id="b", inputs={"subject": "s", "n": 1}, rank=2, gain=0.25, plan_id="p", pool="q"),
        Task(id="a", inputs="first", suggestion="refund"),
    ]
    assert json.loads(tasks_file("argilla", tasks)) == [
        {
            "id": "a",
            "fields": {"text": "first"},
            "metadata": {"kshot_rank": 1},
            "suggestions": {"outputs": {"value": "refund", "agent": "kshot"}},
            "responses": {},
            "vectors": {},
        },
        {
            "id": "b",
            "fields": {"text": "subject: s\nn: 1"},
            "metadata": {"kshot_rank": 2, "kshot_gain": 0.25, "kshot_plan": "p", "kshot_pool": "q"},
            "suggestions": {},
            "responses": {},
            "vectors": {},
        },
    ]


def test_suggested_fields_belong_to_questions_of_their_names():
    (row,) = json.loads(tasks_file("argilla", [Task(id="a", inputs="x", suggestion={"label": "l", "n": 2})]))
    assert row["suggestions"] == {
        "label": {"value": "l", "agent": "kshot"},
        "n": {"value": 2, "agent": "kshot"},
    }


def test_each_status_has_its_meaning():
    def response(user, status, value):
        values = {"outputs": {"value": value}}
        return {"user_id": user, "status": status, "values": values, "updated_at": "2026-03-01T10:00:00"}

    submitted, discarded, draft = (
        of_server(response(USER, status, "a")) for status in ("submitted", "discarded", "draft")
    )
    file = read(submitted)
    assert [(one.outputs, one.annotator) for one in file.given] == [("a", USER)]
    assert file.given[0].annotated_at.isoformat() == "2026-03-01T10:00:00+00:00"
    assert [one.verdict for one in read(discarded).answers] == [Verdict.SKIPPED]
    assert (read(draft).answers, codes(read(draft))) == ([], [(1, "unfinished")])
    assert codes(read(of_server(response(USER, "approved", "a")))) == [(1, "unfinished")]


def test_a_discarded_response_without_values_is_a_skip_and_shapes_no_answers():
    nothing = {"user_id": OTHER, "status": "discarded", "values": None}
    given = {"user_id": USER, "status": "submitted", "values": {"outputs": {"value": "a"}}}
    assert [one.verdict for one in read(of_server(nothing)).answers] == [Verdict.SKIPPED]
    assert [one.outputs for one in read(of_server(nothing, given)).given] == ["a"]


@pytest.mark.parametrize(("status", "given"), [("completed", ["a"]), ("pending", []), (None, ["a"])])
def test_responses_without_a_status_count_once_the_record_is_completed(status, given):
    file = read(record({"outputs": [{"value": "a", "user_id": USER}]}, status=status))
    assert [one.outputs for one in file.given] == given


def test_each_user_answers_all_questions_at_once():
    several = {
        "label": [{"value": "a", "user_id": USER}, {"value": "b", "user_id": OTHER}],
        "reason": [{"value": "since", "user_id": OTHER}],
    }
    file = read(record(several))
    assert [(one.outputs, one.annotator) for one in file.given] == [
        ({"label": "b", "reason": "since"}, OTHER)
    ]
    assert codes(file) == [(1, "disagreement")]


def test_records_of_another_pool_are_reported_nested_or_flat():
    nested = record({"outputs": []}, metadata={"kshot_pool": "other"})
    flat = {"id": "t2", "kshot_pool": "other", "outputs.responses": ["a"]}
    assert codes(read(nested, flat, pool="mine")) == [(1, "other_project"), (2, "other_project")]


@pytest.mark.parametrize(
    "responses",
    [
        3,
        {"q": 3},
        {"q": ["a"]},
        {"q": [{"value": "a", "user_id": {"x": 1}}]},
        ["a"],
        [{"user_id": USER}],
        [{"values": [1], "user_id": USER}],
        [{"values": {"q": 1}, "user_id": USER}],
    ],
)
def test_responses_of_a_foreign_shape_are_reported_and_stop_no_other(responses):
    file = read(record(responses), record({"outputs": [{"value": "a", "user_id": USER}]}, id="good"))
    assert codes(file) == [(1, "invalid_row")]
    assert [one.id for one in file.given] == ["good"]


@pytest.mark.parametrize(
    "flat",
    [
        {"outputs.responses": 3},
        {"outputs.responses": ["a"], "outputs.responses.users": ["u", "v"]},
        {"outputs.responses": ["a"], "outputs.responses.status": []},
    ],
)
def test_flat_columns_of_unequal_length_are_reported(flat):
    expected = [] if flat.get("outputs.responses.status") == [] else [(1, "invalid_row")]
    assert codes(read({"id": "t1", **flat})) == expected


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ([{"start": 0, "end": 1, "label": "PER"}], "unsupported_answer"),
        (["a", "b"], "several_values"),
        ([[1]], "unsupported_answer"),
        ("\ud800", "unstorable"),
    ],
)
def test_values_that_are_no_outputs_are_reported(value, code):
    assert codes(read(record({"outputs": [{"value": value, "user_id": USER}]}))) == [(1, code)]


@pytest.mark.parametrize(("value", "text"), [(3, "3"), (["a"], "a"), (True, "true"), (1.5, "1.5")])
def test_a_rating_or_a_single_label_becomes_text(value, text):
    assert [one.outputs for one in read(record({"q": [{"value": value, "user_id": USER}]})).given] == [text]


@pytest.mark.parametrize("data", [b"", b"nonsense", b'{"a": 1}', b'[{"id": "a"}]', b'[{"text": "x"}]', b"3"])
def test_a_file_without_records_is_an_error(data):
    with pytest.raises(InvalidInput, match="wanted records of Argilla"):
        read_answers(data, "argilla")
