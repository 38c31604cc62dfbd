"""``kshot serve``: the server in the foreground."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kshot.clients.cli.session import JsonOption, Session
from kshot.clients.sdk.local import server_missing


class LogLevel(StrEnum):
    """Least severe events that are shown."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How events are written."""

    JSON = "json"
    CONSOLE = "console"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)


def serve(
    context: typer.Context,
    host: Annotated[
        str | None,
        typer.Option(help="Address to bind; default 127.0.0.1. [env: KSHOT_HOST]", show_default=False),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Port to bind; default 8080, 0 takes a free one. [env: KSHOT_PORT]",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Data folder; default ./kshot-data. [env: KSHOT_DATA]",
            show_default=False,
        ),
    ] = None,
    scorer_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="vLLM server that gives likelihoods: http://127.0.0.1:8000/v1. [env: KSHOT_SCORER_URL]",
            show_default=False,
        ),
    ] = None,
    log_level: Annotated[
        LogLevel | None, typer.Option(help="Default info. [env: KSHOT_LOG_LEVEL]", show_default=False)
    ] = None,
    log_format: Annotated[
        LogFormat | None, typer.Option(help="Default json. [env: KSHOT_LOG_FORMAT]", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the server until Ctrl-C.

    It prints `Listening on http://HOST:PORT` once it answers, as JSON `{"url": ...}`. To be reachable from
    other machines it needs a key, which every request then has to carry:

        kshot serve
        KSHOT_API_KEY=$(openssl rand -hex 24) kshot serve --host 0.0.0.0 --data /srv/kshot
    """
    session = Session.of(context, data=data, as_json=as_json)
    # Read when NumPy is imported. Requests run side by side: a product that takes every core makes the others
    # wait, and two such products at once take several times as long as one after the other.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        from kshot.server.serving import serve as run_server  # noqa: PLC0415  (heavy, and an extra)
    except ModuleNotFoundError as error:
        raise server_missing(error, "kshot serve") from error
    run_server(
        host,
        port,
        session.data,
        scorer_url=scorer_url,
        log_level=log_level,
        log_format=log_format,
        as_json=session.json,
    )
