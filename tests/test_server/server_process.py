"""The real server as a process of its own, to be killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.test_server.live import Live, LivePool

COMMAND = [sys.executable, "-m", "kshot", "serve", "--port", "0", "--log-level", "warning", "--data"]


@dataclass(frozen=True)
class ServerProcess:
    """A server that answers at ``url``."""

    process: "subprocess.Popen[str]"
    url: str

    def kill(self) -> None:
        """End it without any warning."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ask it to end, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    @contextmanager
    def pool(self, name: str = "tickets") -> Iterator[LivePool]:
        services: Any = None  # of another process
        with httpx.Client(base_url=self.url, timeout=60) as http:
            yield Live(http, services).pool(name)


@contextmanager
def serving(data_dir: Path, **settings: str) -> Iterator[ServerProcess]:
    """Start a server over a folder, with settings as its environment has them; its end is no clean one."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KSHOT_")}
    process = subprocess.Popen(
        [*COMMAND, str(data_dir)],
        stdout=subprocess.PIPE,
        text=True,
        env={**environment, "HF_HUB_OFFLINE": "1", **settings},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("Listening on http://127.0.0.1:"), "the server did not start"
        yield ServerProcess(process, line.removeprefix("Listening on ").strip())
    finally:
        process.kill()
        process.communicate()
