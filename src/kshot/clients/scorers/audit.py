"""Keep an eye on a server between canaries: score a few finished items again, in another way."""

from collections import deque
from random import Random

from kshot.clients.scorers.base import AuditReport, ScoringMode
from kshot.clients.scorers.boundary import Fed
from kshot.clients.scorers.telemetry import UNTOLD, Telemetry
from kshot.errors import InvalidParameter

ALARM_NATS = 0.2
"""The 99th percentile of differences per token that no rounding explains."""
_REMEMBERED = 1000
_LONGEST_TRIE = 16
_ENOUGH = 20


class Audit:
    """Remembers by how much two ways to score the same item differed.

    Parameters
    ----------
    share : float
        Of finished items, in [0, 1].
    rng : random.Random
    telemetry : Telemetry
    """

    def __init__(self, share: float, rng: Random, telemetry: Telemetry = UNTOLD) -> None:
        if not 0 <= share <= 1:
            raise InvalidParameter(f"audit_share is {share}, allowed 0 to 1")
        self._share = share
        self._rng = rng
        self._telemetry = telemetry
        self._checked = 0
        self._alarm_nats: float | None = None
        self.differences_nats: deque[float] = deque(maxlen=_REMEMBERED)
        """Per token, the latest thousand."""
        self.alarms = 0
        """How often the differences were found too large."""

    def draw(self, finished: int) -> int | None:
        """Return which of the finished items to score again; None for none."""
        if not finished or self._rng.random() >= self._share * finished:
            return None
        return self._rng.randrange(finished)

    def record(self, difference_nats: float) -> None:
        """Remember one difference per token."""
        self.differences_nats.append(difference_nats)
        self._checked += 1
        self._telemetry.audited(difference_nats)
        if len(self.differences_nats) >= _ENOUGH and not self.alarming:
            self._alarm_nats = None

    @property
    def p99_nats(self) -> float:
        """The 99th percentile of the differences; 0 before there are any."""
        ordered = sorted(self.differences_nats)
        return ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))] if ordered else 0.0

    @property
    def alarming(self) -> bool:
        """Whether the server has to be checked again."""
        return len(self.differences_nats) >= _ENOUGH and self.p99_nats > ALARM_NATS

    def start_over(self) -> None:
        """Forget the differences, after an alarm."""
        self.alarms += 1
        self._alarm_nats = self.p99_nats
        self._telemetry.alarmed()
        self.differences_nats.clear()

    def report(self) -> AuditReport:
        """Return what was found so far."""
        return AuditReport(
            checked=self._checked,
            p99_nats=self.p99_nats if self.differences_nats else None,
            alarms=self.alarms,
            alarm_nats=self._alarm_nats,
        )


def other_mode(fed: Fed, used: ScoringMode, modes: tuple[ScoringMode, ...]) -> ScoringMode | None:
    """Return another way to score an item, or None where there is none that is cheap enough."""
    if used is not ScoringMode.ECHO:
        return ScoringMode.ECHO if ScoringMode.ECHO in modes else None
    cheap = len(fed.completion) <= _LONGEST_TRIE and ScoringMode.TRIE in modes
    return ScoringMode.TRIE if cheap else None
