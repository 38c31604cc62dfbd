"""Telling how far a plan is, but not more often than anybody looks."""

import time

from kshot.selectors.annotation.base import Report
from kshot.server.services.progress import Progress

_EVERY_S = 0.2


class Phases:
    """Turns the reports of pure functions into the progress of a job, which is a write to the store."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._written_s = 0.0

    def begin(self, name: str, total: int = 1) -> Report:
        """Start a phase and return what its work reports to."""
        self._progress(0, total, name)
        self._written_s = time.monotonic()

        def report(done: int, total: int) -> None:
            if time.monotonic() - self._written_s >= _EVERY_S:
                self._progress(done, total, name)
                self._written_s = time.monotonic()

        return report


def part_of(report: Report, part: int, parts: int) -> Report:
    """Return what one of several equally large pieces of work reports to, in thousandths of a piece."""

    def report_part(done: int, total: int) -> None:
        report(1000 * part + 1000 * done // max(total, 1), 1000 * parts)

    return report_part
