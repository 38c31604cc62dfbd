"""What long work tells about itself."""

from typing import Protocol


class Progress(Protocol):
    """Told how far the work is, at every point where it may stop."""

    def __call__(self, done: int, total: int, phase: str) -> None:
        """Take note, or raise to stop."""


def silent(done: int, total: int, phase: str) -> None:
    """Tell nobody."""
