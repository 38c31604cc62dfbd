"""Stop asking a server that does not answer, and try it again after a while."""

from collections.abc import Callable

from kshot.errors import ScorerUnavailable


class CircuitBreaker:
    """Opens after some failures in a row; then lets one request through per pause until one succeeds.

    Parameters
    ----------
    clock : callable
        Seconds, monotonic.
    failures : int
        In a row, before it opens.
    pause_s : float
    """

    def __init__(self, clock: Callable[[], float], *, failures: int = 5, pause_s: float = 10.0) -> None:
        self._clock = clock
        self._allowed = failures
        self._pause_s = pause_s
        self._failures = 0
        self._open_until_s = 0.0

    @property
    def is_open(self) -> bool:
        """Whether requests are refused at this moment."""
        return self._failures >= self._allowed and self._clock() < self._open_until_s

    def check(self) -> None:
        """Refuse while open; half-open, the first who asks may try.

        Raises
        ------
        ScorerUnavailable
            The last attempts failed, and the pause is not over.
        """
        if self._failures < self._allowed:
            return
        if self._clock() < self._open_until_s:
            raise ScorerUnavailable(f"the scorer did not answer {self._failures} times in a row")
        self._open_until_s = self._clock() + self._pause_s

    def succeeded(self) -> None:
        """Close."""
        self._failures = 0

    def failed(self) -> None:
        """Count a failure; the pause starts with the one that opens."""
        self._failures += 1
        if self._failures >= self._allowed:
            self._open_until_s = self._clock() + self._pause_s
