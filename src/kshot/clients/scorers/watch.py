"""Know at any time what a server may be used for: ask again when that may have changed."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from kshot.clients.scorers.assessment import Assessment
from kshot.clients.scorers.backend import Backend
from kshot.clients.scorers.endpoint import Broke, NotAnswered, Rejected
from kshot.clients.scorers.isolation import reason
from kshot.clients.scorers.passes import ModelChanged
from kshot.errors import ScorerUnavailable

T = TypeVar("T")
_EVERY_S = 3600.0
_REFUSED_EVERY_S = 60.0
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class _Known:
    assessment: Assessment
    at_s: float
    disconnections: int


class Watch:
    """Keeps the assessment of one server fresh.

    Every hour, every minute while it is refused, after every lost connection, and when told that it is stale.

    Parameters
    ----------
    backend : Backend
    assess : callable
        Asks the server.
    clock : callable
        Monotonic seconds.
    """

    def __init__(
        self, backend: Backend, assess: Callable[[], Awaitable[Assessment]], clock: Callable[[], float]
    ) -> None:
        self._backend = backend
        self._assess = assess
        self._clock = clock
        self._known: _Known | None = None
        self._assessing = asyncio.Lock()

    def outdate(self) -> None:
        """Ask again before the next score."""
        self._known = None

    async def assessment(self) -> Assessment:
        """Return what is known of the server; asks where that is not known, or may have changed.

        Raises
        ------
        ScorerUnavailable
            It does not answer.
        """
        async with self._assessing:
            known = self._known
            if known is None or not self._is_fresh(known):
                self._known = None
                before = self._backend.disconnections
                try:
                    assessment = await self._assess()
                except (NotAnswered, Broke, Rejected) as error:
                    raise ScorerUnavailable(f"the scorer does not answer: {reason(error)}") from error
                # A connection lost meanwhile makes it stale at once.
                self._known = known = _Known(assessment, self._clock(), before)
            return known.assessment

    async def trusted(self) -> Assessment:
        """Return the assessment of a server that may be used.

        Raises
        ------
        ScorerUnavailable
            It is refused, or does not answer.
        """
        assessment = await self.assessment()
        if not assessment.capabilities.modes:
            reasons = "; ".join(assessment.capabilities.refusals)
            raise ScorerUnavailable(f"the scorer is refused: {reasons}")
        return assessment

    async def of_one_model(self, work: Callable[[Assessment], Awaitable[T]]) -> T:
        """Do work that asks the server many times; do it again where the model changed meanwhile.

        Raises
        ------
        ScorerUnavailable
            The server is refused, does not answer, or changes its model all the time.
        """
        for _ in range(_ROUNDS):
            before = await self.trusted()
            disconnections = self._backend.disconnections
            try:
                done = await work(before)
            except ModelChanged:
                self.outdate()
                continue
            if self._backend.disconnections == disconnections:
                return done
            # What answered after the lost connection may have been another model under the same name.
            try:
                after = await self.assessment()
            except ScorerUnavailable:
                return done
            if after.capabilities.fingerprint == before.capabilities.fingerprint:
                return done
        raise ScorerUnavailable("the scorer's model changed each time it was asked")

    def _is_fresh(self, known: _Known) -> bool:
        every_s = _EVERY_S if known.assessment.capabilities.modes else _REFUSED_EVERY_S
        same = known.disconnections == self._backend.disconnections
        return same and self._clock() - known.at_s < every_s
