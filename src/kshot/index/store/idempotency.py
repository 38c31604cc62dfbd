"""Idempotency keys: the same request twice does its work once and gets one answer."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, delete, select, update

from kshot.errors import IdempotencyConflict
from kshot.index.store.engine import Clock, Transactions, utc_now
from kshot.index.store.schema import idempotency_keys
from kshot.index.store.scope import visible

_c = idempotency_keys.c
_IS_IN_FLIGHT = _c.status_code.is_(None)


class StoredResponse(NamedTuple):
    """The answer that the first request with a key got."""

    status_code: int
    response: Mapping[str, Any] | None


class IdempotencyTable(Transactions):
    """Reads and writes idempotency keys.

    Opening a store that has one process at a time releases the keys that a dead process left in flight. Where
    several processes share a database, such a key stays in flight until `purge_idempotency_keys` takes it.
    """

    def __init__(self, url: str, *, clock: Clock = utc_now) -> None:
        super().__init__(url, clock=clock)
        if self._database.has_single_owner:
            with self._write() as connection:
                connection.execute(delete(idempotency_keys).where(_IS_IN_FLIGHT, visible(idempotency_keys)))

    def reserve_idempotency_key(self, scope: str, key: str, body_hash: str) -> StoredResponse | None:
        """Claim a key before doing the work; None means go on and then complete or release it.

        Parameters
        ----------
        scope : str
            Where the key is valid: method and path, say.
        key, body_hash : str
            The caller's key and a hash of the request's body.

        Returns
        -------
        StoredResponse or None
            The answer to repeat, if a request with this key and body was completed.

        Raises
        ------
        IdempotencyConflict
            The key was used with another body, or its first request is still in flight.
        """
        row = {"scope": scope, "key": key, "body_hash": body_hash, "created_at": self._clock()}
        with self._write() as connection:
            insert = self._database.insert_if_absent(idempotency_keys).returning(_c.key)
            if connection.execute(insert, row).all():
                return None
            statement = select(_c.body_hash, _c.status_code, _c.response).where(_is(scope, key))
            first_hash, status_code, response = connection.execute(statement).one()
        if first_hash != body_hash:
            raise IdempotencyConflict("the idempotency key was used with another body; use a new key")
        if status_code is None:
            raise IdempotencyConflict("the first request with this idempotency key is still in flight")
        return StoredResponse(status_code, response)

    def complete_idempotency_key(
        self, scope: str, key: str, status_code: int, response: Mapping[str, Any] | None
    ) -> None:
        """Keep the answer for later requests with the same key; nothing happens if the key was released."""
        with self._write() as connection:
            statement = update(idempotency_keys).where(_is(scope, key), _IS_IN_FLIGHT)
            connection.execute(statement.values(status_code=status_code, response=response))

    def release_idempotency_key(self, scope: str, key: str) -> None:
        """Give up a key whose request failed, so that it can be tried again; a completed one stays."""
        with self._write() as connection:
            connection.execute(delete(idempotency_keys).where(_is(scope, key), _IS_IN_FLIGHT))

    def purge_idempotency_keys(self, before: datetime) -> int:
        """Delete the keys first used before a time, in flight or not, and return how many there were."""
        with self._write() as connection:
            too_old = and_(_c.created_at < before, visible(idempotency_keys))
            return connection.execute(delete(idempotency_keys).where(too_old)).rowcount


def _is(scope: str, key: str) -> ColumnElement[bool]:
    return and_(_c.scope == scope, _c.key == key, visible(idempotency_keys))
