"""Help, usage errors, exit codes, and where a command finds its examples."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer

import kshot
from kshot.clients.cli import output, session
from kshot.clients.cli.main import app
from kshot.clients.sdk.client import Client
from kshot.errors import (
    DataFolderLocked,
    FieldError,
    InvalidInput,
    KshotError,
    PoolNotFound,
    ServerUnreachable,
)
from tests.test_clients.command_line import Run, forget_environment


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    forget_environment(monkeypatch, tmp_path)


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    children: dict[str, Any] = getattr(command, "commands", {})
    for name, child in children.items():
        if getattr(child, "commands", None):
            yield from commands(child, (*path, name))
        else:
            yield (*path, name), child


COMMANDS = dict(commands(typer.main.get_command(app)))


def test_the_commands_are_these():
    assert sorted(" ".join(path) for path in COMMANDS) == [
        "demo",
        "doctor",
        "feedback",
        "ingest",
        "plan cancel",
        "plan create",
        "plan curve",
        "plan export",
        "plan import",
        "plan ls",
        "plan methods",
        "plan show",
        "policy algorithms",
        "policy create",
        "policy decide",
        "policy evaluate",
        "policy ls",
        "policy report",
        "policy set",
        "policy show",
        "pool create",
        "pool difficulty",
        "pool export",
        "pool gaps",
        "pool import",
        "pool ls",
        "pool stats",
        "pool tune",
        "prompt add",
        "prompt label",
        "prompt ls",
        "prompt render",
        "prompt show",
        "score",
        "scorer start",
        "select",
        "selectors",
        "serve",
    ]


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_teaches_with_an_example_of_itself(path):
    text = COMMANDS[path].help or ""
    assert f"kshot {' '.join(path)}" in text
    run = Run(*path, "--help")
    assert run.code == 0
    assert "Usage" in run.out
    # Markdown would run the lines of a paragraph together.
    examples = [line.strip() for line in text.splitlines() if line.lstrip().startswith("kshot ")]
    assert set(examples) <= {line.strip() for line in run.out.splitlines()}


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_option_and_argument_is_explained(path):
    unexplained = [
        parameter.name for parameter in COMMANDS[path].params if not getattr(parameter, "help", "")
    ]
    assert [name for name in unexplained if name not in {"pool", "help"}] == []


@pytest.mark.parametrize("path", sorted(COMMANDS), ids=" ".join)
def test_every_command_has_json(path):
    assert "--json" in [option for parameter in COMMANDS[path].params for option in parameter.opts]


def test_without_arguments_the_commands_are_listed():
    run = Run()
    assert "ingest" in run.out + run.err


def test_the_version_is_printed():
    run = Run("--version")
    assert (run.code, run.out) == (0, f"kshot {kshot.__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["pool", "ls", "--colour"],
        ["select", "tickets"],
        ["select", "tickets", "q", "--k", "0"],
        ["select", "tickets", "q", "--data", "d", "--filter", "{broken"],
        ["select", "tickets", "q", "--data", "d", "--filter", "[1]"],
        ["select", "tickets", '{"subject": ', "--data", "d"],
        ["pool", "ls", "--url", "http://host", "--data", "d"],
        ["--url", "http://host", "pool", "ls", "--data", "d"],
        ["ingest", "absent.jsonl", "--pool", "p"],
        ["ingest", ".", "--pool", "p"],
        ["serve", "--port", "70000"],
        ["serve", "--log-level", "loud"],
    ],
)
def test_wrong_usage_ends_with_two_and_says_so_on_stderr(arguments):
    run = Run(*arguments)
    assert (run.code, run.out) == (2, "")
    assert "Usage" in run.err
    assert not Path("d").exists()


class Scripted(Client):
    """A client whose first call raises."""

    def __init__(self, error: BaseException) -> None:
        def handler(_: httpx.Request) -> httpx.Response:
            raise error

        super().__init__("http://kshot.test", max_retries=0, transport=httpx.MockTransport(handler))


def fail_with(monkeypatch, error: BaseException) -> None:
    monkeypatch.setattr(session, "open_client", lambda _url, _data: Scripted(error))


def test_an_error_is_one_line_with_a_hint_and_no_traceback(monkeypatch):
    fail_with(monkeypatch, PoolNotFound("no pool is named 'x'", request_id="r1"))
    run = Run("pool", "stats", "x")
    assert (run.code, run.out) == (1, "")
    assert run.err == (
        "error: no pool is named 'x' [request r1]\n"
        "hint: `kshot pool ls` lists the pools, `kshot pool create NAME` makes one\n"
    )


def test_refused_fields_are_part_of_the_line(monkeypatch):
    fail_with(monkeypatch, InvalidInput("refused", errors=[FieldError("/k", "received 0, allowed >= 1")]))
    assert Run("pool", "ls").err == "error: refused (/k: received 0, allowed >= 1)\n"


def test_refused_fields_that_the_message_tells_are_not_told_twice(monkeypatch):
    errors = [FieldError("/k", "is missing"), FieldError("/inputs", "is missing")]
    fail_with(monkeypatch, InvalidInput("/k is missing", errors=errors))
    assert Run("pool", "ls").err == "error: /k is missing (/inputs: is missing)\n"
    fail_with(monkeypatch, InvalidInput("k is missing", errors=errors[:1]))
    assert Run("pool", "ls").err == "error: k is missing\n"


def test_with_json_an_error_is_an_object_on_stdout_as_well(monkeypatch):
    fail_with(monkeypatch, KshotError("it broke", request_id="r1"))
    for arguments in (["--json", "pool", "ls"], ["pool", "ls", "--json"]):
        run = Run(*arguments)
        assert run.code == 1
        assert run.json == {"error": {"code": "internal", "message": "it broke", "request_id": "r1"}}
        assert run.err == "error: it broke [request r1]\n"


def test_an_interrupt_ends_with_130_and_no_traceback(monkeypatch):
    fail_with(monkeypatch, KeyboardInterrupt())
    run = Run("pool", "ls")
    assert (run.code, run.out, run.err) == (130, "", "interrupted\n")


def test_a_file_that_cannot_be_used_is_one_line(monkeypatch):
    fail_with(monkeypatch, PermissionError(13, "Permission denied", "rows.jsonl"))
    run = Run("pool", "ls")
    assert (run.code, run.err) == (1, "error: rows.jsonl: Permission denied\n")


def test_a_server_that_does_not_answer_is_named():
    run = Run("pool", "ls", "--url", "http://127.0.0.1:9")
    assert run.code == 1
    assert "http://127.0.0.1:9" in run.err
    assert "hint: start a server with `kshot serve`" in run.err


def test_with_nothing_to_talk_to_the_way_on_is_told():
    run = Run("pool", "ls")
    assert run.code == 1
    assert "no server is named" in run.err
    assert "kshot serve" in run.err


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """Where clients were opened, in words; folders are not really opened."""
    places: list[str] = []

    class Folder:
        def __init__(self, path: Path) -> None:
            places.append(f"folder {path}")

    def server(url: str) -> None:
        places.append(f"server {url}")

    monkeypatch.setattr(session, "LocalClient", Folder)
    monkeypatch.setattr(session, "Client", server)
    return places


def own(folder: str, url: str | None) -> None:
    Path(folder).mkdir(exist_ok=True)
    (Path(folder) / "owner.json").write_text(json.dumps({"pid": 7, "url": url}), encoding="utf-8")


def test_what_is_given_goes_before_the_environment(opened, monkeypatch):
    monkeypatch.setenv("KSHOT_BASE_URL", "http://environment")
    monkeypatch.setenv("KSHOT_DATA", "of-environment")
    session.open_client("http://given", None)
    session.open_client(None, Path("given"))
    assert opened == ["server http://given", "folder given"]


def test_of_the_environment_the_server_goes_before_the_folder(opened, monkeypatch):
    monkeypatch.setenv("KSHOT_DATA", "of-environment")
    session.open_client(None, None)
    monkeypatch.setenv("KSHOT_BASE_URL", "http://environment")
    session.open_client(None, None)
    assert opened == ["folder of-environment", "server http://environment"]


def test_the_server_on_the_usual_folder_is_found_last(opened):
    own("kshot-data", "http://127.0.0.1:4711")
    session.open_client(None, None)
    assert opened == ["server http://127.0.0.1:4711"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"url": 7}', '{"pid": 1, "url": null}', "\ud83d"])
def test_an_owner_without_a_url_is_no_server(text):
    Path("kshot-data").mkdir()
    Path("kshot-data/owner.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ServerUnreachable, match="no server is named"):
        session.open_client(None, None)


def test_a_folder_in_use_leads_to_its_owner(opened, monkeypatch):
    def locked(path: Path) -> None:
        raise DataFolderLocked(f"{path} is in use by process 7")

    monkeypatch.setattr(session, "LocalClient", locked)
    with pytest.raises(DataFolderLocked):
        session.open_client(None, Path("shared"))
    own("shared", "http://127.0.0.1:4711")
    session.open_client(None, Path("shared"))
    assert opened == ["server http://127.0.0.1:4711"]


def test_stored_texts_cannot_steer_the_terminal():
    assert output.printable("a\x1b[31mred\x07\tb\nc\u202e") == "a�[31mred�\tb\nc�"
    assert output.shortened("one\n  two\tthree", 20) == "one two three"
    assert output.shortened("x" * 30, 10) == "x" * 9 + "…"


def test_tables_do_not_read_texts_as_markup(capsys):
    output.print_table(["[bold]head"], [["[red]not markup[/red]"], ["[/]"]])
    shown = capsys.readouterr().out
    assert "[red]not markup[/red]" in shown
    assert "[/]" in shown
    assert "\x1b" not in shown
