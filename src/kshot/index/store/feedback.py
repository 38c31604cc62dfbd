"""The feedback log: appended to exactly once per event, read in order, never changed."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Row, and_, delete, func, select

from kshot.index.store.batches import batches
from kshot.index.store.engine import Transactions
from kshot.index.store.learning_schema import feedback
from kshot.index.store.scope import visible
from kshot.records import FeedbackEvent, NewFeedback

_c = feedback.c
_COLUMNS = tuple(feedback.c)
_NAMES = tuple(column.name for column in _COLUMNS)
_FIELDS = tuple(column.name for column in _COLUMNS if column.name != "seq")


class Appended(NamedTuple):
    """Where an event stands in the log, and whether it stood there before."""

    event: FeedbackEvent
    duplicate: bool


class FeedbackTable(Transactions):
    """Reads and appends feedback."""

    def append_feedback(self, events: Sequence[NewFeedback]) -> list[Appended]:
        """Append events in one transaction, in their order, and return each with its place.

        An event whose target, metric and idempotency key are in the log already is left out; what the log
        holds under them is returned instead, whether it says the same or not.
        """
        if not events:
            return []
        appended = []
        with self._append() as connection:
            insert = self._database.insert_if_absent(feedback).returning(_c.seq)
            for event in events:
                row = {name: getattr(event, name) for name in _FIELDS}
                seq = connection.execute(insert, row).scalar()
                if seq is None:
                    present = connection.execute(select(*_COLUMNS).where(_same(event))).one()
                    appended.append(Appended(_event(present), duplicate=True))
                else:
                    appended.append(Appended(FeedbackEvent(seq=seq, **row), duplicate=False))
        return appended

    def feedback_after(self, policy_id: int, seq: int, limit: int) -> list[FeedbackEvent]:
        """Return up to ``limit`` events of a policy's decisions that follow ``seq``, in their order."""
        where = and_(_c.policy_id == policy_id, _c.seq > seq, visible(feedback))
        with self._read() as connection:
            rows = connection.execute(select(*_COLUMNS).where(where).order_by(_c.seq).limit(limit)).all()
        return [_event(row) for row in rows]

    def feedback_of(
        self, target_kind: str, target_ids: Collection[str], *, upto_seq: int | None = None
    ) -> dict[str, list[FeedbackEvent]]:
        """Return every event of some targets, up to a place in the log, each target's in their order."""
        found: dict[str, list[FeedbackEvent]] = {target: [] for target in target_ids}
        with self._read() as connection:
            for some in batches(sorted(found)):
                where = and_(_c.target_id.in_(some), _c.target_kind == target_kind, visible(feedback))
                if upto_seq is not None:
                    where = and_(where, _c.seq <= upto_seq)
                for row in connection.execute(select(*_COLUMNS).where(where).order_by(_c.seq)):
                    found[row.target_id].append(_event(row))
        return found

    def last_feedback_seq(self) -> int:
        """Return the place of the newest event; 0 for an empty log."""
        with self._read() as connection:
            return connection.scalar(select(func.max(_c.seq)).where(visible(feedback))) or 0

    def selection_feedback(self, metric: str, *, since: datetime, limit: int) -> list[FeedbackEvent]:
        """Return the newest events about selections, up to ``limit``, in the order of the log."""
        where = and_(
            _c.target_kind == "selection", _c.metric == metric, _c.received_at >= since, visible(feedback)
        )
        statement = select(*_COLUMNS).where(where).order_by(_c.seq.desc()).limit(limit)
        with self._read() as connection:
            return [_event(row) for row in connection.execute(statement)][::-1]

    def forget_targets(self, target_kind: str, target_ids: Collection[str]) -> int:
        """Delete every event of some targets, and return how many there were."""
        count = 0
        with self._append() as connection:
            for some in batches(sorted(target_ids)):
                where = and_(_c.target_id.in_(some), _c.target_kind == target_kind, visible(feedback))
                count += connection.execute(delete(feedback).where(where)).rowcount
        return count


def _same(event: NewFeedback) -> ColumnElement[bool]:
    return and_(
        _c.target_id == event.target_id,
        _c.metric == event.metric,
        _c.idempotency_key == event.idempotency_key,
        visible(feedback),
    )


def _event(row: Row[tuple[object, ...]]) -> FeedbackEvent:
    fields: dict[str, Any] = dict(zip(_NAMES, row, strict=True))
    fields["tags"] = fields["tags"] or {}
    return FeedbackEvent(**fields)
