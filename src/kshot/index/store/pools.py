"""Pools: named sets of examples, each with a version that grows with every change."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, select, update

from kshot.errors import PoolExists, PoolNotFound
from kshot.index.store.engine import Transactions
from kshot.index.store.learning_schema import feedback
from kshot.index.store.schema import pools, selections
from kshot.index.store.scope import visible
from kshot.records import Pool, require_text


def lock_pool(connection: Connection, pool_id: int) -> int:
    """Make other writers of the pool wait until this transaction ends; return the pool's version.

    Raises
    ------
    PoolNotFound
        There is no such pool (any more).
    """
    statement = select(pools.c.version).where(_numbered(pool_id)).with_for_update()
    version = connection.scalar(statement)
    if version is None:
        raise PoolNotFound(f"no pool has the number {pool_id}")
    return int(version)


def set_version(connection: Connection, pool_id: int, version: int, now: datetime) -> None:
    """Publish a change of the pool's examples as ``version``, within the transaction that made it."""
    connection.execute(update(pools).where(_numbered(pool_id)).values(version=version, updated_at=now))


class PoolTable(Transactions):
    """Reads and writes pools."""

    def create_pool(self, name: str, settings: Mapping[str, Any]) -> Pool:
        """Create an empty pool.

        Raises
        ------
        PoolExists
            The name is taken.
        """
        require_text(name, "/name")
        now = self._clock()
        row = {"name": name, "settings": settings, "version": 0, "created_at": now, "updated_at": now}
        with self._write() as connection:
            insert = self._database.insert_if_absent(pools).values(row).returning(pools)
            created = connection.execute(insert).one_or_none()
        if created is None:
            raise PoolExists(f"a pool named {name!r} exists already")
        return _to_pool(created)

    def get_pool(self, name: str) -> Pool:
        """Return the pool of that name.

        Raises
        ------
        PoolNotFound
            No pool has that name.
        """
        with self._read() as connection:
            row = connection.execute(select(pools).where(_named(name))).one_or_none()
        return _found(row, name)

    def get_pool_by_id(self, pool_id: int) -> Pool:
        """Return the pool of that number; `PoolNotFound` if there is none."""
        with self._read() as connection:
            row = connection.execute(select(pools).where(_numbered(pool_id))).one_or_none()
        return _found(row, pool_id)

    def list_pools(self) -> list[Pool]:
        """Return every pool, by name."""
        with self._read() as connection:
            rows = connection.execute(select(pools).where(visible(pools)).order_by(pools.c.name))
            return [_to_pool(row) for row in rows]

    def update_pool_settings(self, name: str, settings: Mapping[str, Any]) -> Pool:
        """Replace the settings; the version stays. `PoolNotFound` if no pool has that name."""
        with self._write() as connection:
            statement = update(pools).where(_named(name)).values(settings=settings, updated_at=self._clock())
            return _found(connection.execute(statement.returning(pools)).one_or_none(), name)

    def set_pool_embedder(self, pool_id: int, fingerprint: str | None, dimension: int | None) -> Pool:
        """Record what computed the pool's vectors, or with None that it has none.

        `PoolNotFound` if there is no such pool.
        """
        values = {
            "embedder_fingerprint": fingerprint,
            "dimension": dimension,
            "updated_at": self._clock(),
        }
        with self._write() as connection:
            statement = update(pools).where(_numbered(pool_id)).values(values).returning(pools)
            return _found(connection.execute(statement).one_or_none(), pool_id)

    def change_features(
        self, pool_id: int, *, settings: Mapping[str, Any], fingerprint: str | None, dimension: int | None
    ) -> Pool:
        """Replace the settings together with what computed the vectors that go with them.

        `PoolNotFound` if there is no such pool.
        """
        values = {
            "settings": settings,
            "embedder_fingerprint": fingerprint,
            "dimension": dimension,
            "updated_at": self._clock(),
        }
        with self._write() as connection:
            statement = update(pools).where(_numbered(pool_id)).values(values).returning(pools)
            return _found(connection.execute(statement).one_or_none(), pool_id)

    def delete_pool(self, name: str) -> None:
        """Delete a pool with its examples, selections and feedback on these; its jobs stay, without a pool.

        The content is removed from disk as `delete_examples` does it.

        Raises
        ------
        PoolNotFound
            No pool has that name.
        """
        of_it = select(selections.c.id).join(pools, pools.c.id == selections.c.pool_id).where(_named(name))
        said = and_(feedback.c.target_kind == "selection", feedback.c.target_id.in_(of_it), visible(feedback))
        with self._write() as connection:
            connection.execute(delete(feedback).where(said))
            if not connection.execute(delete(pools).where(_named(name))).rowcount:
                raise PoolNotFound(f"no pool is named {name!r}")
        self._forget()


def _named(name: str) -> ColumnElement[bool]:
    return and_(pools.c.name == name, visible(pools))


def _numbered(pool_id: int) -> ColumnElement[bool]:
    return and_(pools.c.id == pool_id, visible(pools))


def _found(row: Row[Any] | None, sought: str | int) -> Pool:
    if row is None:
        raise PoolNotFound(f"no pool is named or numbered {sought!r}")
    return _to_pool(row)


def _to_pool(row: Row[Any]) -> Pool:
    return Pool(**row._mapping)  # noqa: SLF001  # SQLAlchemy's public accessor, underscored against column names
