"""What every command starts with: the common options, and the client they lead to.

Where the examples are is decided in this order: ``--url``, ``--data``, ``KSHOT_BASE_URL``, ``KSHOT_DATA``,
and last the server that owns ``./kshot-data``.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from kshot.clients.sdk.client import Client
from kshot.clients.sdk.config import BASE_URL_VARIABLE
from kshot.clients.sdk.local import LocalClient
from kshot.errors import DataFolderLocked, KshotError, MissingDependency, ServerUnreachable

DATA_VARIABLE = "KSHOT_DATA"
DEFAULT_DATA = Path("kshot-data")
OWNER_FILE = "owner.json"

UrlOption = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="Server to talk to. [env: KSHOT_BASE_URL]", show_default=False),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Data folder to open in process, without a server. [env: KSHOT_DATA]",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


@dataclass(slots=True)
class Session:
    """The common options, as given before or after the command's name."""

    url: str | None = None
    data: Path | None = None
    json: bool = False

    @classmethod
    def of(
        cls,
        context: typer.Context,
        url: str | None = None,
        data: Path | None = None,
        *,
        as_json: bool = False,
    ) -> "Session":
        """Add a command's own options to those given before its name.

        Raises
        ------
        typer.BadParameter
            Both a server and a folder are named.
        """
        session = context.ensure_object(cls)
        session.url = url or session.url
        session.data = data or session.data
        session.json = session.json or as_json
        if session.url and session.data:
            raise typer.BadParameter("give --url or --data, not both")
        return session

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Open the client that the options and the environment lead to."""
        client = open_client(self.url, self.data)
        try:
            yield client
        finally:
            client.close()


def open_client(url: str | None, data: Path | None) -> Client:
    """Find the examples, in the order told at the head of this module.

    Raises
    ------
    ServerUnreachable
        Nothing is named and no server owns ``./kshot-data``.
    DataFolderLocked
        The folder's owner serves no URL.
    """
    if url is None and data is None:
        url = os.environ.get(BASE_URL_VARIABLE)
        data = Path(os.environ[DATA_VARIABLE]) if os.environ.get(DATA_VARIABLE) else None
    if url:
        return Client(url)
    if data is not None:
        return _open_folder(data)
    owner_url = read_owner_url(DEFAULT_DATA)
    if owner_url is None:
        raise ServerUnreachable("no server is named and none runs on ./kshot-data")
    return Client(owner_url)


def _open_folder(data: Path) -> Client:
    try:
        return LocalClient(data)
    except (DataFolderLocked, MissingDependency):
        owner_url = read_owner_url(data)
        if owner_url is None:
            raise
        return Client(owner_url)


def read_owner_url(data: Path) -> str | None:
    """Return the URL under which a folder's owner serves it; None if there is no such owner."""
    try:
        owner = json.loads((data / OWNER_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    url = owner.get("url") if isinstance(owner, dict) else None
    return url if isinstance(url, str) else None


def json_argument(text: str, option: str) -> dict[str, Any]:
    """Parse an option that holds a JSON object.

    Raises
    ------
    typer.BadParameter
        It does not.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option} is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise typer.BadParameter(f"{option} is no JSON object")
    return value


_CODE_TO_HINT = {
    "server_unreachable": "start a server with `kshot serve`, name one with --url, "
    "or open a folder in process with --data DIR",
    "unauthorized": "set KSHOT_API_KEY to the server's key",
    "pool_not_found": "`kshot pool ls` lists the pools, `kshot pool create NAME` makes one",
    "pool_exists": "choose another name; `kshot pool create --exist-ok` uses the pool as it is",
    "unknown_selector": "`kshot selectors` lists the methods, `kshot plan methods` those of planning",
    "invalid_filter": 'a filter looks like {"field": "metadata.lang", "eq": "en"}',
    "scorer_unavailable": "`kshot doctor` shows the scorer, `kshot serve --scorer-url URL` names one",
    "data_folder_locked": "leave out --data, or stop the other process",
}


def hint_for(error: KshotError) -> str | None:
    """Say what to try next, if that is known."""
    return _CODE_TO_HINT.get(error.code)
