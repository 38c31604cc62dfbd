"""Metrics: what an outcome is measured in, as it was declared."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import select

from kshot.errors import MetricExists, MetricNotFound
from kshot.index.store.engine import Transactions
from kshot.index.store.learning_schema import metrics
from kshot.index.store.scope import visible


class StoredMetric(NamedTuple):
    """A declared metric; ``settings`` are validated by `kshot.schemas.feedback.MetricSettings`."""

    name: str
    settings: Mapping[str, Any]
    created_at: datetime


class MetricTable(Transactions):
    """Reads and writes metrics; a declaration is never changed, as logs were read by it."""

    def declare_metric(self, name: str, settings: Mapping[str, Any]) -> StoredMetric:
        """Declare a metric; the same again changes nothing, `MetricExists` if it is declared otherwise."""
        row = {"name": name, "settings": settings, "created_at": self._clock()}
        with self._write() as connection:
            connection.execute(self._database.insert_if_absent(metrics), row)
            stored = connection.execute(
                select(*metrics.c).where(metrics.c.name == name, visible(metrics))
            ).one()
        if stored.settings != settings:
            raise MetricExists(f"metric {name!r} is declared otherwise: {_shown(stored.settings)}")
        return StoredMetric(*stored)

    def get_metric(self, name: str) -> StoredMetric:
        """Return a metric; `MetricNotFound` if it is not declared."""
        with self._read() as connection:
            found = connection.execute(
                select(*metrics.c).where(metrics.c.name == name, visible(metrics))
            ).one_or_none()
        if found is None:
            raise MetricNotFound(f"no metric is named {name!r}; declare it with POST /v1/metrics")
        return StoredMetric(*found)

    def list_metrics(self, *, after: str | None = None, limit: int = 100) -> list[StoredMetric]:
        """Return a page of metrics by name."""
        statement = select(*metrics.c).where(visible(metrics)).order_by(metrics.c.name).limit(limit)
        if after is not None:
            statement = statement.where(metrics.c.name > after)
        with self._read() as connection:
            return [StoredMetric(*row) for row in connection.execute(statement)]


def _shown(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value!r}" for name, value in sorted(settings.items()))
