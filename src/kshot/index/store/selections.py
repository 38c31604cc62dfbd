"""Selections: what was shown, kept until its retention ends."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import and_, delete, select

from kshot.errors import SelectionNotFound
from kshot.index.store.engine import Transactions
from kshot.index.store.schema import pools, selections
from kshot.index.store.scope import visible
from kshot.records import Selection

_COLUMNS = tuple(selections.c)
_FIELDS = tuple(column.name for column in _COLUMNS)


class SelectionTable(Transactions):
    """Reads and writes selections."""

    def add_selections(self, batch: Sequence[Selection]) -> int:
        """Store selections in one transaction and return how many of the batch are new.

        Those that are stored already are left as they are, so a batch may be written again after a failure.
        Those of a pool that was deleted meanwhile are dropped, as the deletion would have done.
        """
        if not batch:
            return 0
        rows = [{name: getattr(selection, name) for name in _FIELDS} for selection in batch]
        with self._write() as connection:
            pool_ids = {selection.pool_id for selection in batch}
            # Shared with other readers of the pool, but held against its deletion until the commit.
            statement = select(pools.c.id).where(pools.c.id.in_(pool_ids), visible(pools))
            present = set(connection.scalars(statement.with_for_update(read=True, key_share=True)))
            rows = [row for row in rows if row["pool_id"] in present]
            if not rows:
                return 0
            insert = self._database.insert_if_absent(selections).returning(selections.c.id)
            return len(connection.execute(insert, rows).all())

    def get_selection(self, selection_id: str) -> Selection:
        """Return a stored selection; `SelectionNotFound` if there is none of that id."""
        statement = select(*_COLUMNS).where(selections.c.id == selection_id, visible(selections))
        with self._read() as connection:
            row = connection.execute(statement).one_or_none()
        if row is None:
            raise SelectionNotFound(f"no selection has the id {selection_id!r}, or its retention has ended")
        return Selection(**row._mapping)  # noqa: SLF001  # SQLAlchemy's public accessor

    def purge_selections(self, before: datetime, *, pool_id: int | None = None) -> int:
        """Delete the selections (of one pool) made before a time, and return how many there were."""
        too_old = and_(selections.c.created_at < before, visible(selections))
        if pool_id is not None:
            too_old = and_(too_old, selections.c.pool_id == pool_id)
        with self._write() as connection:
            return connection.execute(delete(selections).where(too_old)).rowcount
