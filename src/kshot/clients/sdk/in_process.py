"""An ASGI application inside this process, behind the interface of a synchronous httpx transport.

The application lives in one background thread with its own event loop: its lifespan is entered there, and all
requests run there, whichever thread they come from.
"""

import asyncio
import atexit
import concurrent.futures
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import httpx

from kshot.errors import KshotError, Unavailable

T = TypeVar("T")
Message = dict[str, Any]
Scope = dict[str, Any]

STOP_TIMEOUT_S = 60.0


class Lifespan:
    """Starts and stops an ASGI application by the lifespan protocol, in the running event loop."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._from_app: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        #: What the application wants each request's scope to hold.
        self.state: dict[str, Any] = {}

    async def start(self) -> None:
        """Return when the application is ready; raise what its start raised."""
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        self._task = asyncio.create_task(self._app(scope, self._to_app.get, self._from_app.put))
        await self._say("startup")

    async def stop(self) -> None:
        """Return when the application has finished its work; raise what its end raised."""
        await self._say("shutdown")
        if self._task is not None:
            await self._task

    async def _say(self, what: str) -> None:
        assert self._task is not None
        await self._to_app.put({"type": f"lifespan.{what}"})
        answer = asyncio.create_task(self._from_app.get())
        await asyncio.wait({answer, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if answer.done() and answer.result()["type"] == f"lifespan.{what}.complete":
            return
        answer.cancel()
        await self._task  # raises the reason, if the application let it out
        raise Unavailable(f"the application in this process did not complete its {what}")


class InProcessTransport(httpx.BaseTransport):
    """Carries requests to an ASGI application in this process.

    Parameters
    ----------
    app : ASGI application
        Started before the constructor returns.

    Raises
    ------
    Exception
        Whatever the application's start raises.

    Notes
    -----
    Bodies are passed as a whole, not streamed. `close` ends the application's lifespan; it may be called
    twice, and is called at the exit of the interpreter if nobody did.
    """

    def __init__(self, app: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kshot-local", daemon=True)
        self._lifespan = Lifespan(app)
        self._closing = threading.Lock()
        self._is_open = True
        self._asgi = httpx.ASGITransport(app=self._with_state(app), raise_app_exceptions=False)
        self._thread.start()
        try:
            self._run(self._lifespan.start())
        except BaseException:
            self._stop_loop()
            raise
        atexit.register(self._close_at_exit)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request and return its whole response."""
        if not self._is_open:
            raise httpx.ConnectError("the client is closed", request=request)
        request.read()
        timeout_s = request.extensions.get("timeout", {}).get("read")
        try:
            return self._run(self._exchange(request), timeout_s)
        except concurrent.futures.TimeoutError:
            raise httpx.ReadTimeout(f"no answer within {timeout_s} s", request=request) from None

    def close(self) -> None:
        """End the application's lifespan and its thread."""
        with self._closing:
            if not self._is_open:
                return
            self._is_open = False
            atexit.unregister(self._close_at_exit)
            try:
                self._run(self._lifespan.stop(), STOP_TIMEOUT_S)
            finally:
                self._stop_loop()

    async def _exchange(self, request: httpx.Request) -> httpx.Response:
        response = await self._asgi.handle_async_request(request)
        body = await response.aread()
        return httpx.Response(response.status_code, headers=response.headers, content=body)

    def _with_state(self, app: Any) -> Any:
        async def with_state(scope: Scope, receive: Any, send: Any) -> None:
            await app({**scope, "state": dict(self._lifespan.state)}, receive, send)

        return with_state

    def _run(self, work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout_s)
        except BaseException:
            future.cancel()
            raise

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_TIMEOUT_S)
        if not self._thread.is_alive():
            self._loop.close()

    def _close_at_exit(self) -> None:
        # The interpreter is going and took its thread pools along. What was acknowledged is safe, but a clean
        # end cannot be promised, and a traceback would help nobody.
        with suppress(KshotError, RuntimeError, concurrent.futures.TimeoutError):
            self.close()
