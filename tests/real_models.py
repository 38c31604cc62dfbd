"""The real language model of the tests, and a real vLLM that serves it, or has it in its own process."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from kshot.clients.scorers.launcher import VllmServer, VllmSettings, server_environment
from kshot.clients.scorers.vllm_offline import VllmOfflineScorer

ROOT = Path(__file__).parent.parent
VLLM_ENVIRONMENT = ROOT / ".venv-vllm"
VLLM_NAME = "smol"
WINDOW = 2048


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
    with VllmServer(settings, environment=VLLM_ENVIRONMENT) as server:
        server.start()
        yield server


def offline_scorer(**arguments: object) -> VllmOfflineScorer:
    """Return a scorer over SmolLM2 in this process, which has to be one of vLLM's environment."""
    return VllmOfflineScorer(
        str(smollm2()),
        dtype="bfloat16",
        max_model_tokens=WINDOW,
        audit_share=0.0,
        arguments={"enforce_eager": True, **arguments},
    )


def run_within_vllm(*arguments: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run pytest in vLLM's environment, with what vLLM needs on a CPU."""
    settings = VllmSettings(model=str(smollm2()))
    variables = server_environment(settings, VLLM_ENVIRONMENT, os.environ)
    command = [str(VLLM_ENVIRONMENT / "bin" / "python"), "-m", "pytest", *arguments]
    # There is no server of kshot's and no pytest-xdist, and vLLM's warnings are its own.
    options = ["--noconftest", "-o", "addopts=--import-mode=importlib", "-o", "filterwarnings=default"]
    return subprocess.run(
        [*command, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd=ROOT,
        env=variables,
        timeout=timeout_s,
    )
