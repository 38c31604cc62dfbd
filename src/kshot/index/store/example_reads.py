"""Reading examples: one, a few by seq, pages, whole pools, and what changed since a version."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, bindparam, func, or_, select

from kshot.errors import ExampleNotFound, InvalidInput, PoolNotFound
from kshot.index.store.engine import Transactions
from kshot.index.store.example_rows import (
    EXAMPLE_COLUMNS,
    HEADER_COLUMNS,
    ExampleHeader,
    PoolChanges,
    to_example,
    to_header,
)
from kshot.index.store.schema import examples, pools
from kshot.index.store.scope import checked_in_pool, in_pool, visible
from kshot.records import Example, Status

IN_LIST = 500
"""Values per ``IN (...)``: far below every database's limit, and more are no faster."""

_c = examples.c
_POOL = bindparam("pool_id", type_=_c.pool_id.type)
_IS_LIVE = _c.removed_in.is_(None)
# An erased version keeps its row, so that its seq and its place in the change log remain.
_HAS_CONTENT = _c.content_hash.is_not(None)

# Built once: composing a statement costs more than running it.
_BY_SEQ = select(*EXAMPLE_COLUMNS).where(
    checked_in_pool(examples, _POOL), _c.seq.in_(bindparam("seqs", expanding=True))
)
_LIVE_BY_ID = select(*EXAMPLE_COLUMNS).where(
    in_pool(examples, _POOL), _c.id.in_(bindparam("ids", expanding=True)), _IS_LIVE
)
_LIVE_BY_INPUT = (
    select(_c.input_hash, func.min(_c.id), func.max(_c.id))
    .where(in_pool(examples, _POOL), _c.input_hash.in_(bindparam("hashes", expanding=True)), _IS_LIVE)
    .group_by(_c.input_hash)
)


def chunks(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Cut a sequence into pieces that fit one ``IN (...)``."""
    return (values[start : start + IN_LIST] for start in range(0, len(values), IN_LIST))


def live_by_id(connection: Connection, pool_id: int, ids: Sequence[str]) -> dict[str, Example]:
    """Return those of the ids that are live."""
    id_to_example = {}
    for some in chunks(ids):
        for row in connection.execute(_LIVE_BY_ID, {"pool_id": pool_id, "ids": some}):
            id_to_example[row[0]] = to_example(row)
    return id_to_example


class ExampleReader(Transactions):
    """Reads examples. Erased versions are never returned."""

    def get_example(self, pool_id: int, example_id: str) -> Example:
        """Return the live version of an example; `ExampleNotFound` if there is none."""
        with self._read() as connection:
            found = live_by_id(connection, pool_id, [example_id])
        if not found:
            raise ExampleNotFound(f"the pool holds no example with id {example_id!r}")
        return found[example_id]

    def get_examples_by_id(self, pool_id: int, ids: Sequence[str]) -> dict[str, Example]:
        """Return the live versions of those of the ids that have one."""
        with self._read() as connection:
            return live_by_id(connection, pool_id, ids)

    def get_examples_by_seq(self, pool_id: int, seqs: Sequence[int]) -> list[Example]:
        """Return versions of examples, live or superseded, in the order of ``seqs``.

        Seqs that were erased or never existed are left out, so that a reader of an older snapshot meets a
        shorter list and not an exception. About 0.3 ms for 8 rows on SQLite.
        """
        seq_to_example = {}
        with self._read() as connection:
            for some in chunks(seqs):
                for row in connection.execute(_BY_SEQ, {"pool_id": pool_id, "seqs": some}).all():
                    if row.inputs is not None:
                        seq_to_example[row.seq] = to_example(row)
        return [seq_to_example[seq] for seq in seqs if seq in seq_to_example]

    def ids_of_equal_inputs(self, pool_id: int, input_hashes: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Map each of the input hashes that live examples have to two of their ids.

        The two are the first and the last in the database's text order, and the same if there is one example.
        """
        hash_to_ids: dict[str, tuple[str, str]] = {}
        with self._read() as connection:
            for some in chunks(list(dict.fromkeys(input_hashes))):
                for found, first, last in connection.execute(
                    _LIVE_BY_INPUT, {"pool_id": pool_id, "hashes": some}
                ):
                    hash_to_ids[found] = first, last
        return hash_to_ids

    def list_examples(
        self,
        pool_id: int,
        *,
        after_seq: int = 0,
        limit: int = 100,
        ids: Sequence[str] | None = None,
        status: Status | None = None,
        split: str | None = None,
        subject_id: str | None = None,
        group: str | None = None,
    ) -> list[Example]:
        """Return a page of live examples in ``seq`` order; the next page starts after its last seq.

        An example that is updated between two pages moves to the end; none is missed.

        Parameters
        ----------
        after_seq : int
            Only examples with a greater seq.
        limit : int
            Examples wanted, at least 1.
        ids, status, split, subject_id, group
            Only examples with that value; at most 500 ids.

        Raises
        ------
        InvalidInput
            ``limit`` is below 1, or there are more than 500 ids.
        """
        if limit < 1:
            raise InvalidInput(f"limit is {limit}, wanted at least 1")
        # Rows looked up by id are sorted afterwards; the bare column makes SQLite walk the pool in order.
        seq = _c.seq if ids is None else _c.seq + 0
        statement = select(*EXAMPLE_COLUMNS).where(in_pool(examples, pool_id), _IS_LIVE, seq > after_seq)
        if ids is not None:
            if len(ids) > IN_LIST:
                raise InvalidInput(f"{len(ids)} ids asked for, wanted at most {IN_LIST}")
            statement = statement.where(_c.id.in_(ids))
        for column, value in (
            (_c.status, status),
            (_c.split, split),
            (_c.subject_id, subject_id),
            (_c.group, group),
        ):
            if value is not None:
                statement = statement.where(column == value)
        with self._read() as connection:
            return [to_example(row) for row in connection.execute(statement.order_by(seq).limit(limit))]

    def count_live(self, pool_id: int) -> int:
        """Count the live examples of a pool; 0 if there is no such pool."""
        with self._read() as connection:
            statement = select(func.count()).select_from(examples).where(in_pool(examples, pool_id), _IS_LIVE)
            return connection.scalar(statement) or 0

    def iterate_live(
        self, pool_id: int, *, at_version: int | None = None, batch_size: int = 1000
    ) -> Iterator[Example]:
        """Yield the examples that were live at a version (now, by default), in ``feature_seq`` order.

        No transaction stays open between batches, so the caller may take its time. Updates meanwhile do not
        show; an example that is erased meanwhile is left out.

        Raises
        ------
        PoolNotFound
            There is no such pool.
        """
        for row in self._iterate(select(*EXAMPLE_COLUMNS), pool_id, at_version, batch_size):
            yield to_example(row)

    def iterate_headers(
        self, pool_id: int, *, at_version: int | None = None, batch_size: int = 2000
    ) -> Iterator[ExampleHeader]:
        """Yield headers as `iterate_live` yields examples."""
        for row in self._iterate(select(*HEADER_COLUMNS), pool_id, at_version, batch_size):
            yield to_header(row)

    def read_changes(self, pool_id: int, after_version: int) -> PoolChanges:
        """Return what became live and what ceased to be since ``after_version``, read in one transaction.

        Applied to a snapshot of ``after_version`` it gives the snapshot of ``changes.version``. ``removed``
        may name a seq that the snapshot lacks because it was erased while the snapshot was loaded.

        Raises
        ------
        PoolNotFound
            There is no such pool.
        """
        was_added = in_pool(examples, pool_id), _c.added_in > after_version, _IS_LIVE
        was_removed = in_pool(examples, pool_id), _c.removed_in > after_version
        with self._snapshot() as connection:
            version = _version(connection, pool_id)
            removed = connection.execute(select(_c.seq, _c.added_in).where(*was_removed).order_by(_c.seq))
            # Compared here and not in the statement, where SQLite would take it for the better index.
            seqs = [seq for seq, added_in in removed if added_in <= after_version]
            added = connection.execute(select(*HEADER_COLUMNS).where(*was_added).order_by(_c.feature_seq))
            return PoolChanges(version, seqs, [to_header(row) for row in added])

    def _iterate(
        self, columns: Select[Any], pool_id: int, at_version: int | None, batch_size: int
    ) -> Iterator[Row[Any]]:
        last = 0
        with self._read() as connection:
            version = _version(connection, pool_id) if at_version is None else at_version
        # Of the versions that share a feature_seq at most one is live at a time, so it marks the place.
        page = columns.where(
            in_pool(examples, pool_id), _live_at(version), _c.feature_seq > bindparam("last")
        )
        page = page.order_by(_c.feature_seq).limit(batch_size)
        while True:
            with self._read() as connection:
                rows = connection.execute(page, {"last": last}).all()
            yield from rows
            if len(rows) < batch_size:
                return
            last = rows[-1].feature_seq


def _version(connection: Connection, pool_id: int) -> int:
    version = connection.scalar(select(pools.c.version).where(pools.c.id == pool_id, visible(pools)))
    if version is None:
        raise PoolNotFound(f"no pool has the number {pool_id}")
    return int(version)


def _live_at(version: int) -> ColumnElement[bool]:
    return and_(_c.added_in <= version, or_(_IS_LIVE, _c.removed_in > version), _HAS_CONTENT)
