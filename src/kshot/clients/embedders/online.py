"""Embed queries as they arrive: gather what waits into batches, share equal texts, remember recent ones."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

from kshot.clients.embedders.base import Embedder, TextFeatures
from kshot.errors import EmbedderUnavailable, InvalidParameter, Overloaded, Unavailable

_ENTRY_OVERHEAD_BYTES = 1_000


class _Key(NamedTuple):
    token_layer: int | None
    text: str


@dataclass(eq=False, slots=True)
class _Flight:
    """One text under way, and how many calls wait for it."""

    key: _Key
    result: asyncio.Future[TextFeatures]
    waiting: int = 0


@dataclass(slots=True)
class EncoderCounts:
    """What an `OnlineEncoder` has done since it was built."""

    hits: int = 0
    """Answered from the cache."""
    shared: int = 0
    """Joined an equal text that was already under way."""
    misses: int = 0
    """Had to be encoded."""
    batches: int = 0
    """Calls of the embedder."""
    refused: int = 0
    """Refused as `Overloaded`."""


@dataclass(slots=True)
class _Cache:
    """Least recently used features, bounded by memory."""

    max_bytes: int
    held_bytes: int = 0
    entries: OrderedDict[_Key, TextFeatures] = field(default_factory=OrderedDict)

    def get(self, key: _Key) -> TextFeatures | None:
        features = self.entries.get(key)
        if features is not None:
            self.entries.move_to_end(key)
        return features

    def put(self, key: _Key, features: TextFeatures) -> None:
        size = _size(key, features)
        if key in self.entries or size > self.max_bytes:
            return
        self.entries[key] = features
        self.held_bytes += size
        while self.held_bytes > self.max_bytes:
            self.held_bytes -= _size(*self.entries.popitem(last=False))


class OnlineEncoder:
    """Encodes single texts for many concurrent callers of one event loop.

    An idle encoder starts at once; it never waits for company. Texts that arrive while a batch is computed
    form the next one. Equal texts are encoded once. One worker thread runs the embedder, so the event loop
    stays free.

    Lifetime: belongs to the event loop that first uses it; close it there. The embedder stays open.

    Threads: only the loop's own; the embedder alone runs on the worker thread.

    Determinism: the embedder's. Whether a text comes from the cache, alone or in a batch makes no difference
    beyond rounding.

    Parameters
    ----------
    embedder : Embedder
    max_batch : int
        Texts per batch, >= 1. On a CPU sixteen short texts run at full speed, and a larger batch only makes
        the first of them wait for the last. A remote endpoint gains from more.
    max_waiting : int
        Texts that may wait for their batch, >= 1; further ones are refused.
    cache_bytes : int
        Memory for recent texts' features; 0 switches the cache off.
    """

    def __init__(
        self,
        embedder: Embedder,
        *,
        max_batch: int = 16,
        max_waiting: int = 1024,
        cache_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        for name, value, least in (
            ("max_batch", max_batch, 1),
            ("max_waiting", max_waiting, 1),
            ("cache_bytes", cache_bytes, 0),
        ):
            if value < least:
                raise InvalidParameter(f"{name} is {value}, allowed >= {least}")
        self.counts = EncoderCounts()
        self._embedder = embedder
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._cache = _Cache(cache_bytes)
        self._flights: dict[_Key, _Flight] = {}
        self._queue: OrderedDict[_Key, _Flight] = OrderedDict()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="kshot-embed")
        self._runner: asyncio.Task[None] | None = None
        self._closed = False

    async def encode_one(self, text: str, token_layer: int | None) -> TextFeatures:
        """Return the features of one text (n = 1), with spans; the arrays are shared and therefore read-only.

        Cancelling the call leaves equal texts of other callers untouched; a text that nobody waits for any
        more is not encoded.

        Raises
        ------
        Overloaded
            ``max_waiting`` texts wait already.
        Unavailable
            The encoder is closed.
        KshotError
            What the embedder raised for this text; other texts of its batch are not affected.
        """
        if self._closed:
            raise Unavailable("the encoder is closed")
        key = _Key(token_layer, text)
        cached = self._cache.get(key)
        if cached is not None:
            self.counts.hits += 1
            return cached
        flight = self._flights.get(key)
        if flight is None:
            flight = self._enqueue(key)
        else:
            self.counts.shared += 1
        flight.waiting += 1
        try:
            # The shield keeps one caller's cancellation from the others.
            return await asyncio.shield(flight.result)
        finally:
            flight.waiting -= 1

    async def close(self) -> None:
        """Refuse what waits and what comes, and let a running batch end; a second call does nothing."""
        self._closed = True
        while self._queue:
            self._settle(self._queue.popitem()[1], Unavailable("the encoder is closed"))
        if self._runner is not None:
            await asyncio.gather(self._runner, return_exceptions=True)
        self._worker.shutdown(wait=False)

    def _enqueue(self, key: _Key) -> _Flight:
        if len(self._queue) >= self._max_waiting:
            self.counts.refused += 1
            raise Overloaded(f"{len(self._queue)} texts wait to be embedded, allowed {self._max_waiting}")
        self.counts.misses += 1
        flight = _Flight(key, asyncio.get_running_loop().create_future())
        self._flights[key] = self._queue[key] = flight
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run())
        return flight

    async def _run(self) -> None:
        while batch := self._next_batch():
            await self._encode(batch)

    def _next_batch(self) -> list[_Flight]:
        """Take the oldest text and those after it that want the same layer."""
        batch: list[_Flight] = []
        for key, flight in list(self._queue.items()):
            if not flight.waiting:
                del self._queue[key]
                del self._flights[key]
            elif not batch or key.token_layer == batch[0].key.token_layer:
                del self._queue[key]
                batch.append(flight)
                if len(batch) == self._max_batch:
                    break
        return batch

    async def _encode(self, batch: Sequence[_Flight]) -> None:
        loop = asyncio.get_running_loop()
        self.counts.batches += 1
        try:
            features = await loop.run_in_executor(
                self._worker, self._encode_blocking, [flight.key for flight in batch]
            )
        except EmbedderUnavailable as error:
            # Not the texts' fault, and the embedder has tried again by itself.
            for flight in batch:
                self._settle(flight, error)
        except Exception as error:  # noqa: BLE001  whatever it is, it goes to the callers it belongs to
            if len(batch) == 1:
                self._settle(batch[0], error)
            else:
                for flight in batch:
                    await self._encode([flight])
        else:
            for flight, one in zip(batch, features, strict=True):
                self._cache.put(flight.key, one)
                self._settle(flight, one)

    def _encode_blocking(self, keys: Sequence[_Key]) -> list[TextFeatures]:
        features = self._embedder.encode(
            [key.text for key in keys], token_layer=keys[0].token_layer, spans=True
        )
        singles = [features.one(i) for i in range(len(keys))]
        for one in singles:
            one.freeze()
        return singles

    def _settle(self, flight: _Flight, outcome: TextFeatures | Exception) -> None:
        self._flights.pop(flight.key, None)
        if isinstance(outcome, Exception):
            flight.result.set_exception(outcome)
        else:
            flight.result.set_result(outcome)


def _size(key: _Key, features: TextFeatures) -> int:
    return features.nbytes + 4 * len(key.text) + _ENTRY_OVERHEAD_BYTES
