"""Jobs, health and version on the wire."""

from datetime import datetime
from typing import Any

from pydantic import Field

from kshot.records import JobState
from kshot.schemas.base import Page, Reply


class JobInfo(Reply):
    """A job: how far it is, or how it ended."""

    id: str
    kind: str
    pool: str | None
    state: JobState
    done: int
    total: int | None
    phase: str | None
    eta_s: float | None = Field(
        default=None, description="until the end of the phase, if it goes on as fast as so far"
    )
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    created_at: datetime
    updated_at: datetime


class JobList(Page):
    """Jobs, newest first."""

    data: list[JobInfo]


class Readiness(Reply):
    """What ``/readyz`` checked; the status is 503 unless everything is ok."""

    ready: bool
    checks: dict[str, str]


class Version(Reply):
    """What is running."""

    version: str
    python: str
    selectors: list[str]
