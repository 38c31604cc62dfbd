"""What the documentation names exists, and what exists is documented."""

import contextlib
import io
import re
from pathlib import Path

import pytest
import typer.main

from kshot.clients.cli.main import app
from kshot.errors import code_to_error
from kshot.labelling import FORMATS
from kshot.labelling.answers import CODES
from kshot.selectors import SELECTORS
from kshot.selectors.annotation import PLANNERS
from kshot.selectors.bandits import POLICIES
from kshot.server.settings import variables

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def python_blocks(name: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page(name), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", SELECTORS.names())
def test_every_method_has_a_row(name):
    assert re.search(rf"^\| `{name}` \|", page("docs/selectors.md"), re.MULTILINE)


@pytest.mark.parametrize("name", PLANNERS.names())
def test_every_planner_has_a_row(name):
    assert re.search(rf"^\| `{name}` \|", page("docs/annotation.md"), re.MULTILINE)


@pytest.mark.parametrize("name", POLICIES.names())
def test_every_policy_has_a_row(name):
    assert re.search(rf"^\| `{name}` \|", page("docs/policies.md"), re.MULTILINE)


@pytest.mark.parametrize("variable", sorted(variables().values()))
def test_every_setting_is_documented(variable):
    assert f"`{variable}`" in page("docs/operations.md")


@pytest.mark.parametrize("code", sorted(code_to_error()))
def test_every_error_code_is_documented(code):
    assert f"`{code}`" in page("docs/http-api.md")


def commands(group, prefix):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}"


@pytest.mark.parametrize("command", list(commands(typer.main.get_command(app), "kshot")))
def test_every_command_is_documented(command):
    assert f"`{command}" in page("docs/cli.md")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    missing = [target for target in targets if "://" not in target and not (path.parent / target).exists()]
    assert missing == []


def test_every_python_example_of_the_methods_page_runs():
    blocks = python_blocks("docs/selectors.md")
    assert blocks
    for block in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(block, {})
        assert "[" in printed.getvalue()


def test_the_python_examples_of_the_annotation_page_print_what_stands_below_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = page("docs/annotation.md")
    pairs = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(pairs) == len(python_blocks("docs/annotation.md")) > 0
    for block, expected in pairs:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(block, {})
        assert printed.getvalue().strip() == expected.strip()


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_problem_of_an_answer_is_documented(code):
    assert f"`{code}`" in page("docs/annotation.md")


@pytest.mark.parametrize("form", FORMATS)
def test_every_labelling_format_has_a_row(form):
    assert re.search(rf"^\| `{form}` \|", page("docs/annotation.md"), re.MULTILINE)


@pytest.mark.component
def test_the_readme_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = python_blocks("README.md")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(block, {})
    assert printed.getvalue().endswith("Input: i want my money back\nOutput:\n")
    assert "Output: refund" in printed.getvalue()
