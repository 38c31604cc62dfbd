"""Selections are written behind, in batches, so that answering needs no disk; what is old is purged."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from kshot.errors import InvalidInput, KshotError, Overloaded, Unavailable
from kshot.index.store import Store
from kshot.records import Selection
from kshot.server.logs import get_logger
from kshot.server.services.registry import PoolRegistry

log = get_logger(__name__)
FLUSH_S = 0.05
MAX_WAITING = 20_000
_RETRY_S = 1.0
_PURGE_EVERY_S = 3_600.0
_KEYS_KEPT = timedelta(days=1)


class SelectionLog:
    """A queue of selections and the thread that writes them; durable within about `FLUSH_S`."""

    def __init__(self, store: Store, pools: PoolRegistry) -> None:
        self._store = store
        self._pools = pools
        self._condition = threading.Condition()
        self._waiting: list[Selection] = []
        self._futures: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="kshot-selections", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Write what waits, then stop."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        if self._thread.is_alive():
            self._thread.join()

    def add(self, selection: Selection) -> None:
        """Queue a selection.

        Raises
        ------
        Overloaded
            The disk is so far behind that `MAX_WAITING` selections wait.
        """
        with self._condition:
            if len(self._waiting) >= MAX_WAITING:
                raise Overloaded(f"{MAX_WAITING} selections wait to be written")
            self._waiting.append(selection)
            if len(self._waiting) == 1:
                self._condition.notify()

    async def flushed(self) -> None:
        """Return once everything queued before this call is on disk."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._condition:
            self._futures.append((loop, future))
            self._condition.notify()
        await future

    def find(self, selection_id: str) -> Selection | None:
        """Return a selection that is still queued."""
        with self._condition:
            return next((one for one in self._waiting if one.id == selection_id), None)

    def _run(self) -> None:
        next_purge = 0.0
        while True:
            with self._condition:
                self._condition.wait_for(
                    lambda: self._waiting or self._futures or self._closing, timeout=_PURGE_EVERY_S
                )
                in_haste = bool(self._futures) or self._closing
            if not in_haste:
                # A pause gathers what arrives together into one transaction.
                time.sleep(FLUSH_S / 2)
            self._flush()
            if time.monotonic() >= next_purge:
                self._purge()
                next_purge = time.monotonic() + _PURGE_EVERY_S
            with self._condition:
                if self._closing and not self._waiting and not self._futures:
                    return

    def _flush(self) -> None:
        with self._condition:
            batch, futures = list(self._waiting), self._futures
            self._futures = []
        error: KshotError | None = None
        try:
            self._write(batch)
        except Exception:
            # The thread has to outlive a full disk.
            log.exception("selections_not_written", waiting=len(batch))
            error = Unavailable("the selection was made but could not be written: the store does not answer")
        with self._condition:
            if error is None or self._closing:
                del self._waiting[: len(batch)]
        for loop, future in futures:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_resolve, future, error)
        if error is not None:
            time.sleep(_RETRY_S)

    def _write(self, batch: Sequence[Selection]) -> None:
        try:
            self._store.add_selections(batch)
        except InvalidInput:
            # One that can never be written must not keep back the others.
            if len(batch) == 1:
                log.exception("selection_refused", selection=batch[0].id)
                return
            for selection in batch:
                self._write([selection])

    def _purge(self) -> None:
        now = datetime.now(UTC)
        try:
            self._store.purge_idempotency_keys(now - _KEYS_KEPT)
        except Exception as problem:  # noqa: BLE001  (housekeeping is tried again in an hour)
            log.warning("purge_failed", error_type=type(problem).__name__)
        for runtime in self._pools.all():
            before = now - timedelta(days=runtime.settings.retention_days)
            try:
                self._store.purge_selections(before, pool_id=runtime.record.id)
            except Exception as problem:  # noqa: BLE001  (housekeeping is tried again in an hour)
                log.warning("purge_failed", pool=runtime.record.name, error_type=type(problem).__name__)


def _resolve(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
