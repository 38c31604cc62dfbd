"""Both clients behind one synchronous surface, so that a test is written once."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

from kshot.clients.sdk.async_client import AsyncClient


class Awaited:
    """An `AsyncClient` whose methods run to their end in an event loop of their own."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._runner = asyncio.Runner()

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._client, name)
        if not callable(member):
            return member

        def run(*args: Any, **kwargs: Any) -> Any:
            result = member(*args, **kwargs)
            if inspect.isawaitable(result):
                return self._runner.run(self._await(result))
            return self._iterate(result)

        return run

    def close(self) -> None:
        self._runner.run(self._client.close())
        self._runner.close()

    @staticmethod
    async def _await(result: Any) -> Any:
        return await result

    def _iterate(self, items: AsyncIterator[Any]) -> Iterator[Any]:
        while True:
            try:
                yield self._runner.run(self._await(anext(items)))
            except StopAsyncIteration:
                return
