"""Exports that the tools wrote themselves, of tasks that kshot wrote, come back as the right answers."""

import json
from datetime import UTC
from pathlib import Path

import pytest

from kshot.errors import InvalidInput
from kshot.labelling import AUTO, FORMATS, Verdict, read_answers, tasks_file
from tests.test_labelling.round_trip import ACTS, ANSWERS, FIXTURES, LABELS, PLAN, POOL, tasks

LABEL_STUDIO = ["label_studio.json", "label_studio_min.json", "label_studio.csv"]
ARGILLA = [
    "argilla.json",
    "argilla_flat.json",
    "argilla_columns.json",
    "argilla_by_id.json",
    "argilla_serialized.json",
    "argilla_hugging_face.jsonl",
    "argilla_api.json",
]


def read(name: str, form: str = AUTO, **options):
    return read_answers((FIXTURES / name).read_bytes(), form, pool=POOL, plan=PLAN, **options)


def outputs(file):
    return {answer.id: answer.outputs for answer in file.given}


@pytest.mark.parametrize("name", [*LABEL_STUDIO, *ARGILLA])
def test_every_answer_comes_home(name):
    assert outputs(read(name)) == ANSWERS


@pytest.mark.parametrize("name", [*LABEL_STUDIO, *ARGILLA])
def test_annotators_who_differ_are_reported_and_the_last_word_counts(name):
    file = read(name)
    (problem,) = [one for one in file.problems if one.code == "disagreement"]
    assert (problem.id, problem.is_answered) == ("t3", True)
    by_id = {answer.id: answer for answer in file.given}
    assert by_id["t3"].annotator != by_id["t4"].annotator
    assert by_id["t3"].annotator == by_id["t7"].annotator
    assert str(by_id["t3"].annotator) in problem.message


@pytest.mark.parametrize("name", [*LABEL_STUDIO, "argilla_api.json"])
def test_times_are_those_of_the_annotations(name):
    file = read(name)
    times = [answer.annotated_at for answer in file.given]
    assert all(time is not None and time.tzinfo is UTC for time in times)
    # The scenario was acted out in the order of the ranks.
    assert times == sorted(times)


@pytest.mark.parametrize("name", LABEL_STUDIO)
def test_a_task_that_somebody_else_added_is_reported(name):
    (problem,) = [one for one in read(name).problems if one.code == "other_project"]
    assert problem.id is None
    assert not problem.is_answered


@pytest.mark.parametrize(
    ("name", "unanswered"), [("label_studio.json", 1), ("label_studio_min.json", 1), ("argilla.json", 1)]
)
def test_what_nobody_has_finished_is_counted(name, unanswered):
    assert read(name).unanswered == unanswered


@pytest.mark.parametrize("name", ["label_studio.json", "argilla_api.json"])
def test_a_skipped_task_is_no_answer(name):
    (skip,) = [answer for answer in read(name).answers if answer.verdict is Verdict.SKIPPED]
    assert (skip.id, skip.outputs) == ("t5", None)


@pytest.mark.parametrize("name", ARGILLA)
def test_a_draft_is_reported_and_no_answer(name):
    (problem,) = [one for one in read(name).problems if one.code == "unfinished"]
    assert (problem.id, problem.is_answered) == ("t8", False)


@pytest.mark.parametrize("name", ["label_studio_fields.json", "label_studio_fields_min.json"])
def test_several_questions_of_label_studio_become_fields(name):
    file = read(name)
    assert outputs(file) == {
        "f1": {"label": "a", "topics": ["x", "y"], "reply": "thanks", "urgency": 4},
        "f2": {"label": "b"},
    }
    assert file.problems == []
    assert outputs(read(name, output_fields=["label"])) == {"f1": "a", "f2": "b"}
    assert outputs(read(name, output_fields=["urgency"])) == {"f1": "4"}
    assert outputs(read(name, output_fields=["reply", "urgency"])) == {
        "f1": {"reply": "thanks", "urgency": 4}
    }


@pytest.mark.parametrize("name", ["label_studio_text.json", "label_studio_text_min.json"])
def test_free_text_of_label_studio_comes_home_as_it_was_written(name):
    assert outputs(read(name)) == {"f1": "an “answer”\nof two lines"}


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("argilla_fields*")), ids=lambda path: path.name)
def test_several_questions_of_argilla_become_fields(path: Path):
    assert outputs(read(path.name)) == {
        "f1": {"reply": "an “answer”\nof two lines", "urgency": 4, "topics": ["x", "z"]},
        "f2": {"reply": "no", "topics": "y"},
    }


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.json*")), ids=lambda path: path.name)
def test_an_export_is_recognised_and_taken_for_no_other(path: Path):
    own = path.name.split("_")[0].split(".")[0].replace("label", "label-studio")
    assert read(path.name).format == own
    assert read(path.name, own) == read(path.name)


@pytest.mark.parametrize("name", ["label_studio.json", "argilla.json"])
def test_the_tools_keep_what_was_sent(name):
    """The tool's own file, not our reader, says what arrived."""
    rows = json.loads((FIXTURES / name).read_text("utf-8"))
    kept = {}
    for row in rows:
        if name == "argilla.json":
            kept[row["id"]] = (row["fields"]["text"], row["metadata"]["kshot_rank"])
        elif "kshot_id" in row["data"]:
            kept[row["data"]["kshot_id"]] = (row["data"]["text"], row["data"]["kshot_rank"])
    assert kept == {task.id: (task.text, task.rank) for task in tasks()}


def prodigy_export() -> bytes:
    """Answer our own stream as Prodigy's `choice` interface does, by its documentation."""
    stream = [json.loads(line) for line in tasks_file("prodigy", tasks(), labels=LABELS).splitlines()]
    lines = []
    for seconds, act in enumerate(ACTS):
        row = dict(stream[act.rank - 1])
        row |= {"_input_hash": act.rank, "_task_hash": act.rank, "_view_id": "choice", "config": {}}
        row |= {"_timestamp": 1_770_000_000 + seconds, "_annotator_id": f"tickets-{act.who}"}
        row |= {"answer": "ignore", "accept": []} if act.label is None else {"answer": "accept"}
        if act.label is not None:
            row["accept"] = [act.label]
        lines.append(json.dumps(row))
    return "\n".join(lines).encode()


def test_a_stream_of_prodigy_comes_home():
    file = read_answers(prodigy_export(), pool=POOL, plan=PLAN)
    assert file.format == "prodigy"
    assert outputs(file) == ANSWERS
    assert [one.code for one in file.problems] == ["disagreement"]
    assert {answer.annotator for answer in file.given} == {
        "tickets-anna@example.com",
        "tickets-ben@example.com",
    }
    assert [answer.id for answer in file.answers if answer.verdict is Verdict.SKIPPED] == ["t5"]


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_tasks_that_nobody_answered_are_no_answers(form):
    """Whoever imports the file that was exported gets nothing, or is told."""
    written = tasks_file(form, tasks(), labels=LABELS)
    if form in {"csv", "jsonl", "argilla"}:
        file = read_answers(written, form, pool=POOL)
        assert (file.answers, file.problems, file.unanswered) == ([], [], 8)
    else:
        with pytest.raises(InvalidInput, match="received"):
            read_answers(written, form)
