"""What policies have learnt, saved now and then: a start folds only what the log says after it."""

import hashlib
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import and_, delete, insert, select

from kshot.index.store.engine import Transactions
from kshot.index.store.learning_schema import feedback, policies, policy_states
from kshot.index.store.scope import visible

_s = policy_states.c
KEPT = 3
"""Saved states per version of a policy; older ones stand in where newer ones are damaged."""


class SavedState(NamedTuple):
    """What the log came to, up to an event."""

    upto_seq: int
    state: bytes
    created_at: datetime
    is_whole: bool
    """Whether the bytes are those that were saved."""


def checksum_of(state: bytes) -> str:
    """Return what tells states apart: BLAKE2b over their bytes, in hexadecimal."""
    return hashlib.blake2b(state, digest_size=32).hexdigest()


class PolicyStateTable(Transactions):
    """Reads and writes saved states."""

    def save_policy_state(self, policy_id: int, version: int, upto_seq: int, state: bytes) -> bool:
        """Save a state and keep the newest three; False if the policy is at another version by now."""
        row = {
            "policy_id": policy_id,
            "policy_version": version,
            "upto_seq": upto_seq,
            "checksum": checksum_of(state),
            "state": state,
            "created_at": self._clock(),
        }
        of_policy = and_(_s.policy_id == policy_id, _s.policy_version == version, visible(policy_states))
        with self._write() as connection:
            is_it = and_(policies.c.id == policy_id, policies.c.version == version, visible(policies))
            if connection.scalar(select(policies.c.id).where(is_it).with_for_update()) is None:
                return False
            connection.execute(delete(policy_states).where(of_policy, _s.upto_seq == upto_seq))
            connection.execute(insert(policy_states), row)
            newest = select(_s.upto_seq).where(of_policy).order_by(_s.upto_seq.desc()).limit(KEPT)
            kept = connection.scalars(newest).all()
            connection.execute(delete(policy_states).where(of_policy, _s.upto_seq < min(kept)))
        return True

    def saved_policy_states(
        self, policy_id: int, version: int, *, upto_seq: int | None = None
    ) -> list[SavedState]:
        """Return the saved states of a version, up to a place in the log, the newest first."""
        where = and_(_s.policy_id == policy_id, _s.policy_version == version, visible(policy_states))
        if upto_seq is not None:
            where = and_(where, _s.upto_seq <= upto_seq)
        statement = select(_s.upto_seq, _s.state, _s.created_at, _s.checksum).where(where)
        with self._read() as connection:
            rows = connection.execute(statement.order_by(_s.upto_seq.desc())).all()
        return [
            SavedState(row.upto_seq, row.state, row.created_at, checksum_of(row.state) == row.checksum)
            for row in rows
        ]

    def drop_policy_states(self, policy_id: int, *, before_seq: int) -> None:
        """Delete the saved states that say nothing of the log from a place on."""
        where = and_(_s.policy_id == policy_id, _s.upto_seq < before_seq, visible(policy_states))
        with self._write() as connection:
            connection.execute(delete(policy_states).where(where))

    def policies_with_feedback(self, after_seq: int) -> set[int]:
        """Return the policies that the log says something new about."""
        c = feedback.c
        statement = select(c.policy_id).where(c.seq > after_seq, c.policy_id.is_not(None), visible(feedback))
        with self._read() as connection:
            return set(connection.scalars(statement.distinct()))
