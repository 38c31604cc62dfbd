"""NDJSON bodies of any length: read in batches, answered with one line per batch, in bounded memory.

A line of the answer is an `UpsertReply`; its rows are durable. If the upload fails midway, the last line is a
problem instead, and everything up to the ``upto_line`` before it is stored.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from fastapi import Response
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from kshot.errors import KshotError
from kshot.schemas.base import Wait
from kshot.schemas.examples import RejectedRow, UpsertReply
from kshot.server.bodies import NDJSON, NotJsonError, parse_json
from kshot.server.logs import get_logger, where
from kshot.server.problems import problem_json

BATCH_LINES = 500
BATCH_BYTES = 4 * 2**20
"""A batch ends with either, so that long lines do not pile up."""
MAX_UNREAD_BYTES = 64 * 2**20
"""Answers kept for a caller that does not read before it has sent everything."""

_log = get_logger(__name__)


@dataclass(slots=True)
class Batch:
    """Lines that are stored together."""

    rows: list[tuple[int, Any]] = field(default_factory=list)
    rejected: list[RejectedRow] = field(default_factory=list)
    upto_line: int = 0
    lines: int = 0
    size: int = 0

    @property
    def is_full(self) -> bool:
        """True once it should be stored."""
        return self.lines >= BATCH_LINES or self.size >= BATCH_BYTES

    def add(self, number: int, line: bytes | None, max_line_bytes: int) -> None:
        """Take one line; None stands for one that was too long to keep."""
        self.upto_line = number
        self.lines += 1
        if line is None:
            self._reject(number, "payload_too_large", f"is longer than {max_line_bytes} bytes")
        elif line.strip():
            self.size += len(line)
            try:
                self.rows.append((number, parse_json(line)))
            except NotJsonError as error:
                self._reject(number, "invalid_json", f"is no JSON: {error}")

    def _reject(self, number: int, code: str, message: str) -> None:
        self.rejected.append(RejectedRow(line=number, pointer="", code=code, message=message))


class Lines:
    """Cuts chunks into numbered lines and drops what is too long while it arrives."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []
        self._size = 0
        self._number = 0

    def feed(self, chunk: bytes) -> Iterator[tuple[int, bytes | None]]:
        """Yield the lines that ``chunk`` completes; None in place of one that is too long."""
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            self._hold(piece)
            yield self._take()
        self._hold(rest)

    def end(self) -> Iterator[tuple[int, bytes | None]]:
        """Yield the last line, if it came without a line feed."""
        if self._size:
            yield self._take()

    def _hold(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._max_bytes:
            self._parts.clear()
        elif piece:
            self._parts.append(piece)

    def _take(self) -> tuple[int, bytes | None]:
        line = b"".join(self._parts) if self._size <= self._max_bytes else None
        self._parts.clear()
        self._size = 0
        self._number += 1
        return self._number, line


async def store_lines(
    chunks: AsyncIterator[bytes],
    store: Callable[[Batch, Wait], Awaitable[UpsertReply]],
    *,
    wait: Wait,
    max_line_bytes: int,
) -> AsyncGenerator[UpsertReply]:
    """Store a body batch by batch and yield what became of each.

    Blank lines count but hold nothing. Only the last batch waits to be indexed; there is always at least one,
    so that a missing pool is noticed even by an empty body.
    """
    lines, batch, stored = Lines(max_line_bytes), Batch(), 0
    async for chunk in chunks:
        for number, line in lines.feed(chunk):
            batch.add(number, line, max_line_bytes)
            if batch.is_full:
                yield await store(batch, "none")
                batch, stored = Batch(upto_line=number), stored + 1
    for number, line in lines.end():
        batch.add(number, line, max_line_bytes)
    if batch.lines or not stored or wait == "indexed":
        yield await store(batch, wait)


class UpsertStream(Response):
    """Answers an upload while it is still being read.

    Reading does not wait for the caller to take an answer as long as `MAX_UNREAD_BYTES` suffice: most clients
    send their whole body before they read, and each side would wait for the other.
    """

    media_type = NDJSON

    def __init__(self, first: UpsertReply, rest: AsyncGenerator[UpsertReply], request_id: str | None) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._first = first
        self._rest = rest
        self._request_id = request_id
        self._unsent: asyncio.Queue[bytes] = asyncio.Queue()
        self._unsent_bytes = 0
        self._has_room = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  (of ASGI)
        """Send one line per batch."""
        sender = asyncio.create_task(self._send_lines(send))
        sender.add_done_callback(lambda _: self._has_room.set())
        try:
            async with aclosing(self._rest):
                await self._collect(sender)
            self._unsent.put_nowait(b"")
            await sender
        finally:
            sender.cancel()

    async def _collect(self, sender: "asyncio.Task[None]") -> None:
        self._keep(self._first.model_dump_json())
        try:
            async for reply in self._rest:
                self._keep(reply.model_dump_json())
                while self._unsent_bytes > MAX_UNREAD_BYTES and not sender.done():
                    self._has_room.clear()
                    await self._has_room.wait()
                if sender.done():
                    return
        except ClientDisconnect:
            raise
        except Exception as error:  # noqa: BLE001  (the status is sent; the last line has to tell)
            if not isinstance(error, KshotError):
                _log.error("upload_failed", error_type=type(error).__name__, where=where(error))
            self._keep(problem_json(error, self._request_id))

    def _keep(self, text: str) -> None:
        line = text.encode() + b"\n"
        self._unsent_bytes += len(line)
        self._unsent.put_nowait(line)

    async def _send_lines(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        while line := await self._unsent.get():
            await send({"type": "http.response.body", "body": line, "more_body": True})
            self._unsent_bytes -= len(line)
            self._has_room.set()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
