"""What every request passes through, as plain ASGI: a few microseconds each, and streams stay streams.

From the outside in: `LocalHostOnly` (servers without a key), `Observe`, `Authenticate`, `LimitBody`.
"""

import hashlib
import hmac
import re
import time
import uuid
from typing import Any

from pydantic import SecretStr
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from kshot.errors import PayloadTooLarge, Unauthorized
from kshot.server.bodies import NDJSON
from kshot.server.logs import get_logger, where
from kshot.server.metrics import Metrics
from kshot.server.problems import problem_response
from kshot.server.settings import is_loopback

OPEN_PATHS = frozenset({"/livez", "/readyz", "/version"})
"""Served without a key, together with the explanations under ``/problems/``."""
CLIENT_CLOSED = 499
"""Logged when the caller went away before the answer; never sent."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_log = get_logger(__name__)


def _header(scope: Scope, name: bytes) -> bytes | None:
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


class Observe:
    """Gives a request its id, answers what nobody foresaw, and writes one log line and the metrics."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; an ``X-Request-Id`` of the caller's is kept if it is short and plain."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent_id = _header(scope, b"x-request-id")
        is_usable = sent_id is not None and _REQUEST_ID.fullmatch(sent_id)
        request_id = sent_id.decode() if sent_id is not None and is_usable else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0
        started_s = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        with bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            except ClientDisconnect:
                status = CLIENT_CLOSED
            except Exception as error:
                _log.error("request_failed", error_type=type(error).__name__, where=where(error))
                if status:  # too late for a problem; the broken connection has to tell
                    raise
                await problem_response(error, request_id)(scope, receive, send_with_id)
            finally:
                self._record(scope, status or 500, time.perf_counter() - started_s)

    def _record(self, scope: Scope, status: int, took_s: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        self._metrics.request_ended(scope["method"], route, status, took_s)
        fields: dict[str, Any] = {"method": scope["method"], "route": route, "status": status}
        pool = scope.get("path_params", {}).get("pool")
        if pool is not None:
            fields["pool"] = pool[:100]
        write = _log.debug if route in OPEN_PATHS else _log.info
        write("http_request", **fields, took_ms=round(took_s * 1000, 3))


class Authenticate:
    """Asks every request for the key, if one is set: ``Authorization: Bearer KEY`` or ``api-key: KEY``."""

    def __init__(self, app: ASGIApp, key: SecretStr | None) -> None:
        self._app = app
        self._digest = None if key is None else _digest(key.get_secret_value().encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401."""
        if scope["type"] != "http" or self._digest is None or self._is_allowed(scope, self._digest):
            await self._app(scope, receive, send)
            return
        error = Unauthorized("send the API key as 'Authorization: Bearer KEY' or 'api-key: KEY'")
        await problem_response(error, scope.get("state", {}).get("request_id"))(scope, receive, send)

    @staticmethod
    def _is_allowed(scope: Scope, digest: bytes) -> bool:
        if scope["path"] in OPEN_PATHS or scope["path"].startswith("/problems/"):
            return True
        scheme, _, token = (_header(scope, b"authorization") or b"").partition(b" ")
        sent = token.strip() if scheme.lower() == b"bearer" else _header(scope, b"api-key") or b""
        # Digests have one length, so that the time of the comparison says nothing about the key.
        return hmac.compare_digest(_digest(sent), digest)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


class LimitBody:
    """Refuses bodies over a limit, announced or not, without reading on.

    NDJSON bodies pass: they are read line by line and are as long as they like.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 413."""
        if scope["type"] != "http" or (_header(scope, b"content-type") or b"").startswith(NDJSON.encode()):
            await self._app(scope, receive, send)
            return
        announced = _header(scope, b"content-length") or b"0"
        if announced.isdigit() and int(announced) > self._max_bytes:
            error = self._too_large(f"{int(announced)} bytes")
            await problem_response(error, scope.get("state", {}).get("request_id"))(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise self._too_large("more")
            return message

        await self._app(scope, counted, send)

    def _too_large(self, received: str) -> PayloadTooLarge:
        return PayloadTooLarge(
            f"the body has {received}, allowed {self._max_bytes} bytes; send fewer rows, or {NDJSON}"
        )


class LocalHostOnly:
    """Refuses requests for another host name than this machine's; for servers without a key.

    A web page can point a name of its own at 127.0.0.1 and then talk to the server as its own origin; the
    browser's ``Host`` header gives it away.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401."""
        if scope["type"] == "http":
            host = (_header(scope, b"host") or b"localhost").decode("latin-1")
            name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
            if not is_loopback(name):
                error = Unauthorized("without KSHOT_API_KEY only requests to localhost are served")
                await problem_response(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)
