"""Prodigy: what is written, and what its lines give, by its documentation."""

import json

import pytest

from kshot.errors import InvalidInput
from kshot.labelling import Task, Verdict, read_answers, tasks_file


def line(id="t1", answer="accept", **fields):  # noqa: A002
    return {"text": "x", "meta": {"kshot_id": id}, "answer": answer, "_task_hash": 1, **fields}


def read(*rows, **options):
    data = "\n".join(json.dumps(row) for row in rows).encode()
    return read_answers(data, "prodigy", **options)


def codes(file):
    return [(problem.line, problem.code) for problem in file.problems]


def written(*tasks, labels=()):
    return [json.loads(row) for row in tasks_file("prodigy", tasks, labels=labels).splitlines()]


def test_the_stream_is_in_the_order_of_the_ranks():
    rows = written(Task(id="b", inputs="2", rank=2), Task(id="a", inputs="1", rank=1, gain=0.5, pool="p"))
    assert rows[0] == {
        "text": "1",
        "meta": {"kshot_id": "a", "kshot_rank": 1, "kshot_gain": 0.5, "kshot_pool": "p"},
    }
    assert rows[1]["text"] == "2"


def test_fields_stand_apart_from_prodigys_own_keys():
    (row,) = written(Task(id="a", inputs={"answer": "accept", "image": "http://x"}))
    assert row["fields"] == {"answer": "accept", "image": "http://x"}
    assert row["text"] == "answer: accept\nimage: http://x"
    assert row.keys() == {"text", "fields", "meta"}


def test_labels_become_options_and_a_known_suggestion_is_chosen():
    known, unknown = written(
        Task(id="a", inputs="x", suggestion="l1"),
        Task(id="b", inputs="x", suggestion="l9"),
        labels=["l1", "l2"],
    )
    assert known["options"] == [{"id": "l1", "text": "l1"}, {"id": "l2", "text": "l2"}]
    assert known["accept"] == ["l1"]
    assert "accept" not in unknown
    assert "label" not in unknown


def test_without_labels_a_suggestion_asks_yes_or_no():
    (row,) = written(Task(id="a", inputs="x", suggestion="refund"))
    assert row["label"] == "refund"


@pytest.mark.parametrize(
    "answered", [{"accept": ["a"]}, {"label": "a"}, {"user_input": "a"}, {"user_input": "a", "label": "b"}]
)
def test_the_answer_is_the_choice_or_the_text_or_the_label(answered):
    assert [one.outputs for one in read(line(**answered)).given] == ["a"]


def test_a_rejected_suggestion_and_an_ignored_task_give_no_answer():
    file = read(line("a", "reject", label="x"), line("b", "ignore", label="x"))
    assert [(one.id, one.verdict, one.outputs) for one in file.answers] == [
        ("a", Verdict.REJECTED, None),
        ("b", Verdict.SKIPPED, None),
    ]


def test_who_and_when_are_kept():
    (answer,) = read(line(label="a", _annotator_id="set-anna", _timestamp=1_770_000_000)).given
    assert answer.annotator == "set-anna"
    assert answer.annotated_at.isoformat() == "2026-02-02T02:40:00+00:00"
    (by_session,) = read(line(label="a", _session_id="set-ben")).given
    assert by_session.annotator == "set-ben"


def test_other_fields_of_a_task_count_if_they_are_asked_for():
    rows = [line(rewritten="better", tone="kind")]
    assert read(*rows).unanswered == 1
    assert [one.outputs for one in read(*rows, output_fields=["rewritten"]).given] == ["better"]
    both = read(*rows, output_fields=["rewritten", "tone"])
    assert [one.outputs for one in both.given] == [{"rewritten": "better", "tone": "kind"}]


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"text": "x", "answer": "accept", "label": "a"}, "other_project"),
        (line(None, label="a"), "other_project"),
        (line(["a"], label="a"), "invalid_id"),
        (line(answer="maybe", label="a"), "invalid_row"),
        (line(answer={"x": 1}, label="a"), "invalid_row"),
        (line(accept=["a", "b"]), "several_values"),
        (line(accept=[{"id": "a"}]), "unsupported_answer"),
        (line(spans=[{"start": 0, "end": 1, "label": "PER"}]), "unsupported_answer"),
        ([1], "invalid_row"),
    ],
)
def test_a_bad_line_is_reported_and_stops_no_other(row, code):
    file = read(row, line("good", label="a"))
    assert codes(file) == [(1, code)]
    assert [one.id for one in file.given] == ["good"]


@pytest.mark.parametrize("seconds", [1e300, -1e300, float("inf"), float("nan"), "now", [1]])
def test_a_time_that_is_none_is_left_out(seconds):
    file = read(line(label="a", _timestamp=seconds))
    assert [one.annotated_at for one in file.given] == [None]
    assert codes(file) == [(1, "invalid_time")]


@pytest.mark.parametrize("data", [b'{"id": "a", "outputs": "b"}', b"nonsense", b"[1]\n[2]"])
def test_a_file_of_something_else_is_an_error(data):
    with pytest.raises(InvalidInput, match="wanted lines of `prodigy db-out`"):
        read_answers(data, "prodigy")
