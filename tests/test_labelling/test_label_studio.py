"""Label Studio: what is written, and what hostile or foreign exports give."""

import json
from xml.etree import ElementTree as ET

import pytest

from kshot.errors import InvalidInput, InvalidParameter
from kshot.labelling import Task, Verdict, label_studio_config, read_answers, tasks_file

TASK = Task(id="t1", inputs="where is it", rank=1, gain=0.5, plan_id="p", pool="tickets")


def written(*tasks: Task, labels=()):
    return json.loads(tasks_file("label-studio", tasks, labels=labels))


def export(*annotations, id="t1", **data):  # noqa: A002
    return {"data": {"text": "x", "kshot_id": id, **data}, "annotations": list(annotations)}


def annotation(*results, **fields):
    return {"result": list(results), "completed_by": 1, "updated_at": "2026-03-01T10:00:00Z", **fields}


def choice(value, question="kshot_outputs"):
    return {"from_name": question, "type": "choices", "value": {"choices": [value]}}


def read(*rows, **options):
    return read_answers(json.dumps(rows).encode(), "label-studio", **options)


def codes(file):
    return [(problem.line, problem.code) for problem in file.problems]


def test_a_task_brings_text_priority_and_the_way_home():
    (row,) = written(TASK)
    assert row["data"] == {
        "text": "where is it",
        "kshot_id": "t1",
        "kshot_rank": 1,
        "kshot_gain": 0.5,
        "kshot_plan": "p",
        "kshot_pool": "tickets",
        "kshot_fields": ["text"],
        "kshot_metadata": {},
    }
    assert row["predictions"] == [{"model_version": "p", "score": 1.0, "result": []}]


def test_tasks_are_sorted_by_rank_and_scores_fall_with_it():
    rows = written(*(Task(id=str(rank), inputs="x", rank=rank) for rank in (3, 1, 4, 2)))
    assert [row["data"]["kshot_rank"] for row in rows] == [1, 2, 3, 4]
    assert [row["predictions"][0]["score"] for row in rows] == [1, 1 / 2, 1 / 3, 1 / 4]


def test_fields_stand_beside_the_text_made_of_them():
    (row,) = written(Task(id="a", inputs={"subject": "s", "body": "b", "kshot_id": "forged"}))
    assert {name: row["data"][name] for name in row["data"]["kshot_fields"]} == {
        "subject": "s",
        "body": "b",
        "text": "subject: s\nbody: b\nkshot_id: forged",
    }
    assert row["data"]["kshot_id"] == "a"


@pytest.mark.parametrize(("text", "shown"), [("own", "own"), (None, "n: 1"), (7, "text: 7\nn: 1")])
def test_a_field_named_text_is_the_text_if_it_is_one(text, shown):
    (row,) = written(Task(id="a", inputs={"text": text, "n": 1}))
    assert row["data"]["text"] == shown


def test_a_suggestion_is_a_prediction_of_the_kind_that_the_interface_asks_for():
    suggested = Task(id="a", inputs="x", suggestion="refund")
    (chosen,) = written(suggested, labels=["refund", "other"])
    assert chosen["predictions"][0]["result"] == [
        {
            "from_name": "kshot_outputs",
            "to_name": "text",
            "type": "choices",
            "value": {"choices": ["refund"]},
        }
    ]
    (typed,) = written(suggested)
    assert typed["predictions"][0]["result"][0]["value"] == {"text": ["refund"]}
    (unknown,) = written(suggested, labels=["other"])
    assert unknown["predictions"][0]["result"] == []


def test_the_interface_offers_every_label_as_it_is():
    labels = ["a & b", '"quoted"', "<tag>", "größe"]
    root = ET.fromstring(label_studio_config(labels))
    choices = root.find("Choices")
    assert choices is not None
    assert [one.get("value") for one in choices] == labels
    assert choices.get("toName") == "text"
    assert [one.get("value") for one in root.findall("Text")] == ["$text"]


def test_without_labels_the_interface_asks_for_text_about_the_given_fields():
    root = ET.fromstring(label_studio_config(fields=["subject", "body"]))
    assert [one.get("value") for one in root.findall("Text")] == ["$subject", "$body"]
    area = root.find("TextArea")
    assert area is not None
    assert area.get("toName") == "subject"
    assert root.find("Choices") is None


@pytest.mark.parametrize(
    ("labels", "fields"),
    [
        (["a", "a"], ["text"]),
        (["a", " "], ["text"]),
        (["\x0b"], ["text"]),
        (["a"], []),
        (["a"], ["two words"]),
    ],
)
def test_an_interface_that_label_studio_would_refuse_is_not_made(labels, fields):
    with pytest.raises(InvalidParameter):
        label_studio_config(labels, fields)


def test_of_several_annotations_the_last_submitted_counts():
    file = read(
        export(
            annotation(choice("b"), completed_by=2, updated_at="2026-03-02T10:00:00Z"),
            annotation(choice("a"), completed_by=1, updated_at="2026-03-01T10:00:00Z"),
        )
    )
    assert [(one.outputs, one.annotator) for one in file.given] == [("b", "2")]
    assert codes(file) == [(1, "disagreement")]


@pytest.mark.parametrize("who", [{"id": 3, "email": "a@example.com"}, "a@example.com"])
def test_the_annotator_is_named_by_the_address_where_the_export_has_it(who):
    assert read(export(annotation(choice("a"), completed_by=who))).given[0].annotator == "a@example.com"


@pytest.mark.parametrize("fields", [{"was_cancelled": True}, {"result": []}])
def test_cancelled_and_empty_annotations_are_skips(fields):
    file = read(export({**annotation(choice("a")), **fields}))
    assert [(one.verdict, one.outputs) for one in file.answers] == [(Verdict.SKIPPED, None)]
    assert file.given == []


def test_a_comment_beside_the_label_can_be_left_out():
    comment = {"from_name": "comment", "type": "textarea", "value": {"text": ["odd"]}}
    rows = [
        export(annotation(choice("a", "label"), comment)),
        export(annotation(choice("b", "label")), id="t2"),
    ]
    assert [one.outputs for one in read(*rows).given] == [{"label": "a", "comment": "odd"}, {"label": "b"}]
    assert [one.outputs for one in read(*rows, output_fields=["label"]).given] == ["a", "b"]


def test_a_question_that_no_row_answers_is_an_error_that_names_those_that_are():
    with pytest.raises(InvalidInput, match=r"no row answers lable; the file has answers to label"):
        read(export(annotation(choice("a", "label"))), output_fields=["lable"])


def test_a_task_of_another_pool_plan_or_tool_is_reported_and_stops_no_other():
    file = read(
        export(annotation(choice("a")), kshot_pool="other", kshot_plan="p"),
        export(annotation(choice("a")), kshot_pool="mine", kshot_plan="q"),
        {"data": {"text": "x"}, "annotations": [annotation(choice("a"))]},
        export(annotation(choice("a")), id="t4", kshot_pool="mine", kshot_plan="p"),
        pool="mine",
        plan="p",
    )
    assert codes(file) == [(1, "other_project"), (2, "other_project"), (3, "other_project")]
    assert file.problems[0].message == "is of pool 'other', wanted 'mine'"
    assert [one.id for one in file.given] == ["t4"]


SPANS = {"from_name": "kshot_outputs", "type": "labels", "value": {"labels": ["PER"], "start": 0, "end": 1}}


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (7, "invalid_row"),
        ({"data": None, "annotations": []}, "invalid_row"),
        ({"data": {"kshot_id": "a"}, "annotations": {}}, "invalid_row"),
        ({"data": {"kshot_id": "a"}, "annotations": [3]}, "invalid_row"),
        ({"data": {"kshot_id": "a"}, "annotations": [{"result": "x"}]}, "invalid_row"),
        (export(annotation(choice("a")), id=7), "invalid_id"),
        (export(annotation(choice("a")), id="x" * 257), "invalid_id"),
        (export(annotation(choice("a")), id="\ud800"), "invalid_id"),
        (export(annotation(choice("\ud800"))), "unstorable"),
        (export(annotation(choice("a\x00"))), "unstorable"),
        (export(annotation(SPANS)), "unsupported_answer"),
        (export(annotation(choice("a"), choice("b"))), "several_values"),
        (
            export(annotation({"from_name": "q", "type": "rating", "value": {"rating": float("nan")}})),
            "unstorable",
        ),
        (
            export(annotation({"from_name": "q", "type": ["rating"], "value": {"rating": 1}})),
            "unsupported_answer",
        ),
        (export(annotation({"from_name": "q", "type": "rating", "value": 3})), "unsupported_answer"),
    ],
)
def test_a_bad_row_is_reported_and_stops_no_other(row, code):
    file = read(row, export(annotation(choice("good")), id="good"))
    assert codes(file) == [(1, code)]
    assert [one.id for one in file.given] == ["good"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"updated_at": "yesterday"}, "invalid_time"),
        ({"updated_at": True}, "invalid_time"),
        ({"updated_at": "0001-01-01T00:00:00+14:00"}, "invalid_time"),
        ({"completed_by": "x" * 257}, "invalid_annotator"),
        ({"completed_by": [1]}, "invalid_annotator"),
    ],
)
def test_who_and_when_may_be_junk_without_harm_to_the_answer(fields, code):
    file = read(export(annotation(choice("a"), **fields)))
    assert [one.outputs for one in file.given] == ["a"]
    assert [(one.code, one.is_answered) for one in file.problems] == [(code, True)]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ([TASK.id], "a list"),
        ({"tasks": []}, "an object with tasks"),
        ([{"data": {"kshot_id": "a"}}], "a list of objects with data"),
        (None, "null"),
        ([{}], "a list of objects with nothing"),
    ],
)
def test_a_file_that_is_no_export_is_an_error_that_says_what_it_is(value, found):
    with pytest.raises(InvalidInput) as caught:
        read_answers(json.dumps(value).encode(), "label-studio")
    wanted = "wanted a JSON or JSON_MIN export of Label Studio, with annotations"
    assert caught.value.message == f"{wanted}; received {found}"


def test_json_min_tells_inputs_from_answers_even_where_they_have_names_of_its_own():
    row = {
        "text": "x",
        "annotator": 1,
        "sentiment": "an input",
        "mood": "good",
        "kshot_id": "a",
        "kshot_fields": ["text", "sentiment"],
        "kshot_metadata": {"lang": "en"},
        "annotation_id": 5,
        "lead_time": None,
        "updated_at": "2026-03-01T10:00:00Z",
    }
    assert [one.outputs for one in read(row).given] == ["good"]
