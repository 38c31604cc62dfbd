"""``kshot plan import``, on a data folder opened in this process."""

import json
import shutil
from pathlib import Path

import pytest

import kshot
from kshot.clients.cli import plan_import
from tests.test_clients.command_line import Run, forget_environment
from tests.test_labelling.round_trip import ANSWERS, FIXTURES, tasks


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    forget_environment(monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the tasks of the round trip, and one example that is retired."""
    folder = tmp_path_factory.mktemp("filled") / "data"
    with kshot.LocalClient(folder) as client:
        client.create_pool("tickets", embedder="hashing")
        client.upsert("tickets", [{"id": task.id, "inputs": task.inputs} for task in tasks()])
        client.upsert("tickets", [{"id": "old", "inputs": "x", "outputs": "y", "status": "retired"}])
    return folder


@pytest.fixture
def data(filled, tmp_path) -> Path:
    return Path(shutil.copytree(filled, tmp_path / "data"))


def outputs(data: Path):
    with kshot.LocalClient(data) as client:
        found = client.list_examples("tickets")
        return {one.id: one.outputs for one in found if one.outputs is not None and one.id != "old"}


def saved(tmp_path: Path, text: str, name: str = "answers.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, "utf-8")
    return path


def test_an_export_of_label_studio_is_taken_and_what_is_not_is_told(data):
    run = Run("plan", "import", "tickets", FIXTURES / "label_studio.json", "--data", data)
    assert run.code == 1  # a task of somebody else is among them
    assert run.out == (
        "pool tickets, label-studio: 6 approved, 0 replaced, 0 unchanged, 1 rejected; "
        "1 skipped, 1 unanswered\n"
    )
    assert run.err.splitlines() == [
        "warning: line 3 (t3): annotators differ (1, 2); the latest answer, by 2, is taken [disagreement]",
        "warning: line 9: has no id of kshot: it was not made from a pool [other_project]",
    ]
    assert outputs(data) == ANSWERS


def test_importing_again_changes_nothing(data):
    path = FIXTURES / "argilla.json"
    assert Run("plan", "import", "tickets", path, "--data", data).code == 0
    again = Run("plan", "import", "tickets", path, "--data", data, "--json")
    assert (again.code, again.json["approved"], again.json["unchanged"]) == (0, 0, 6)


def test_a_dry_run_tells_the_same_and_writes_nothing(data, tmp_path):
    path = saved(tmp_path, "id,outputs\nt1,a\nold,a\nnobody,a\n")
    run = Run("plan", "import", "tickets", path, "--dry-run", "--data", data)
    assert (run.code, outputs(data)) == (1, {})
    assert run.out == ("pool tickets, csv: would be 1 approved, 0 replaced, 0 unchanged, 2 rejected\n")
    assert run.err.splitlines() == [
        "warning: line 3 (old): /id example 'old' is retired [retired]",
        "warning: line 4 (nobody): /id the pool holds no example 'nobody' [unknown_id]",
    ]


def test_conflicts_are_replaced_where_that_is_wanted(data, tmp_path):
    assert Run("plan", "import", "tickets", saved(tmp_path, "id,outputs\nt1,a\n"), "--data", data).code == 0
    other = saved(tmp_path, "id,outputs\nt1,b\n")
    refused = Run("plan", "import", "tickets", other, "--data", data, "--json")
    assert (refused.code, [row["code"] for row in refused.json["rejected"]]) == (1, ["conflict"])
    assert outputs(data) == {"t1": "a"}
    replaced = Run("plan", "import", "tickets", other, "--replace", "--data", data, "--json")
    assert (replaced.code, replaced.json["replaced"]) == (0, 1)
    assert outputs(data) == {"t1": "b"}


def test_the_questions_that_make_the_outputs_can_be_chosen(data, tmp_path):
    path = saved(tmp_path, "id,label,why\nt1,a,since\n")
    assert Run("plan", "import", "tickets", path, "--output-field", "label", "--data", data).code == 0
    assert outputs(data) == {"t1": "a"}
    fields = ("--output-field", "label", "--output-field", "why", "--replace")
    assert Run("plan", "import", "tickets", path, *fields, "--data", data).code == 0
    assert outputs(data) == {"t1": {"label": "a", "why": "since"}}


def test_answers_to_another_plan_or_pool_are_left_where_they_are(data, tmp_path):
    path = saved(tmp_path, "id,outputs,plan,pool\nt1,a,p1,tickets\nt2,a,p2,tickets\nt3,a,p1,mails\n")
    run = Run("plan", "import", "tickets", path, "--plan", "p1", "--data", data, "--json")
    assert run.code == 1
    assert [(one["line"], one["code"]) for one in run.json["problems"]] == [
        (3, "other_project"),
        (4, "other_project"),
    ]
    assert outputs(data) == {"t1": "a"}


def test_everything_is_told_as_json(data, tmp_path):
    prodigy = '{"meta": {"kshot_id": "t1"}, "answer": "reject", "label": "a", "_task_hash": 1}\n'
    run = Run(
        "plan", "import", "tickets", saved(tmp_path, prodigy), "--data", data, "--json", "-f", "prodigy"
    )
    assert run.json == {
        "pool": "tickets",
        "format": "prodigy",
        "dry_run": False,
        "approved": 0,
        "replaced": 0,
        "unchanged": 0,
        "rejected": [],
        "version": 2,
        "indexed": True,
        "skipped": 0,
        "refused": 1,
        "unanswered": 0,
        "problems": [],
    }
    assert (run.code, run.err) == (0, "")


def test_answers_come_from_standard_input(data):
    run = Run("plan", "import", "tickets", "-", "--data", data, stdin=b'{"id": "t1", "outputs": "a"}\n')
    assert (run.code, outputs(data)) == (0, {"t1": "a"})


def test_a_draft_is_told_and_is_no_failure(data, tmp_path):
    responses = [{"user_id": "u", "status": "draft", "values": {"outputs": {"value": "a"}}}]
    path = saved(tmp_path, json.dumps([{"id": "t1", "responses": responses}]), "records.json")
    run = Run("plan", "import", "tickets", path, "--data", data)
    assert run.code == 0
    assert run.err.endswith("[unfinished]\n")


def test_long_lists_of_warnings_end(data, tmp_path):
    rows = "".join(f"n{i},x\n" for i in range(25))
    run = Run("plan", "import", "tickets", saved(tmp_path, "id,outputs\n" + rows), "--data", data)
    assert len(run.err.splitlines()) == 21
    assert run.err.splitlines()[-1] == "warning: and 5 more; --json has all"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["missing.json"], 2, "there is no file missing.json"),
        (["answers.csv", "--format", "excel"], 2, "--format is excel, allowed are auto, label-studio"),
        (["answers.csv", "--format", "label-studio"], 1, "this is no JSON"),
        (["answers.csv", "--output-field", "label"], 1, "JSON Lines or CSV with id and label"),
    ],
)
def test_a_wrong_file_is_an_error_in_one_line(data, tmp_path, arguments, code, words):
    saved(tmp_path, "id,outputs\nt1,a\n")
    run = Run("plan", "import", "tickets", *arguments, "--data", data)
    assert run.code == code
    assert words in " ".join(run.err.split())
    assert outputs(data) == {}


def test_a_file_above_the_limit_is_not_even_read(data, tmp_path, monkeypatch):
    monkeypatch.setattr(plan_import, "MAX_FILE_BYTES", 10)
    run = Run("plan", "import", "tickets", saved(tmp_path, "id,outputs\nt1,a\n"), "--data", data)
    assert (run.code, "has 16 bytes, allowed at most 10" in run.err) == (1, True)


def test_a_missing_pool_is_said_to_be_missing(data, tmp_path):
    run = Run("plan", "import", "nowhere", saved(tmp_path, "id,outputs\nt1,a\n"), "--data", data)
    assert run.code == 1
    assert "nowhere" in run.err
