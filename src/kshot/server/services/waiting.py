"""Who waits until a version of a pool can be selected."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    pool_id: int
    version: int
    loop: asyncio.AbstractEventLoop
    reached: asyncio.Future[bool]


class Publications:
    """The newest version of each pool that requests can see, and those who wait for a newer one.

    Any thread may announce; only event loops wait.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool_id_to_version: dict[int, int] = {}
        self._waiters: list[_Waiter] = []

    def has(self, pool_id: int, version: int) -> bool:
        """Tell whether a version can be selected."""
        return self._pool_id_to_version.get(pool_id, 0) >= version

    async def reached(self, pool_id: int, version: int, timeout_s: float) -> bool:
        """Wait until a version can be selected; False if that takes too long, or fails for now."""
        loop = asyncio.get_running_loop()
        waiter = _Waiter(pool_id, version, loop, loop.create_future())
        with self._lock:
            if self.has(pool_id, version):
                return True
            self._waiters.append(waiter)
        try:
            return await asyncio.wait_for(waiter.reached, timeout_s)
        except TimeoutError:
            return False
        finally:
            with self._lock:
                self._waiters = [one for one in self._waiters if one is not waiter]

    def announce(self, pool_id: int, version: int) -> None:
        """Say that requests see a version from now on."""
        with self._lock:
            self._pool_id_to_version[pool_id] = version
        self._settle(lambda one: one.pool_id == pool_id and one.version <= version, reached=True)

    def give_up(self, pool_id: int) -> None:
        """Say that it may take long until the pool's next version can be selected."""
        self._settle(lambda one: one.pool_id == pool_id, reached=False)

    def forget(self, pool_id: int) -> None:
        """Drop a pool that is gone."""
        with self._lock:
            self._pool_id_to_version.pop(pool_id, None)
        self.give_up(pool_id)

    def close(self) -> None:
        """Let everybody go."""
        self._settle(lambda _: True, reached=False)

    def _settle(self, concerns: Callable[[_Waiter], bool], *, reached: bool) -> None:
        with self._lock:
            waiters = [one for one in self._waiters if concerns(one)]
        for one in waiters:
            if not one.loop.is_closed():
                one.loop.call_soon_threadsafe(_resolve, one.reached, reached)


def _resolve(future: asyncio.Future[bool], reached: bool) -> None:  # noqa: FBT001  (a callback)
    if not future.done():
        future.set_result(reached)
