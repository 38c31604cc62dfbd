"""An application in this process: its lifespan, its thread, its failures."""

import asyncio
import contextlib
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kshot.clients.sdk.in_process import InProcessTransport
from kshot.errors import DataFolderLocked, Unavailable


class Recorder:
    """A small application that notes what happens to it, and in which thread."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.events: list[str] = []
        self.threads: set[str] = set()
        self._failure = failure
        routes = [
            Route("/echo", self.echo, methods=["POST"]),
            Route("/slow", self.slow),
            Route("/broken", self.broken),
        ]
        self.app = Starlette(routes=routes, lifespan=self.lifespan)

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[dict[str, Any]]:
        if self._failure is not None:
            raise self._failure
        self.threads.add(threading.current_thread().name)
        self.events.append("started")
        yield {"greeting": "hello"}
        self.events.append("stopped")

    async def echo(self, request: Request) -> Response:
        self.threads.add(threading.current_thread().name)
        body = (await request.body()).decode()
        return JSONResponse({"greeting": request.state.greeting, "body": body})

    async def slow(self, _: Request) -> Response:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            self.events.append("cancelled")
            raise
        return Response()

    async def broken(self, _: Request) -> Response:
        raise RuntimeError("private detail")


def connect(app: Any, timeout_s: float = 10.0) -> httpx.Client:
    return httpx.Client(transport=InProcessTransport(app), base_url="http://localhost", timeout=timeout_s)


def test_requests_see_the_started_application_and_its_state():
    recorder = Recorder()
    with connect(recorder.app) as client:
        assert recorder.events == ["started"]
        answer = client.post("/echo", content="grüße".encode())
        assert answer.json() == {"greeting": "hello", "body": "grüße"}
    assert recorder.events == ["started", "stopped"]


def test_everything_runs_in_one_thread_that_is_not_the_callers():
    recorder = Recorder()
    with connect(recorder.app) as client:
        client.post("/echo")
        caller = threading.Thread(target=client.post, args=("/echo",))
        caller.start()
        caller.join()
    assert recorder.threads == {"kshot-local"}


def test_closing_twice_is_fine_and_a_closed_client_is_unreachable():
    recorder = Recorder()
    transport = InProcessTransport(recorder.app)
    transport.close()
    transport.close()
    assert recorder.events == ["started", "stopped"]
    with pytest.raises(httpx.ConnectError, match="closed"):
        transport.handle_request(httpx.Request("GET", "http://localhost/echo"))


def test_the_thread_ends_with_the_client():
    before = set(threading.enumerate())
    connect(Recorder().app).close()
    assert set(threading.enumerate()) == before


def test_a_failed_start_is_raised_as_it_is_and_leaves_no_thread():
    before = set(threading.enumerate())
    with pytest.raises(DataFolderLocked, match="process 7"):
        InProcessTransport(Recorder(DataFolderLocked("in use by process 7")).app)
    assert set(threading.enumerate()) == before


def test_an_application_that_reports_its_failed_start_without_raising_is_unavailable():
    async def silent(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": ""})

    with pytest.raises(Unavailable, match="startup"):
        InProcessTransport(silent)


def test_a_request_that_takes_too_long_is_given_up_and_cancelled():
    recorder = Recorder()
    with connect(recorder.app, timeout_s=0.05) as client, pytest.raises(httpx.ReadTimeout):
        client.get("/slow")
    assert recorder.events == ["started", "cancelled", "stopped"]


def test_a_broken_route_is_an_answer_without_its_detail():
    with connect(Recorder().app) as client:
        answer = client.get("/broken")
    assert answer.status_code == 500
    assert "private" not in answer.text


def test_an_interpreter_that_exits_stops_the_application():
    program = """
        import contextlib
        from starlette.applications import Starlette
        from kshot.clients.sdk.in_process import InProcessTransport

        @contextlib.asynccontextmanager
        async def lifespan(app):
            yield
            print("stopped", flush=True)

        InProcessTransport(Starlette(lifespan=lifespan))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "stopped\n", "")
