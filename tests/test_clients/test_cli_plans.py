"""``kshot plan``, on a data folder opened in this process."""

import json
import shutil
from pathlib import Path

import pytest

import kshot
from kshot.clients.cli import plans
from kshot.clients.sdk.client import Client
from tests.test_clients.command_line import Run, forget_environment

TOPICS = ("lamps", "money", "parcels", "phones")
ROWS = [
    {
        "id": f"d{i}",
        "inputs": f"text {i} about {TOPICS[i % 4]}",
        "metadata": {"cost": 2 + i % 3, "lang": "en"},
    }
    for i in range(24)
]


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    forget_environment(monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a pool of unlabelled rows and one plan."""
    folder = tmp_path_factory.mktemp("filled") / "data"
    with kshot.LocalClient(folder) as client:
        client.create_pool("tickets", embedder="hashing")
        client.upsert("tickets", ROWS)
        client.upsert("tickets", [{"id": "known", "inputs": "a known text", "outputs": "yes"}])
        client.plan("tickets", budget=12, method="k_center")
    return folder


@pytest.fixture
def data(filled, tmp_path) -> Path:
    """A copy of the filled folder that a test may change."""
    return Path(shutil.copytree(filled, tmp_path / "data"))


def the_plan(data: Path) -> str:
    (plan,) = Run("plan", "ls", "--data", data, "--json").json
    return str(plan["id"])


def test_a_plan_that_asks_a_scorer_says_how_to_get_one(data):
    run = Run("plan", "create", "tickets", "-b", "1", "--ask-scorer", "--method", "vote_k", "--data", data)
    assert run.code == 1
    assert "no scorer is configured" in run.err


def test_a_plan_is_made_and_shown(data):
    run = Run("plan", "create", "tickets", "--budget", "12", "--data", data)
    assert run.code == 0
    assert "12 of 24 unlabelled examples by facility_location, beside 1 labelled ones" in run.out
    assert "of the coverage of labelling everything" in run.out
    assert run.out.count("unlabelled ") >= 10
    assert "and 2 more: kshot plan show " in run.err


def test_a_file_is_stored_first_and_takes_no_label_away(data, tmp_path):
    file = tmp_path / "rows.jsonl"
    rows = [{"id": "known", "inputs": "a known text"}, {"id": "new", "inputs": "a new text"}, {"inputs": ""}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = Run("plan", "create", "tickets", "-b", "99", "--file", file, "--data", data, "--json")
    assert run.code == 0
    assert (run.json["result"]["labelled"], run.json["result"]["planned"]) == (1, 25)
    assert "1 new, 1 there already" in run.err
    assert "line 3: /inputs" in run.err
    with kshot.LocalClient(data) as client:
        assert client.get_example("tickets", "known").outputs == "yes"


def test_a_pool_is_created_from_a_file_of_columns(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("text,words\none two,2\nthree,1\n", encoding="utf-8")
    run = Run(
        *("plan", "create", "fresh", "--max-cost", "2", "--cost-field", "metadata.words", "--file", file),
        *("--create", "--embedder", "hashing", "--input-field", "text", "--metadata-fields", "words"),
        *("--data", tmp_path / "data", "--no-curve"),
    )
    # A CSV cell is text, so these costs are none.
    assert run.code == 1
    assert "have no number in metadata.words" in run.err
    assert "; it holds text, such as '2' (a CSV file gives text only" in run.err


def test_costs_strata_and_parameters_travel(data):
    run = Run(
        *("plan", "create", "tickets", "--max-cost", "10", "--cost-field", "metadata.cost"),
        *("--strata", "metadata.lang", "--filter", '{"field": "metadata.cost", "lt": 4}', "--seed", "3"),
        *("--method", '{"type": "fast_vote_k", "n_neighbors": 3}', "--data", data, "--json"),
    )
    result = run.json["result"]
    assert result["cost"] <= 10
    assert result["strata"] == [{"value": "en", "unlabelled": 16, "planned": result["planned"]}]
    assert result["graph"]["n_neighbors"] == 3
    assert run.json["request"]["seed"] == 3


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "received neither"),
        (["--budget", "3", "--max-cost", "4"], "received both"),
        (["--budget", "0"], "greater than or equal"),
        (["--budget", "x"], "valid integer"),
    ],
)
def test_senseless_budgets_are_wrong_usage(data, arguments, why):
    run = Run("plan", "create", "tickets", *arguments, "--data", data)
    assert run.code == 2
    assert why in run.err


def test_an_unknown_method_is_answered_with_those_there_are(data):
    run = Run("plan", "create", "tickets", "-b", "3", "-m", "nope", "--data", data)
    assert run.code == 1
    assert "fast_vote_k" in run.err
    assert "`kshot plan methods`" in run.err


def test_plans_are_listed_and_shown(data):
    plan_id = the_plan(data)
    assert plan_id in Run("plan", "ls", "--pool", "tickets", "--data", data).out
    shown = Run("plan", "show", plan_id, "--limit", "3", "--data", data)
    assert "12 of 24 unlabelled examples by k_center" in shown.out
    assert "and 9 more" in shown.err
    both = Run("plan", "show", plan_id, "--data", data, "--json").json
    assert [item["rank"] for item in both["items"]] == list(range(1, 13))
    missing = Run("plan", "show", "none", "--data", data)
    assert (missing.code, "no plan has the id 'none'" in missing.err) == (1, True)


def test_an_id_can_be_copied_from_a_narrow_list(data, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert the_plan(data) in Run("plan", "ls", "--data", data).out


def test_methods_are_listed(data):
    run = Run("plan", "methods", "--data", data)
    assert "fast_vote_k" in run.out
    assert "n_neighbors" in run.out
    assert "random" in [one["name"] for one in Run("plan", "methods", "--data", data, "--json").json]


def test_a_curve_is_shown_and_written(data, tmp_path):
    plan_id = the_plan(data)
    page = tmp_path / "curve.html"
    run = Run("plan", "curve", plan_id, "--html", page, "--data", data)
    assert run.code == 0
    assert "k_center, mean" in run.out
    assert "of the coverage of labelling everything" in run.out
    assert "<html" in page.read_text(encoding="utf-8")
    points = Run("plan", "curve", plan_id, "--data", data, "--json").json["points"]
    assert [point["budget"] for point in points[:3]] == [0, 1, 2]
    plain = Run("plan", "create", "tickets", "-b", "3", "--no-curve", "--data", data, "--json").json["id"]
    none = Run("plan", "curve", plain, "--data", data)
    assert (none.code, "it was made without" in none.err) == (1, True)


def test_a_plan_is_exported(data, tmp_path):
    plan_id = the_plan(data)
    lines = Run("plan", "export", plan_id, "--data", data).out.splitlines()
    assert len(lines) == 12
    file, interface = tmp_path / "tasks.json", tmp_path / "interface.xml"
    run = Run(
        *(
            "plan",
            "export",
            plan_id,
            "-f",
            "label-studio",
            "-o",
            file,
            "--interface",
            interface,
            "--data",
            data,
        )
    )
    assert run.code == 0
    assert [task["data"]["kshot_rank"] for task in json.loads(file.read_bytes())] == list(range(1, 13))
    assert "yes" in interface.read_text(encoding="utf-8")
    wrong = Run("plan", "export", plan_id, "-f", "paper", "--data", data)
    assert (wrong.code, "format" in wrong.err) == (1, True)


def test_a_made_plan_stays_as_it_is_when_cancelled(data):
    assert "is succeeded" in Run("plan", "cancel", the_plan(data), "--data", data).out


def test_whoever_stops_waiting_stops_the_plan(data, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    cancelled = []
    monkeypatch.setattr(Client, "wait_plan", interrupted)
    monkeypatch.setattr(Client, "cancel_plan", lambda _, plan_id: cancelled.append(plan_id))
    run = Run("plan", "create", "tickets", "-b", "3", "--data", data)
    assert run.code == 130
    assert len(cancelled) == 1
    assert plans.app.info.name == "plan"
