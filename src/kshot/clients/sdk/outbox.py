"""Feedback that waits to be sent: given once, delivered once, whatever becomes of the server meanwhile."""

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import uuid4

from kshot.clients.sdk.calls.base import encode, present
from kshot.errors import InvalidInput, Overloaded
from kshot.records import Content

MAX_WAITING = 100_000
"""Outcomes that wait at most; a few hundred bytes each."""
BATCH = 500


class Outbox:
    """Outcomes in the order in which they were given. Any thread may call any method."""

    def __init__(self, limit: int = MAX_WAITING) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._waiting: deque[dict[str, Any]] = deque()
        self._is_closed = False

    def __len__(self) -> int:
        with self._lock:
            return len(self._waiting)

    def add(self, item: Mapping[str, Any]) -> None:
        """Take an outcome in, with the time and with a key under which it counts once.

        Raises
        ------
        Overloaded
            So many wait that the server must be gone for long; nothing was taken in.
        InvalidInput
            It was closed: nobody would send it.
        """
        stamped = {"idempotency_key": uuid4().hex, "occurred_at": datetime.now(UTC).isoformat(), **item}
        with self._lock:
            if self._is_closed:
                raise InvalidInput("nothing can be sent: the client is closed; give feedback before")
            if len(self._waiting) >= self._limit:
                raise Overloaded(f"{self._limit} outcomes wait to be sent")
            self._waiting.append(stamped)

    def first(self, count: int = BATCH) -> list[dict[str, Any]]:
        """Return those that have waited longest, and keep them."""
        with self._lock:
            return [item for item, _ in zip(self._waiting, range(count), strict=False)]

    def drop(self, count: int, kept: Sequence[dict[str, Any]] = ()) -> None:
        """Forget those that have waited longest, but for some, which stay the first."""
        with self._lock:
            for _ in range(count):
                self._waiting.popleft()
            self._waiting.extendleft(reversed(kept))

    def close(self) -> None:
        """Take nothing in any more."""
        with self._lock:
            self._is_closed = True


class FeedbackSink(Protocol):
    """Where outcomes are given to."""

    def add(self, item: Mapping[str, Any]) -> None:
        """Take an outcome in and return at once."""
        ...


def outcome_item(
    target: Mapping[str, str],
    value: float | None,
    metric: str | None,
    *,
    demonstration: Content | None = None,
    kind: str = "reward",
    source: str | None = None,
    weight: float = 1.0,
    tags: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the body of one feedback; `InvalidInput` if it cannot be written as JSON."""
    item = {
        **target,
        **present(value=value, metric=metric, demonstration=demonstration, source=source, tags=tags or None),
        "kind": kind,
        "weight": weight,
    }
    # Whoever gave it is told here: once it waits, nobody listens.
    encode(item)
    return item


def sent(sink: FeedbackSink | None, item: Mapping[str, Any]) -> None:
    """Give an outcome to a client's queue; `InvalidInput` without one."""
    if sink is None:
        raise InvalidInput("nothing can be sent: it came without a client; use client.feedback(...)")
    sink.add(item)


def outcomes_of(items: Sequence[Mapping[str, Any]]) -> str:
    """Say how many outcomes these are."""
    return f"{len(items)} outcome{'' if len(items) == 1 else 's'}"
