"""The server process: when it speaks, what it refuses, how it ends."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from kshot.errors import Conflict, DataFolderLocked, InvalidInput
from kshot.server import serving
from kshot.server.data_folder import DataFolderLock, read_owner
from kshot.server.metrics import Metrics
from kshot.server.settings import Settings
from tests.test_server.stubs import StubServices

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from kshot.server.serving import serve
from tests.test_server.stubs import StubServices

class Telling(StubServices):
    async def close(self):
        print("closed", flush=True)

serve(port=0, data_dir=Path(sys.argv[2]), build=lambda settings, metrics: Telling())
print("returned", flush=True)
"""


def stub(_settings: Settings, _metrics: Metrics) -> StubServices:
    return StubServices()


@contextmanager
def running(data_dir: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    command = [sys.executable, "-c", SCRIPT, str(ROOT), str(data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            assert first.startswith("Listening on http://127.0.0.1:")
            yield process, first.removeprefix("Listening on ").strip()
        finally:
            process.kill()


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KSHOT_API_KEY", raising=False)
    monkeypatch.setattr(serving, "configure", lambda *_: None)  # leaves pytest's own logging alone


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_a_public_address_without_a_key_is_refused(host: str, tmp_path: Path):
    with pytest.raises(InvalidInput, match="KSHOT_API_KEY"):
        serving.serve(host=host, port=0, data_dir=tmp_path / "data", build=stub)
    assert not (tmp_path / "data").exists()


def test_a_taken_port_is_a_conflict(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Conflict, match=f"cannot listen on 127.0.0.1 port {port}"):
            serving.serve(port=port, data_dir=tmp_path, build=stub)


def test_a_locked_folder_is_refused(tmp_path: Path):
    lock = DataFolderLock(tmp_path)
    lock.acquire()
    with pytest.raises(DataFolderLocked):
        serving.serve(port=0, data_dir=tmp_path, build=stub)
    lock.release()


def test_services_that_cannot_start_give_their_own_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    error = Conflict("the database is of another version")
    with pytest.raises(Conflict, match="another version"):
        serving.serve(port=0, data_dir=tmp_path, build=lambda *_: StubServices(start_error=error))
    assert "Listening" not in capsys.readouterr().out
    DataFolderLock(tmp_path).acquire()


@pytest.mark.component
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server_cleanly(number: signal.Signals, tmp_path: Path):
    with running(tmp_path) as (process, url):
        assert httpx.get(f"{url}/readyz").status_code == 200
        owner = read_owner(tmp_path)
        assert owner is not None
        assert (owner.pid, owner.url) == (process.pid, url)
        process.send_signal(number)
        assert process.wait(timeout=30) == 0
        assert process.stdout is not None
        assert process.stdout.read().splitlines() == ["closed", "returned"]
    assert read_owner(tmp_path) is None


@pytest.mark.component
def test_a_killed_server_leaves_a_folder_that_the_next_one_takes(tmp_path: Path):
    with running(tmp_path) as (process, _):
        process.kill()
        process.wait(timeout=30)
    assert read_owner(tmp_path) is not None
    with running(tmp_path) as (_, url):
        assert httpx.get(f"{url}/livez").json() == {"status": "ok"}


@pytest.mark.component
def test_without_a_key_only_this_machines_names_are_served(tmp_path: Path):
    with running(tmp_path) as (_, url):
        assert httpx.get(f"{url}/v1/pools").status_code == 200
        assert httpx.get(f"{url}/v1/pools", headers={"Host": "evil.example"}).status_code == 401


@pytest.mark.component
def test_a_client_that_sends_everything_first_can_upload_any_length(tmp_path: Path):
    # httpx reads no answer before its body is sent; here both are far longer than the sockets' buffers.
    rows = 150_000
    line = json.dumps({"id": "x" * 200, "inputs": "a"}).encode() + b"\n"
    with running(tmp_path) as (_, url):
        response = httpx.post(
            f"{url}/v1/pools/tickets/examples",
            content=(line * 500 for _ in range(rows // 500)),
            headers={"Content-Type": "application/x-ndjson"},
            timeout=60,
        )
    replies = [json.loads(text) for text in response.text.splitlines()]
    assert replies[-1]["upto_line"] == rows
    assert sum(reply["accepted"] for reply in replies) == rows
    assert len(response.content) > 30_000_000
