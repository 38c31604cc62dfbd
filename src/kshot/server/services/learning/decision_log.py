"""Decisions are durable before they are answered: one thread records all that wait, in one transaction."""

import asyncio
import contextlib
import threading
from collections.abc import Sequence
from typing import NamedTuple

from kshot.errors import InvalidInput, KshotError, Overloaded, Unavailable
from kshot.index.store import Store
from kshot.index.store.decisions import Answer, Proposal
from kshot.server.logs import get_logger

log = get_logger(__name__)
MAX_WAITING = 5_000
MOST_AT_ONCE = 500


class _Waiting(NamedTuple):
    proposal: Proposal
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Answer]


class DecisionLog:
    """A queue of decisions and the thread that records them; callers wait for the disk."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._condition = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="kshot-decisions", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Record what waits, then stop."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        if self._thread.is_alive():
            self._thread.join()

    async def record(self, proposal: Proposal) -> Answer:
        """Return once the decision, or the one that stands in its place, is on disk.

        Raises
        ------
        Overloaded
            `MAX_WAITING` decisions wait already.
        Unavailable
            The store does not answer, or the server is shutting down; nothing was decided.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        with self._condition:
            if self._closing:
                raise Unavailable("the server is shutting down")
            if len(self._waiting) >= MAX_WAITING:
                raise Overloaded(f"{MAX_WAITING} decisions wait to be recorded")
            self._waiting.append(_Waiting(proposal, loop, future))
            self._condition.notify()
        return await future

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._waiting or self._closing)
                batch = self._waiting[:MOST_AT_ONCE]
                del self._waiting[:MOST_AT_ONCE]
                if not batch:
                    return
            self._record(batch)

    def _record(self, batch: Sequence[_Waiting]) -> None:
        answers: Sequence[Answer | KshotError]
        try:
            answers = self._store.add_decisions([one.proposal for one in batch])
        except InvalidInput as error:
            if len(batch) > 1:
                # One that can never be written must not keep back the others.
                for one in batch:
                    self._record([one])
                return
            answers = [error]
        except Exception:
            # The thread has to outlive a full disk.
            log.exception("decisions_not_recorded", waiting=len(batch))
            answers = [Unavailable("the decision could not be recorded: the store does not answer")] * len(
                batch
            )
        for one, answer in zip(batch, answers, strict=True):
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                one.loop.call_soon_threadsafe(_settle, one.future, answer)


def _settle(future: asyncio.Future[Answer], answer: Answer | KshotError) -> None:
    if future.done():
        return
    if isinstance(answer, KshotError):
        future.set_exception(answer)
    else:
        future.set_result(answer)
