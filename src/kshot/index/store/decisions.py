"""Decisions: each recorded once, together with what its session keeps."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    delete,
    exists,
    func,
    or_,
    select,
    update,
)

from kshot.errors import DecisionNotFound
from kshot.index.store.batches import batches
from kshot.index.store.engine import Transactions
from kshot.index.store.learning_schema import decisions, feedback, policies, policy_sessions
from kshot.index.store.schema import selections
from kshot.index.store.scope import visible
from kshot.records import DecisionRecord

_d, _s, _f = decisions.c, policy_sessions.c, feedback.c
_COLUMNS = tuple(decisions.c)
_FIELDS = tuple(column.name for column in _COLUMNS)
# Built once: putting it together costs as much as its answer, and every decision asks.
_PRESENT = (
    select(policies.c.id)
    .where(and_(policies.c.id.in_(bindparam("wanted", expanding=True)), visible(policies)))
    .with_for_update(read=True, key_share=True)
)


class StoredSession(NamedTuple):
    """Which variant a session keeps."""

    variant: str
    mixed: bool
    created_at: datetime


class SessionMove(NamedTuple):
    """What a session is to keep from now on, and what it was seen to keep before."""

    expected: StoredSession | None
    wanted: StoredSession


class Proposal(NamedTuple):
    """A decision that is about to be recorded, and what becomes of its session by it."""

    record: DecisionRecord
    session: SessionMove | None = None


class Recorded(NamedTuple):
    """The decision under the proposal's id: the proposal itself if it is new, else the one before it."""

    record: DecisionRecord
    is_new: bool


class SessionTaken(NamedTuple):
    """Nothing was recorded: the session keeps something else than the proposal had seen."""

    present: StoredSession | None


class PolicyGone(NamedTuple):
    """Nothing was recorded: the policy was deleted."""

    policy_id: int


Answer: TypeAlias = Recorded | SessionTaken | PolicyGone


class DecisionTable(Transactions):
    """Reads and writes decisions and the sessions that keep to them."""

    def add_decisions(self, proposals: Sequence[Proposal]) -> list[Answer]:
        """Record decisions in one transaction, each once, and answer for each in its place.

        Of two with one id the first stands, of two first decisions of one session too.
        """
        if not proposals:
            return []
        answers: dict[int, Answer] = {}
        # Everybody takes sessions in the same order, so that no two wait for each other.
        order = sorted(range(len(proposals)), key=lambda i: _order(proposals[i]))
        with self._write() as connection:
            wanted = {proposal.record.policy_id for proposal in proposals}
            present = set(connection.scalars(_PRESENT, {"wanted": list(wanted)}))
            for i in order:
                policy_id = proposals[i].record.policy_id
                answers[i] = (
                    self._added(connection, proposals[i]) if policy_id in present else PolicyGone(policy_id)
                )
        return [answers[i] for i in range(len(proposals))]

    def get_decision(self, decision_id: str) -> DecisionRecord:
        """Return a decision; `DecisionNotFound` if there is none of that id."""
        found = self.find_decisions([decision_id])
        if decision_id not in found:
            raise DecisionNotFound(f"no decision has the id {decision_id!r}, or its retention has ended")
        return found[decision_id]

    def find_decisions(self, decision_ids: Collection[str]) -> dict[str, DecisionRecord]:
        """Return those of some decisions that there are, by id."""
        found = {}
        with self._read() as connection:
            for some in batches(sorted(set(decision_ids))):
                where = and_(_d.id.in_(some), visible(decisions))
                for row in connection.execute(select(*_COLUMNS).where(where)):
                    found[row.id] = _record(row)
        return found

    def decision_of_selection(self, selection_id: str) -> DecisionRecord | None:
        """Return the decision that a selection was made by, None if there is none."""
        where = and_(_d.selection_id == selection_id, visible(decisions))
        with self._read() as connection:
            row = connection.execute(select(*_COLUMNS).where(where).limit(1)).one_or_none()
        return None if row is None else _record(row)

    def get_session(self, policy_id: int, session_key: str) -> StoredSession | None:
        """Return what a session keeps, None before its first decision."""
        with self._read() as connection:
            return _session(connection, policy_id, session_key)

    def decisions_between(
        self, policy_id: int, after: tuple[datetime, str] | None, before: datetime, limit: int
    ) -> list[DecisionRecord]:
        """Return decisions in the order of time and id: those after a place, made before a time."""
        where = and_(_d.policy_id == policy_id, _d.decided_at < before, visible(decisions))
        if after is not None:
            time, decision_id = after
            where = and_(where, _d.decided_at >= time, or_(_d.decided_at > time, _d.id > decision_id))
        statement = select(*_COLUMNS).where(where).order_by(_d.decided_at, _d.id).limit(limit)
        with self._read() as connection:
            return [_record(row) for row in connection.execute(statement)]

    def recent_decisions(self, policy_id: int, since: datetime, limit: int) -> list[DecisionRecord]:
        """Return the newest decisions made at or after a time, the newest first."""
        where = and_(_d.policy_id == policy_id, _d.decided_at >= since, visible(decisions))
        statement = select(*_COLUMNS).where(where).order_by(_d.decided_at.desc()).limit(limit)
        with self._read() as connection:
            return [_record(row) for row in connection.execute(statement)]

    def decisions_of_subject(self, subject_id: str) -> list[DecisionRecord]:
        """Return every decision about one subject, of any policy."""
        where = and_(_d.subject_id == subject_id, visible(decisions))
        with self._read() as connection:
            return [_record(row) for row in connection.execute(select(*_COLUMNS).where(where))]

    def wipe_decisions(self, decision_ids: Collection[str], *, keep_key: str) -> int:
        """Erase decisions, their sessions, selections and feedback, and return how many decisions there were.

        Events under the idempotency key ``keep_key`` stay as tombstones: they hold no data of anybody.
        """
        count = 0
        with self._append() as connection:
            for some in batches(sorted(decision_ids)):
                is_it = and_(_d.id.in_(some), visible(decisions))
                statement = select(_d.policy_id, _d.session_key).where(is_it, _d.session_key.is_not(None))
                for policy_id, session_key in connection.execute(statement.distinct()).all():
                    where = and_(_s.policy_id == policy_id, _s.session_key == session_key)
                    connection.execute(delete(policy_sessions).where(where, visible(policy_sessions)))
                made = select(_d.selection_id).where(is_it, _d.selection_id.is_not(None))
                shown = connection.scalars(made).all()
                said_of_that = and_(_f.target_kind == "selection", _f.target_id.in_(shown), visible(feedback))
                connection.execute(delete(feedback).where(said_of_that))
                connection.execute(delete(selections).where(selections.c.id.in_(shown), visible(selections)))
                said_of_it = and_(_f.target_kind == "decision", _f.target_id.in_(some), visible(feedback))
                connection.execute(delete(feedback).where(said_of_it, _f.idempotency_key != keep_key))
                count += connection.execute(delete(decisions).where(is_it)).rowcount
        self._forget()
        return count

    def purge_decisions(self, policy_id: int, before: datetime, *, folded_seq: int) -> int:
        """Delete decisions from before a time, with their feedback, of which nothing is said after a place.

        So that nobody who has still to fold an event misses the decision it is about. Nobody folds what is
        said of decisions that a frozen policy made, so these go in any case.
        """
        later = exists().where(
            _f.target_id == _d.id, _f.target_kind == "decision", _f.seq > folded_seq, visible(feedback)
        )
        is_due = and_(_d.policy_id == policy_id, _d.decided_at < before, visible(decisions))
        kept = exists().where(_d.id == _f.target_id, visible(decisions))
        of_it = and_(_f.policy_id == policy_id, _f.target_kind == "decision", visible(feedback))
        with self._append() as connection:
            deleted = connection.execute(
                delete(decisions).where(is_due, or_(~later, _d.mode == "frozen"))
            ).rowcount
            connection.execute(delete(feedback).where(of_it, _f.received_at < before, ~kept))
        return deleted

    def purge_sessions(self, policy_id: int, before: datetime) -> int:
        """Delete the sessions of a policy that began before a time."""
        where = and_(_s.policy_id == policy_id, _s.created_at < before, visible(policy_sessions))
        with self._write() as connection:
            return connection.execute(delete(policy_sessions).where(where)).rowcount

    def decision_counts(self, policy_id: int) -> dict[str, int]:
        """Return how often each variant was served."""
        where = and_(_d.policy_id == policy_id, visible(decisions))
        statement = select(_d.served, func.count()).where(where).group_by(_d.served)
        with self._read() as connection:
            return {served: count for served, count in connection.execute(statement)}  # noqa: C416  # rows are no pairs to mypy

    def _added(self, connection: Connection, proposal: Proposal) -> Answer:
        record = proposal.record
        if proposal.session is not None:
            # Looked for first: a decision that stands already moves no session.
            stored = _find(connection, record.id)
            if stored is not None:
                return Recorded(stored, is_new=False)
            if not self._moved(connection, record, proposal.session):
                return SessionTaken(_session(connection, record.policy_id, record.session_key or ""))
        row = {name: getattr(record, name) for name in _FIELDS}
        inserted = connection.execute(self._database.insert_if_absent(decisions).returning(_d.id), row)
        if inserted.scalar() is None:
            # It stands already. If another process recorded it just now, the session is as that wanted it.
            return Recorded(_found(connection, record.id), is_new=False)
        return Recorded(record, is_new=True)

    def _moved(self, connection: Connection, record: DecisionRecord, move: SessionMove) -> bool:
        key = {"policy_id": record.policy_id, "session_key": record.session_key}
        if move.expected is None:
            insert = self._database.insert_if_absent(policy_sessions).returning(_s.variant)
            return connection.execute(insert, {**key, **move.wanted._asdict()}).scalar() is not None
        if move.wanted == move.expected:
            return _session(connection, record.policy_id, record.session_key or "") == move.expected
        as_seen = and_(
            _s.policy_id == record.policy_id,
            _s.session_key == record.session_key,
            _s.variant == move.expected.variant,
            _s.created_at == move.expected.created_at,
            visible(policy_sessions),
        )
        statement = update(policy_sessions).where(as_seen).values(move.wanted._asdict())
        return bool(connection.execute(statement).rowcount)


def _order(proposal: Proposal) -> tuple[int, str, str]:
    record = proposal.record
    return record.policy_id, record.session_key or "", record.id


def _is(decision_id: str) -> ColumnElement[bool]:
    return and_(_d.id == decision_id, visible(decisions))


def _find(connection: Connection, decision_id: str) -> DecisionRecord | None:
    row = connection.execute(select(*_COLUMNS).where(_is(decision_id))).one_or_none()
    return None if row is None else _record(row)


def _found(connection: Connection, decision_id: str) -> DecisionRecord:
    return _record(connection.execute(select(*_COLUMNS).where(_is(decision_id))).one())


def _record(row: Row[tuple[object, ...]]) -> DecisionRecord:
    fields: dict[str, Any] = dict(zip(_FIELDS, row, strict=True))
    return DecisionRecord(**fields)


def _session(connection: Connection, policy_id: int, session_key: str) -> StoredSession | None:
    where = and_(_s.policy_id == policy_id, _s.session_key == session_key, visible(policy_sessions))
    row = connection.execute(select(_s.variant, _s.mixed, _s.created_at).where(where)).one_or_none()
    return None if row is None else StoredSession(*row)
