"""From the log's rows to what the ledger reads."""

from kshot.records import NewFeedback
from kshot.selectors.bandits.feedback import EventKind, OutcomeEvent


def outcome_event(event: NewFeedback) -> OutcomeEvent:
    """Return a row of the feedback log as the event that it stands for."""
    return OutcomeEvent(
        kind=EventKind(event.kind),
        at=event.occurred_at.timestamp(),
        metric=event.metric,
        value=event.value,
        weight=event.weight,
        source=event.source,
        key=event.idempotency_key,
        of=event.of,
        arm=event.variant,
    )
