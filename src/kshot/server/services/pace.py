"""Deadlines: what a method has lately cost in a pool, and which cheaper one answers in time."""

import threading
from collections.abc import Sequence

from kshot.arrays import Feature
from kshot.errors import KshotError
from kshot.index.candidates import QueryFeatures
from kshot.schemas.base import Notice
from kshot.server.services.choosing import Method, fitting

CHEAPER = ("fused", "similarity")
"""What stands in for a method that would be late, the better one first."""
_FADES = 0.9
_FORGIVES = 0.98


class Pace:
    """How long each method took lately in one pool, from the embedded query to the finished reply.

    An estimate is the worst time seen, fading with every faster one: close to a high percentile of what is
    recent. It also fades a little each time the method is passed over, so that one slow moment does not
    exclude a method for good.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key_to_ms: dict[tuple[str, bool], float] = {}

    def expected_ms(self, name: str, *, exact: bool = False) -> float | None:
        """Return the estimate; None for a method that has not run yet."""
        with self._lock:
            return self._key_to_ms.get((name, exact))

    def took(self, name: str, took_ms: float, *, exact: bool = False) -> None:
        """Take note of one run."""
        with self._lock:
            before = self._key_to_ms.get((name, exact), took_ms)
            self._key_to_ms[name, exact] = max(took_ms, _FADES * before + (1 - _FADES) * took_ms)

    def passed_over(self, name: str, *, exact: bool = False) -> None:
        """Take note that a method was not run because of its estimate."""
        with self._lock:
            if (name, exact) in self._key_to_ms:
                self._key_to_ms[name, exact] *= _FORGIVES


def in_time(
    pace: Pace,
    method: Method,
    fallbacks: Sequence[Method],
    query: QueryFeatures,
    left_ms: float,
    *,
    exact: bool = False,
) -> tuple[Method, Notice | None]:
    """Return the method that will answer within ``left_ms``, and what to tell the caller if it is another.

    A method without an estimate is given its chance, though not in place of one that reads less. A fallback
    that took no less time than the method is no help. Where even the last fallback would be late, that one
    runs: late and cheap is better than nothing, and the timing tells.
    """
    expected = pace.expected_ms(method.name, exact=exact)
    if expected is None or expected <= left_ms:
        return method, None
    chosen = method
    for fallback in fallbacks:
        if fallback.name == method.name or not _works(fallback, query):
            continue
        took_ms = pace.expected_ms(fallback.name)
        if _reads_more(fallback, method) if took_ms is None else took_ms >= expected:
            continue
        chosen = fallback
        if (took_ms or 0.0) <= left_ms:
            break
    if chosen is method:
        return method, None
    pace.passed_over(method.name, exact=exact)
    message = (
        f"{method.name} takes up to {expected:.1f} ms here, {max(left_ms, 0.0):.1f} ms of deadline_ms were "
        f"left: {chosen.name} answered"
    )
    return chosen, Notice(code="degraded", message=message)


def _reads_more(fallback: Method, method: Method) -> bool:
    """Tell whether a fallback reads token vectors, by far the most, and the method does not."""
    return Feature.TOKENS in fallback.selector.needs - method.selector.needs


def _works(method: Method, query: QueryFeatures) -> bool:
    try:
        fitting(method, query)
    except KshotError:
        return False
    return True
