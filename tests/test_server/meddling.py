"""A store that lets a test meddle before and after every call: fail, or do what another process would."""

from collections.abc import Callable
from typing import Any, Literal

from kshot.errors import Unavailable
from kshot.index.store import Store

When = Literal["before", "after"]
Meddle = Callable[[int, When], None]


class MeddledStore:
    """Hands every call on to a real store; calls are numbered from 1, whichever they are."""

    def __init__(self, store: Store, meddle: Meddle | None = None) -> None:
        self._store = store
        self.meddle = meddle or leave_alone
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if not callable(method):
            return method

        def called(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            number = self.calls
            self.meddle(number, "before")
            result = method(*args, **kwargs)
            self.meddle(number, "after")
            return result

        return called


def leave_alone(_number: int, _when: When) -> None:
    """Do nothing."""


def failing(at: int, when: When) -> Meddle:
    """Fail once: before a call has done anything, or after it has done all and before anybody is told."""

    def meddle(number: int, now: When) -> None:
        if (number, now) == (at, when):
            raise Unavailable(f"the store does not answer: call {at}, {when}")

    return meddle


def once(at: int, act: Callable[[], object]) -> Meddle:
    """Do something before one call."""

    def meddle(number: int, now: When) -> None:
        if (number, now) == (at, "before"):
            act()

    return meddle
