"""`kshot serve` and `kshot demo` as processes of their own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import kshot
from kshot.clients.cli import serve
from kshot.errors import InvalidInput
from tests.test_clients.command_line import Run, forget_environment

KSHOT = [sys.executable, "-m", "kshot"]


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    forget_environment(monkeypatch, tmp_path)


@contextmanager
def serving(*options: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    process = subprocess.Popen(
        [*KSHOT, "serve", "--port", "0", "--log-level", "error", *options], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("Listening on http://127.0.0.1:")
        yield process, line.removeprefix("Listening on ").strip()
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.component
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_says_where_it_listens_and_ends_cleanly(number):
    with serving("--data", "d") as (process, url):
        with kshot.Client(url) as client:
            client.create_pool("tickets", embedder="hashing")
            assert client.upsert("tickets", [("a", "b")]).accepted == 1
        process.send_signal(number)
        assert process.wait(60) == 0
    with kshot.LocalClient("d") as client:
        assert client.get_pool("tickets").examples == 1


@pytest.mark.component
def test_a_program_reads_where_a_server_listens():
    command = [*KSHOT, "serve", "--port", "0", "--log-level", "error", "--data", "d", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        with kshot.Client(url) as client:
            assert client.ready()
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.component
def test_commands_find_the_server_that_owns_a_folder():
    with serving("--data", "kshot-data") as (_, url):
        with kshot.Client(url) as client:
            client.create_pool("tickets", embedder="hashing")
        assert [pool["name"] for pool in Run("pool", "ls", "--json").json] == ["tickets"]
        assert [pool["name"] for pool in Run("pool", "ls", "--data", "kshot-data", "--json").json] == [
            "tickets"
        ]
        checks = {check["name"]: check for check in Run("doctor", "--json").json["checks"]}
        assert checks["server"]["outcome"] == "ok"
        assert url in checks["server"]["detail"]


@pytest.mark.component
def test_a_public_address_without_a_key_is_refused():
    done = subprocess.run(
        [*KSHOT, "serve", "--host", "0.0.0.0", "--port", "0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "KSHOT_API_KEY" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.component
def test_the_demo_shows_where_two_methods_differ_and_leaves_nothing_behind(tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path), "KSHOT_DATA": "untouched", "KSHOT_HOST": "0.0.0.0"}
    done = subprocess.run(
        [*KSHOT, "demo", "--embedder", "hashing", "--methods", "similarity,bm25", "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env=environment,
    )
    comparisons: list[dict[str, Any]] = json.loads(done.stdout)
    assert len(comparisons) == 5
    for comparison in comparisons:
        first, second = comparison["selections"]
        assert (first["method"], second["method"]) == ("similarity", "bm25")
        assert len(first["demonstrations"]) == len(second["demonstrations"]) == 4
        assert comparison["shared"] < 4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.component
def test_the_demo_prints_a_table_a_prompt_and_how_to_go_on():
    done = subprocess.run(
        [*KSHOT, "demo", "--embedder", "hashing", "--methods", "similarity,bm25"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "similarity" in done.stdout
    assert done.stdout.rstrip().endswith("Output:")
    assert "kshot ingest FILE.jsonl --pool mine --create" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.component
@pytest.mark.slow
def test_the_demo_runs_on_the_packaged_model():
    done = subprocess.run([*KSHOT, "demo", "--json"], capture_output=True, text=True, timeout=300, check=True)
    comparisons = json.loads(done.stdout)
    assert len(comparisons) == 5
    assert {one["method"] for one in comparisons[0]["selections"]} == {"similarity", "fused"}
    assert all(comparison["shared"] < 4 for comparison in comparisons)


@pytest.mark.component
def test_an_unknown_embedder_ends_the_demo_with_a_reason():
    run = Run("demo", "--embedder", "nonsense")
    assert run.code == 1
    assert "nonsense" in run.err


@pytest.mark.parametrize("methods", ["one", "a,b,c", ",", ""])
def test_the_demo_compares_two_methods(methods):
    run = Run("demo", "--methods", methods)
    assert run.code == 1
    assert "two names with a comma" in run.err


def test_serve_hands_its_options_on(monkeypatch):
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(
        "kshot.server.serving.serve", lambda *positional, **named: calls.append((*positional, named))
    )
    Run(
        "--data",
        "d",
        "serve",
        "--host",
        "::1",
        "--port",
        "7",
        "--log-level",
        "debug",
        "--log-format",
        "console",
        "--scorer-url",
        "http://127.0.0.1:9",
    )
    Run("serve", "--json")
    url = "http://127.0.0.1:9"
    assert calls == [
        (
            *("::1", 7, Path("d")),
            {"scorer_url": url, "log_level": "debug", "log_format": "console", "as_json": False},
        ),
        (None, None, None, {"scorer_url": None, "log_level": None, "log_format": None, "as_json": True}),
    ]


def test_a_refusal_of_the_server_is_one_line(monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise InvalidInput("host '0.0.0.0' can be reached by other machines: set KSHOT_API_KEY first")

    monkeypatch.setattr("kshot.server.serving.serve", refuse)
    run = Run("serve", "--host", "0.0.0.0")
    assert run.code == 1
    assert run.err.startswith("error: host '0.0.0.0' can be reached")
    assert serve.serve.__doc__ is not None
