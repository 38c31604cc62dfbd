"""The server process: socket, app, uvicorn, signals."""

import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGINT, SIGTERM, signal

import uvicorn

from kshot.errors import Conflict, InvalidInput, Unavailable
from kshot.server.bootstrap import build_app
from kshot.server.data_folder import write_owner
from kshot.server.logs import configure, get_logger
from kshot.server.metrics import Metrics
from kshot.server.middleware import LocalHostOnly
from kshot.server.ports import Services
from kshot.server.settings import Settings, unknown_variables

_GRACE_S = 20
"""Open requests may take this long after a signal; then they are cut, and everything is still flushed."""
_KEEP_ALIVE_S = 75
"""Longer than clients keep idle connections, so that none is closed just as it is used again."""
_log = get_logger(__name__)


class _Server(uvicorn.Server):
    """Says when it is ready, and ends without error on SIGINT and SIGTERM."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own version raises the signal again afterwards: a clean stop would look like a crash.
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal(number, self.handle_exit) for number in (SIGINT, SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal(number, handler)


def serve(
    host: str | None = None,
    port: int | None = None,
    data_dir: Path | None = None,
    *,
    scorer_url: str | None = None,
    log_level: str | None = None,
    log_format: str | None = None,
    as_json: bool = False,
    build: Callable[[Settings, Metrics], Services] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, then finish open requests and flush; arguments win over ``KSHOT_*``.

    Prints ``Listening on URL``, or ``{"url": URL}`` as JSON, to stdout once requests are answered. Port 0
    takes a free port. ``build`` constructs the services, as in `kshot.server.bootstrap.build_app`.

    Raises
    ------
    InvalidInput
        A setting is not allowed, or other machines could reach the server and no key is set.
    Conflict
        The address is taken, or another process owns the data folder (`DataFolderLocked`).
    """
    settings = Settings.from_env(
        host=host,
        port=port,
        data_dir=data_dir,
        scorer_url=scorer_url,
        log_level=log_level,
        log_format=log_format,
    )
    configure(settings.log_level, settings.log_format)
    for name, meant in unknown_variables().items():
        _log.warning("unknown_setting", name=name, did_you_mean=meant)
    if settings.is_public and settings.api_key is None:
        raise InvalidInput(
            f"host {settings.host!r} can be reached by other machines: set KSHOT_API_KEY first, "
            "or bind 127.0.0.1"
        )
    with _bound(settings.host, settings.port) as listener:
        url = _url(settings.host, listener)
        app = build_app(settings, build=build)

        def announce() -> None:
            write_owner(settings.data_dir, url)
            sys.stdout.write(json.dumps({"url": url}) + "\n" if as_json else f"Listening on {url}\n")
            sys.stdout.flush()

        config = uvicorn.Config(
            app if settings.api_key is not None else LocalHostOnly(app),
            log_config=None,
            access_log=False,
            lifespan="on",
            ws="none",
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_GRACE_S,
        )
        server = _Server(config, announce)
        try:
            server.run(sockets=[listener])
        except SystemExit:  # uvicorn's way to say that the lifespan failed
            raise app.state.start_error or Unavailable("the server could not start") from None


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family, backlog=2048)
    except OSError as error:
        raise Conflict(f"cannot listen on {host} port {port}: {error.strerror or error}") from None


def _url(host: str, listener: socket.socket) -> str:
    port = listener.getsockname()[1]
    name = host.strip("[]")
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
