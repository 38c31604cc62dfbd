"""The client without a server: the same application, inside this process."""

from pathlib import Path
from typing import Any

from kshot.clients.sdk.client import Client
from kshot.clients.sdk.fallback import Fallback
from kshot.clients.sdk.in_process import InProcessTransport
from kshot.errors import MissingDependency


class LocalClient(Client):
    """A data folder opened in this process; methods and results are those of `Client`.

    One process at a time may own a data folder. Close the client (or use it in a ``with`` statement) to give
    the folder back; an interpreter that exits does so too.

    Parameters
    ----------
    path : str or Path
        The data folder; made if it is not there.
    timeout_s, max_retries, fallback
        As for `Client`.
    **settings
        Other fields of the server's settings.

    Raises
    ------
    MissingDependency
        The server's packages are not installed; the message holds the install line.
    InvalidInput
        A setting is unknown or outside its range.
    DataFolderLocked
        Another process owns the folder; the message names it.

    Examples
    --------
    >>> with LocalClient("./kshot-data") as client:  # doctest: +SKIP
    ...     client.create_pool("tickets", embedder="hashing")
    """

    def __init__(
        self,
        path: str | Path,
        *,
        timeout_s: float = 30.0,
        max_retries: int = 2,
        fallback: Fallback | None = None,
        **settings: Any,
    ) -> None:
        self._path = Path(path)
        transport = InProcessTransport(_build_app(self._path, settings))
        super().__init__(
            "http://localhost",
            timeout_s=timeout_s,
            max_retries=max_retries,
            fallback=fallback,
            transport=transport,
        )

    def __repr__(self) -> str:
        return f"LocalClient({str(self._path)!r})"


def server_missing(error: ModuleNotFoundError, purpose: str) -> MissingDependency | ModuleNotFoundError:
    """Turn the failed import of an extra's package into the line that installs it; a bug stays a bug."""
    package = error.name or ""
    if package.split(".")[0] in {"", "kshot"}:
        return error
    return MissingDependency.of(package, extra="server", purpose=purpose)


def _build_app(path: Path, settings: dict[str, Any]) -> Any:
    try:
        from kshot.server.bootstrap import Settings, build_app  # noqa: PLC0415  (heavy, and an extra)
    except ModuleNotFoundError as error:
        raise server_missing(error, "LocalClient") from error
    # Not from the environment: that belongs to servers, and may name another store.
    return build_app(Settings.from_env({}, data_dir=path, **settings))
