"""Selections: what was shown, kept until its retention ends."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Text, and_, cast, delete, exists, func, or_, select

from kshot.errors import InvalidInput, SelectionNotFound
from kshot.index.store.batches import batches
from kshot.index.store.encoding import decode_json
from kshot.index.store.engine import Transactions
from kshot.index.store.learning_schema import feedback
from kshot.index.store.schema import pools, selections
from kshot.index.store.scope import in_pool, visible
from kshot.records import CoverageGap, Selection

_COLUMNS = tuple(selections.c)
_FIELDS = tuple(column.name for column in _COLUMNS)
# PostgreSQL compares no JSON. The text is what was written, so queries merge whose fields stand in one order.
_QUERY = cast(selections.c.query, Text)


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

    def find_selections(self, pool_id: int, selection_ids: Sequence[str]) -> list[Selection]:
        """Return those of some selections that the pool still has, by id."""
        found = []
        with self._read() as connection:
            for some in batches(selection_ids):
                where = and_(in_pool(selections, pool_id), selections.c.id.in_(some))
                rows = connection.execute(select(*_COLUMNS).where(where))
                found += [Selection(**row._mapping) for row in rows]  # noqa: SLF001  # SQLAlchemy's public accessor
        return sorted(found, key=lambda one: one.id)

    def purge_selections(self, before: datetime, *, pool_id: int | None = None) -> int:
        """Delete the selections (of one pool) made before a time, and return how many there were.

        Feedback from before that time goes as well where no selection is known that it is about.
        """
        too_old = and_(selections.c.created_at < before, visible(selections))
        if pool_id is not None:
            too_old = and_(too_old, selections.c.pool_id == pool_id)
        known = exists().where(selections.c.id == feedback.c.target_id, visible(selections))
        said = and_(feedback.c.target_kind == "selection", feedback.c.received_at < before, visible(feedback))
        with self._write() as connection:
            deleted = connection.execute(delete(selections).where(too_old)).rowcount
            connection.execute(delete(feedback).where(said, ~known))
        return deleted

    def count_selections(self, pool_id: int, *, since: datetime, below: float | None = None) -> int:
        """Count the selections of a pool made at or after a time, or those of them that are gaps.

        Parameters
        ----------
        pool_id : int
        since : datetime
        below : float, optional
            Count only those whose best similarity is known and lower than this.

        Notes
        -----
        O(selections counted), from an index alone: 200,000 take 70 ms on SQLite.
        """
        with self._read() as connection:
            statement = select(func.count()).select_from(selections)
            return connection.scalar(statement.where(_made(pool_id, since, below))) or 0

    def list_gaps(
        self,
        pool_id: int,
        *,
        below: float,
        since: datetime,
        after: tuple[float, str] | None = None,
        limit: int = 100,
    ) -> list[CoverageGap]:
        """Return a page of the queries whose best similarity was low, the lowest first.

        Equal queries are one gap. A selection without its query is a gap of its own.

        Parameters
        ----------
        pool_id : int
        below : float
            A selection is part of a gap if its best similarity is known and lower than this.
        since : datetime
            Only selections made at or after this time.
        after : (float, str), optional
            ``best_similarity`` and ``selection_id`` of the last gap of the page before.
        limit : int
            Gaps wanted, at least 1.

        Raises
        ------
        InvalidInput
            ``limit`` is below 1.
        """
        if limit < 1:
            raise InvalidInput(f"limit is {limit}, wanted at least 1")
        worst, first = func.min(selections.c.best_similarity), func.min(selections.c.id)
        made_at = selections.c.created_at
        statement = (
            select(func.min(_QUERY), func.count(), worst, func.min(made_at), func.max(made_at), first)
            .where(_made(pool_id, since, below))
            # No id is JSON text.
            .group_by(func.coalesce(_QUERY, selections.c.id))
            .order_by(worst, first)
            .limit(limit)
        )
        if after is not None:
            similarity, selection_id = after
            statement = statement.having(
                or_(worst > similarity, and_(worst == similarity, first > selection_id))
            )
        with self._read() as connection:
            return [
                CoverageGap(
                    query=None if query is None else decode_json(query),
                    count=count,
                    best_similarity=similarity,
                    first_at=first_at,
                    last_at=last_at,
                    selection_id=selection_id,
                )
                for query, count, similarity, first_at, last_at, selection_id in connection.execute(statement)
            ]


def _made(pool_id: int, since: datetime, below: float | None) -> ColumnElement[bool]:
    made = and_(in_pool(selections, pool_id), selections.c.created_at >= since)
    return made if below is None else and_(made, selections.c.best_similarity < below)
