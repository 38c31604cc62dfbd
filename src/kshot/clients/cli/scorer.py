"""``kshot scorer``: the language model that gives likelihoods."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from kshot.clients.cli import output
from kshot.clients.cli.session import JsonOption, Session
from kshot.clients.scorers.launcher import VllmServer, VllmSettings
from kshot.errors import ScorerUnavailable

app = typer.Typer(no_args_is_help=True, help="Run the language model that gives likelihoods.")


@app.callback()
def scorer() -> None:
    """Run the language model that gives likelihoods."""


@app.command()
def start(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="A folder, or a name on the Hugging Face hub.")],
    extra: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- VLLM_OPTIONS]", help="Options for vLLM's server, as they are."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What requests call the model; default MODEL.", show_default=False)
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port on 127.0.0.1; default a free one.", show_default=False),
    ] = None,
    environment: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Virtual environment with vLLM; default ./.venv-vllm. [env: KSHOT_VLLM_ENV]",
            show_default=False,
        ),
    ] = None,
    dtype: Annotated[str, typer.Option(help="Numeric type of the weights.")] = "bfloat16",
    max_tokens: Annotated[int, typer.Option(min=2, help="Longest prompt with its completion.")] = 2048,
    cache_gb: Annotated[int, typer.Option(min=1, help="GiB for attention caches on a CPU.")] = 2,
    eager: Annotated[
        bool, typer.Option("--eager/--compile", help="Start at once, or compile the model first.")
    ] = True,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds it may take to start.")] = 600.0,
    log: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where vLLM's output goes; default nowhere.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a vLLM server for MODEL until Ctrl-C, in an environment of its own.

    It prints `Listening on http://127.0.0.1:PORT` once it answers, as JSON `{"url": ..., "model": ...}`.

    ```
    kshot scorer start HuggingFaceTB/SmolLM2-135M-Instruct
    kshot scorer start ./my-model --name mine --port 8000
    kshot scorer start ./my-model --compile -- --tensor-parallel-size 2
    ```
    """
    session = Session.of(context, as_json=as_json)
    settings = VllmSettings(
        model=model,
        served_name=name,
        port=port,
        dtype=dtype,
        max_model_tokens=max_tokens,
        cache_gb=cache_gb,
        eager=eager,
        extra=tuple(extra or ()),
    )
    with VllmServer(settings, environment=environment, log=log) as server, _stopped_by_signals():
        output.note(f"starting vLLM with {model}: about a minute for a small model on a CPU")
        try:
            server.start(timeout_s=timeout, on_progress=_progress)
            if session.json:
                output.print_json({"url": server.url, "model": settings.name})
            else:
                output.print_text(f"Listening on {server.url}")
            code = server.wait()
        except (KeyboardInterrupt, _Stopped):
            output.note("stopping vLLM")
            return
        raise ScorerUnavailable(f"vLLM ended with exit code {code}; its log ends with:\n{server.tail()}")


class _Stopped(Exception):
    """Somebody asked this process to end."""


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    # Of SIGINT too: a shell lets processes in its background ignore it, and they hand that down.
    def stop(_number: int, _frame: FrameType | None) -> None:
        raise _Stopped

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _progress(seconds: float, line: str) -> None:
    output.note(f"{seconds:4.0f} s  {output.shortened(line, 100)}")
