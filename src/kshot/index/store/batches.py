"""Many keys, a statement's worth at a time."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
PARAMETERS = 900
"""SQLite takes 32,766 parameters per statement, older ones 999."""


def batches(keys: Sequence[T], size: int = PARAMETERS) -> Iterator[Sequence[T]]:
    """Cut keys into parts of at most ``size``, in their order."""
    for start in range(0, len(keys), size):
        yield keys[start : start + size]
