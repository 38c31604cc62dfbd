"""Sends what waits in an outbox: a thread for the synchronous client, a task for the asynchronous one."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

from kshot.clients.sdk.decision import Decision
from kshot.clients.sdk.flow import FIRST_PAUSE_S, LONGEST_PAUSE_S
from kshot.clients.sdk.outbox import BATCH, FeedbackSink, Outbox, outcomes_of
from kshot.clients.sdk.selection import Selection
from kshot.errors import InvalidInput, KshotError, Overloaded, Unauthorized, Unavailable
from kshot.schemas.feedback import FeedbackBatchReply

T = TypeVar("T")
logger = logging.getLogger(__name__)
GATHER_S = 0.05
"""How long outcomes are gathered before they are sent together."""
CLOSE_S = 5.0
"""How long closing a client waits for what is not sent yet."""

_NOT_YET = frozenset({Overloaded.code, Unavailable.code})


def reporting_to(sink: FeedbackSink, result: T) -> T:
    """Let decisions and selections send their feedback to a queue; anything else is returned as it is."""
    if isinstance(result, Decision | Selection):
        return cast("T", replace(result, _sink=sink))
    if isinstance(result, list) and any(isinstance(one, Selection) for one in result):
        return cast("T", [reporting_to(sink, one) for one in result])
    return result


class _Delivery:
    """What both queues do with an answer."""

    def __init__(self) -> None:
        self.outbox = Outbox()
        self.refused = 0
        self.pause_s = FIRST_PAUSE_S
        self._most = BATCH

    def batch(self) -> list[dict[str, Any]]:
        """Return what to send next."""
        return self.outbox.first(self._most)

    def delivered(self, sent: Sequence[Mapping[str, Any]], reply: FeedbackBatchReply) -> float:
        """Forget what the server has; return how long to wait before the next attempt, in seconds.

        What it refused it would refuse again, unless it only could not take it yet: that waits on.
        """
        self._most = min(2 * self._most, BATCH)
        refused = {item.index: item.code for item in reply.refused}
        waiting = [dict(item) for index, item in enumerate(sent) if refused.get(index) in _NOT_YET]
        self.outbox.drop(len(sent), waiting)
        for code in refused.values():
            if code not in _NOT_YET:
                self.refused += 1
                logger.warning("feedback refused: %s", code)
        if waiting:
            return self._pause(next(code for code in refused.values() if code in _NOT_YET))
        self.pause_s = FIRST_PAUSE_S
        return 0.0

    def failed(self, sent: Sequence[Mapping[str, Any]], error: KshotError) -> float:
        """Return how long to wait before the next attempt, in seconds; what got no answer waits on.

        What is refused as a whole would be refused again, and must not hold up what comes after it. Too large
        a batch is halved, until it is taken in or is one outcome, which is dropped. Without the right key
        nothing will ever be taken in from this client: the batch is dropped.
        """
        if isinstance(error, InvalidInput) and len(sent) > 1:
            self._most = len(sent) // 2
            return 0.0
        if isinstance(error, InvalidInput | Unauthorized):
            self.outbox.drop(len(sent))
            self.refused += len(sent)
            logger.error("%s refused: %s", outcomes_of(sent), error.code)
            return 0.0
        return self._pause(error.code)

    def _pause(self, code: str) -> float:
        logger.warning("feedback waits: %s", code)
        pause_s, self.pause_s = self.pause_s, min(2 * self.pause_s, LONGEST_PAUSE_S)
        return pause_s

    def closed(self) -> None:
        """Take nothing in any more, and say what is lost."""
        self.outbox.close()
        if left := self.outbox.first(len(self.outbox)):
            logger.error("%s could not be delivered", outcomes_of(left))


class FeedbackQueue(_Delivery):
    """Delivers in the background, from a thread that starts with the first outcome.

    Parameters
    ----------
    send : callable
        Posts a batch and returns the answer; raises `KshotError` if there is none.
    """

    def __init__(self, send: Callable[[Sequence[Mapping[str, Any]]], FeedbackBatchReply]) -> None:
        super().__init__()
        self._send = send
        self._condition = threading.Condition()
        self._closing = False
        self._idle = True
        self._ended = False
        self._thread: threading.Thread | None = None

    def add(self, item: Mapping[str, Any]) -> None:
        """Take an outcome in and return at once; raises as `Outbox.add` does."""
        self.outbox.add(item)
        with self._condition:
            self._idle = False
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="kshot-feedback", daemon=True)
                self._thread.start()
            self._condition.notify_all()

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing waits any more; False if that took longer than ``timeout_s``."""
        with self._condition:
            self._condition.wait_for(lambda: self._idle or self._ended, timeout_s)
            return not len(self.outbox)

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Deliver what waits, for so long, and stop."""
        self.flush(timeout_s)
        with self._condition:
            self._closing = True
            self._condition.notify_all()
        if self._thread is not None:
            self._thread.join(timeout_s)
        self.closed()

    def _run(self) -> None:
        try:
            self._deliver()
        finally:
            with self._condition:
                self._ended = True
                self._condition.notify_all()

    def _deliver(self) -> None:
        while True:
            with self._condition:
                self._idle = not len(self.outbox)
                self._condition.notify_all()
                self._condition.wait_for(lambda: self._closing or len(self.outbox))
                if self._closing:
                    return
                self._idle = False
                self._condition.wait_for(lambda: self._closing, GATHER_S)
            batch = self.batch()
            try:
                pause_s = self.delivered(batch, self._send(batch))
            except KshotError as error:
                pause_s = self.failed(batch, error)
            if pause_s:
                with self._condition:
                    self._condition.wait_for(lambda: self._closing, pause_s)


class AsyncFeedbackQueue(_Delivery):
    """Delivers in the background, from a task of the event loop that the first outcome is given in."""

    def __init__(self, send: Callable[[Sequence[Mapping[str, Any]]], Awaitable[FeedbackBatchReply]]) -> None:
        super().__init__()
        self._send = send
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None

    def add(self, item: Mapping[str, Any]) -> None:
        """Take an outcome in and return at once; outside of an event loop it waits for a call in one."""
        self.outbox.add(item)
        self._idle.clear()
        self._news.set()
        with contextlib.suppress(RuntimeError):
            self._start(asyncio.get_running_loop())

    async def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing waits any more; False if that took longer than ``timeout_s``."""
        if len(self.outbox):
            self._start(asyncio.get_running_loop())
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    async def close(self, timeout_s: float = CLOSE_S) -> None:
        """Deliver what waits, for so long, and stop."""
        await self.flush(timeout_s)
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self.closed()

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._task is None:
            self._task = loop.create_task(self._run(), name="kshot-feedback")

    async def _run(self) -> None:
        while True:
            if not len(self.outbox):
                self._idle.set()
                self._news.clear()
                await self._news.wait()
            await asyncio.sleep(GATHER_S)
            batch = self.batch()
            try:
                pause_s = self.delivered(batch, await self._send(batch))
            except KshotError as error:
                pause_s = self.failed(batch, error)
            if pause_s:
                await asyncio.sleep(pause_s)
