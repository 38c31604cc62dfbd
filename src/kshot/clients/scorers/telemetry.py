"""What a scorer tells about its work, for whoever counts: numbers and names from short lists, never texts."""

from collections.abc import Callable
from dataclasses import dataclass


def _untold(*_: object) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """Whom to tell; by default nobody. Called in the scorer's event loop, so it must return at once.

    Attributes
    ----------
    requested : callable
        Told the outcome of each attempt to ask the server (``ok``, ``overloaded``, ``broken``, ``refused``,
        ``lost``) and its prompt tokens.
    audited : callable
        Told by how much two ways to score an item differ, in nats per token.
    alarmed : callable
        Told that the differences are too large.
    """

    requested: Callable[[str, int], None] = _untold
    audited: Callable[[float], None] = _untold
    alarmed: Callable[[], None] = _untold


UNTOLD = Telemetry()
