"""Calls about outcomes."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal

from kshot.clients.sdk.calls.base import Call, Pages, encode, listing, path_of, present, reader
from kshot.clients.sdk.outbox import outcome_item
from kshot.records import Content
from kshot.schemas.feedback import (
    ExampleUtility,
    FeedbackBatchReply,
    FeedbackReply,
    MetricInfo,
    MetricList,
    UtilityList,
)


def feedback(
    value: float | None = None,
    metric: str | None = None,
    *,
    decision_id: str | None = None,
    selection_id: str | None = None,
    demonstration: Content | None = None,
    kind: Literal["reward", "correct", "retract"] = "reward",
    of: str | None = None,
    source: str | None = None,
    weight: float = 1.0,
    tags: Mapping[str, Any] | None = None,
    occurred_at: datetime | None = None,
    idempotency_key: str | None = None,
    dry_run: bool = False,
) -> Call[FeedbackReply]:
    """Say how a decision or a selection went, and wait for the answer.

    ``decision.feedback(...)`` and ``selection.feedback(...)`` do so in the background.

    Parameters
    ----------
    value : float or bool, optional
        In the metric's own unit.
    metric : str, optional
        Default: the decision's policy's, or ``reward`` for a selection.
    decision_id, selection_id : str
        Exactly one of them.
    demonstration : str or dict, optional
        The output that would have been right; with the selection's query it becomes a draft example.
    kind : "reward", "correct" or "retract"
        Whether this is one more value, replaces all earlier ones, or takes them back.
    of : str, optional
        Key of the one value that is meant by ``correct`` or ``retract``.
    source : str, optional
        Who says so.
    weight : float
        How much it is trusted, 0 to 8.
    tags : dict, optional
    occurred_at : datetime, optional
        Default: when the server receives it.
    idempotency_key : str, optional
        The same key again changes nothing. Default: equal feedback on one target counts once.
    dry_run : bool
        Only check.

    Raises
    ------
    DecisionNotFound, SelectionNotFound, MetricNotFound
    DecisionConflict
        The decision was cancelled, say.
    InvalidInput
        The value is outside the metric's range.
    """
    target = present(decision_id=decision_id, selection_id=selection_id)
    item = outcome_item(
        target,
        value,
        metric,
        demonstration=demonstration,
        kind=kind,
        source=source,
        weight=weight,
        tags=tags,
    )
    item |= present(of=of, occurred_at=occurred_at, idempotency_key=idempotency_key)
    return Call(
        method="POST",
        path=path_of("feedback"),
        body=encode({**item, "dry_run": dry_run}),
        read=reader(FeedbackReply),
    )


def feedback_batch(items: Iterable[Mapping[str, Any]]) -> Call[FeedbackBatchReply]:
    """Say how up to 10,000 decisions and selections went; a bad item stops no other.

    Parameters
    ----------
    items : iterable of dict
        Each with the fields of ``POST /v1/feedback``.

    Returns
    -------
    FeedbackBatchReply
        ``data`` in the order of the items, None for those in ``refused``.
    """
    return Call(
        method="POST",
        path=path_of("feedback:batch"),
        body=encode({"items": list(items)}),
        read=reader(FeedbackBatchReply),
    )


def declare_metric(name: str, **settings: Any) -> Call[MetricInfo]:
    """Declare what outcomes are measured in; the same again changes nothing.

    Parameters
    ----------
    name : str
    **settings
        Fields of `kshot.schemas.feedback.MetricSettings`: ``type``, ``low``, ``high``, ``better``,
        ``window_s``, ``default``, ``aggregate``, ``late``.

    Raises
    ------
    MetricExists
        It is declared otherwise.
    """
    return Call(
        method="POST",
        path=path_of("metrics"),
        body=encode({"name": name, **settings}),
        creates=True,
        read=reader(MetricInfo),
    )


def list_metrics() -> Pages[MetricInfo]:
    """Iterate over all declared metrics, by name."""
    return listing(MetricList, path_of("metrics"))


def utilities(pool: str, metric: str = "reward") -> Pages[ExampleUtility]:
    """Iterate over what examples were worth by the feedback on selections, those that hurt most first.

    Raises
    ------
    PoolNotFound, MetricNotFound
    """
    return listing(UtilityList, path_of("pools", pool, "utilities"), metric=metric)
