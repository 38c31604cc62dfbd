"""Metrics: declared once, then what feedback is checked and folded by."""

import asyncio

from kshot.errors import MetricNotFound
from kshot.index.store import Store
from kshot.index.store.metric_declarations import StoredMetric
from kshot.schemas.feedback import MetricCreate, MetricInfo, MetricList, MetricSettings
from kshot.selectors.bandits.metric_rules import LatePolicy, MetricRule
from kshot.server.validation import validated

DEFAULT_METRIC = "reward"


class MetricService:
    """The routes' view of metrics."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def declare(self, request: MetricCreate) -> MetricInfo:
        """Declare a metric; the same again changes nothing."""
        settings = settings_of(request)
        return _info(await asyncio.to_thread(self._store.declare_metric, request.name, settings))

    async def list(self, cursor: str | None, limit: int) -> MetricList:
        """Return one page of metrics, by name."""
        rows = await asyncio.to_thread(self._store.list_metrics, after=cursor, limit=limit + 1)
        page = rows[:limit]
        return MetricList(
            data=[_info(row) for row in page], next_cursor=page[-1].name if len(rows) > limit else None
        )

    async def get(self, name: str) -> MetricInfo:
        """Describe a metric."""
        return _info(await asyncio.to_thread(self._store.get_metric, name))


def settings_of(request: MetricSettings) -> dict[str, object]:
    """Return what is stored of a declaration."""
    return request.model_dump(mode="json", exclude={"name"})


def ensure_metric(store: Store, name: str) -> MetricRule:
    """Return a metric's rule; one that is not declared becomes a number from 0 to 1, high better."""
    try:
        return rule_of(store.get_metric(name))
    except MetricNotFound:
        return rule_of(store.declare_metric(name, settings_of(MetricSettings())))


def rule_of(metric: StoredMetric) -> MetricRule:
    """Return how values of a declared metric are checked and aggregated."""
    settings = validated(MetricSettings, dict(metric.settings))
    return MetricRule(
        boolean=settings.type == "boolean",
        low=settings.low,
        high=settings.high,
        better=settings.better,
        window_s=settings.window_s,
        default=settings.default,
        aggregate=settings.aggregate,
        late=LatePolicy(settings.late),
    )


def _info(stored: StoredMetric) -> MetricInfo:
    settings = validated(MetricSettings, dict(stored.settings))
    return MetricInfo(name=stored.name, created_at=stored.created_at, **settings.model_dump())
