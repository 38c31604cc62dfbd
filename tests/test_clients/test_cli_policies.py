"""``kshot prompt``, ``kshot policy`` and ``kshot feedback``, over a data folder."""

import json

import pytest

from kshot.clients.cli.policies import variant_of
from kshot.clients.cli.prompts import assignments
from kshot.errors import InvalidInput
from tests.test_clients.command_line import Run, forget_environment


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    forget_environment(monkeypatch, tmp_path)
    monkeypatch.setenv("KSHOT_DATA", str(tmp_path / "data"))


@pytest.fixture
def greeting(tmp_path):
    """Make a prompt in two versions, and a policy over them that looks at no query."""
    assert Run("prompt", "add", "greet", "Hi {{ name }}.", "--label", "production").code == 0
    assert Run("prompt", "add", "greet", "Good day, {{ name }}.").code == 0
    settings = {
        "variants": [{"name": "short", "prompt": {"name": "greet", "version": 1}}],
        "context": {"dimension": 0},
        "algorithm": {"type": "beta_thompson"},
    }
    (tmp_path / "greeting.json").write_text(json.dumps(settings), "utf-8")
    run = Run(
        "policy", "create", "greeting", "--file", "greeting.json", "--variant", "long=greet@2", "--json"
    )
    assert run.code == 0, run.err
    return run.json


def test_a_prompt_is_made_by_its_first_version(tmp_path):
    (tmp_path / "long.txt").write_text("Write a long answer to {{ question }}.", "utf-8")
    assert (
        "prompt answer is version 1 (production)"
        in Run("prompt", "add", "answer", "x", "-l", "production").out
    )
    assert "is version 2" in Run("prompt", "add", "answer", "--file", "long.txt", "--system", "Be kind.").out
    again = Run("prompt", "add", "answer", "--file", "long.txt", "--system", "Be kind.")
    assert "says the same as before, so it stays version 2" in again.out
    assert [one["version"] for one in Run("prompt", "show", "answer", "--json").json] == [2, 1]
    whole = Run("prompt", "show", "answer", "--version", "latest").out
    assert whole.strip() == "Be kind.\n\nWrite a long answer to {{ question }}."
    assert (
        "production of prompt answer is version 2 now"
        in Run("prompt", "label", "answer", "production", "2").out
    )
    assert Run("prompt", "render", "answer", "question=why").out.endswith("answer to why.\n")
    assert "production → 2" in Run("prompt", "ls").out


def test_what_is_wrong_with_a_prompt_is_said():
    neither = Run("prompt", "add", "answer")
    assert (neither.code, "as an argument or with --file" in neither.err) == (1, True)
    broken = Run("prompt", "add", "answer", "{{ a")
    assert (broken.code, "line 1" in broken.err) == (1, True)
    Run("prompt", "add", "answer", "{{ a }}")
    missing = Run("prompt", "render", "answer")
    assert (missing.code, "uses a; received variables: none" in missing.err) == (1, True)
    assert "wanted NAME=VALUE" in Run("prompt", "render", "answer", "a").err


def test_a_policy_decides_and_learns(greeting):
    assert [one["name"] for one in greeting["variants"]] == ["short", "long"]
    shown = Run("policy", "decide", "greeting", "--var", "name=Ann", "--json").json
    told = {"short": "Hi Ann.", "long": "Good day, Ann."}[shown["variant"]]
    assert shown["messages"][-1]["content"] == told
    first = Run("feedback", "1", "--decision", shown["decision_id"])
    assert "taken in; the policy learns from it" in first.out
    assert "known already" in Run("feedback", "1", "--decision", shown["decision_id"]).out
    assert Run("feedback", "0.5", "--decision", shown["decision_id"], "--correct").code == 0
    seen = {one["name"]: one for one in Run("policy", "show", "greeting", "--json").json["variants"]}
    assert (seen[shown["variant"]]["outcomes"], seen[shown["variant"]]["mean"]) == (1, 0.5)
    assert Run("feedback", "--decision", shown["decision_id"], "--retract").code == 0
    assert Run("policy", "show", "greeting", "--json").json["outcomes"] == 0


def test_what_is_read_by_people(greeting):
    text = Run("policy", "decide", "greeting", "--var", "name=Ann").out
    assert "with probability 0.5000" in text
    assert "user: " in text
    assert "greeting" in Run("policy", "ls").out
    assert "beta_thompson, online, learns from reward" in Run("policy", "show", "greeting").out
    assert (
        "variant short of policy greeting is paused"
        in Run("policy", "set", "greeting", "short", "paused").out
    )
    assert "square_cb" in Run("policy", "algorithms").out
    assert "no decision has both" in Run("policy", "evaluate", "greeting").out.replace("\n", " ")


def test_a_report_is_shown_and_written(greeting, tmp_path):
    pytest.importorskip("matplotlib", reason="kshot[plots] is an extra")
    Run("policy", "decide", "greeting", "--var", "name=Ann")
    run = Run("policy", "report", "greeting", "--png", "r.png", "--html", "r.html")
    assert run.code == 0, run.err
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    assert "<h1>Policy greeting</h1>" in (tmp_path / "r.html").read_text("utf-8")
    assert Run("policy", "report", "greeting", "--json", "--periods", "3").json["policy"] == "greeting"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["policy", "create", "p"], "at least one variant"),
        (["policy", "create", "p", "--variant", "a=nothing"], "no prompt is named 'nothing'"),
        (["policy", "create", "p", "--variant", "a", "--algorithm", "magic"], "square_cb"),
        (["policy", "decide", "nobody"], "no policy is named 'nobody'"),
        (["policy", "report", "nobody"], "no policy is named 'nobody'"),
        (["feedback", "good", "--decision", "d"], "wanted a number, true or false"),
        (["feedback", "1"], "exactly one of decision_id and selection_id"),
        (["feedback", "1", "--decision", "d"], "no decision has the id 'd'"),
        (["feedback", "--correct", "--retract", "--decision", "d"], "not both"),
    ],
)
def test_what_cannot_be_is_refused_with_what_would_do(arguments, says):
    run = Run(*arguments)
    assert run.code == 1
    assert says in run.err


def test_settings_that_are_no_json_are_refused(tmp_path):
    (tmp_path / "p.json").write_text("[1]", "utf-8")
    assert "holds a list, wanted an object" in Run("policy", "create", "p", "--file", "p.json").err
    (tmp_path / "p.json").write_text("{", "utf-8")
    assert "is no JSON" in Run("policy", "create", "p", "--file", "p.json").err


def test_variants_and_variables_as_arguments():
    assert variant_of("a") == {"name": "a"}
    assert variant_of("a=p") == {"name": "a", "prompt": {"name": "p"}}
    assert variant_of("a=p@3") == {"name": "a", "prompt": {"name": "p", "version": 3}}
    assert variant_of("a=p@candidate") == {"name": "a", "prompt": {"name": "p", "label": "candidate"}}
    assert assignments(["a=1", "b=x=y", 'c=["z"]', "d="]) == {"a": 1, "b": "x=y", "c": ["z"], "d": ""}
    with pytest.raises(InvalidInput, match="NAME=VALUE"):
        assignments(["=1"])
