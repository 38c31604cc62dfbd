"""The real language model of the tests, and a real vLLM that serves it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from kshot.clients.scorers.launcher import VllmServer, VllmSettings

ROOT = Path(__file__).parent.parent
VLLM_NAME = "smol"


@cache
def smollm2() -> Path:
    """Return the folder of SmolLM2-135M-Instruct, made at its first use on this machine."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "make_smollm2.py")],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=900,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    return Path(done.stdout.splitlines()[-1])


@contextmanager
def vllm_server(*extra: str) -> Iterator[VllmServer]:
    """Run a vLLM that serves SmolLM2 as ``smol``; ``make vllm`` makes its environment."""
    settings = VllmSettings(model=str(smollm2()), served_name=VLLM_NAME, extra=extra)
    with VllmServer(settings, environment=ROOT / ".venv-vllm") as server:
        server.start()
        yield server
