"""How much is in flight at once: more while it goes well, half as much when the server is overloaded."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kshot.errors import InvalidParameter


class AdaptiveLimit:
    """Bounds the sum of the weights in flight; those that wait are let in in their order.

    After every success the bound grows, by ``least`` per round trip of everything in flight, up to ``most``;
    an overload halves it. Something heavier than the bound goes alone.

    Lifetime: belongs to the event loop that uses it.

    Parameters
    ----------
    most : int
        The bound to begin with and its maximum, >= 1.
    least : int
        What it never falls below.
    """

    def __init__(self, most: int, *, least: int = 1) -> None:
        if not 1 <= least <= most:
            raise InvalidParameter(f"a limit is {most}, allowed >= {least}")
        self._most = float(most)
        self._least = float(least)
        self._bound = float(most)
        self._in_flight = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def bound(self) -> float:
        """The present bound."""
        return self._bound

    @property
    def in_flight(self) -> int:
        """The sum of the weights in flight."""
        return self._in_flight

    @asynccontextmanager
    async def hold(self, weight: int = 1) -> AsyncIterator[None]:
        """Wait for room, and take it until the block ends."""
        await self._enter(weight)
        try:
            yield
        finally:
            self._in_flight -= weight
            self._admit()

    def succeeded(self) -> None:
        """Grow."""
        self._bound = min(self._most, self._bound + self._least * self._least / self._bound)
        self._admit()

    def overloaded(self) -> None:
        """Halve."""
        self._bound = max(self._least, self._bound / 2)

    async def _enter(self, weight: int) -> None:
        if not self._waiting and self._fits(weight):
            self._in_flight += weight
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((weight, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._in_flight -= weight
            self._admit()
            raise

    def _fits(self, weight: int) -> bool:
        return self._in_flight == 0 or self._in_flight + weight <= self._bound

    def _admit(self) -> None:
        while self._waiting:
            weight, turn = self._waiting[0]
            if turn.done():
                self._waiting.popleft()
            elif self._fits(weight):
                self._waiting.popleft()
                self._in_flight += weight
                turn.set_result(None)
            else:
                return
