"""Writing examples: every change is a new version, and only an erasure takes content away."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeAlias

from sqlalchemy import Connection, bindparam, insert, select, update

from kshot.errors import ExampleNotFound, FieldError, InvalidInput
from kshot.index.store.engine import Transactions
from kshot.index.store.example_reads import chunks, live_by_id
from kshot.index.store.example_rows import ERASED, Outcome, UpsertResult, to_row
from kshot.index.store.pools import lock_pool, set_version
from kshot.index.store.schema import counters, examples
from kshot.index.store.scope import in_pool
from kshot.records import Example, NewExample, canonical_json

KeepsFeatures: TypeAlias = Callable[[Example, NewExample], bool]
"""Tells whether a new version may use the vectors of the old one: same embedded text, same given vector.

Called with the writer's lock held, so it must be quick and must not write to the store.
"""

_FIELDS = tuple(field.name for field in fields(NewExample))
_PATCHABLE = frozenset(_FIELDS) - {"id"}

_c = examples.c
_SUPERSEDE = update(examples).where(_c.seq == bindparam("old_seq")).values(removed_in=bindparam("version"))


class ExampleWriter(Transactions):
    """Writes examples. Each call is one transaction and at most one new version of the pool."""

    def upsert_examples(
        self,
        pool_id: int,
        batch: Sequence[NewExample],
        *,
        keeps_features: KeepsFeatures,
        keep_existing: bool = False,
    ) -> UpsertResult:
        """Store a batch: new ids are created, changed ones get a new version, identical ones are left alone.

        Parameters
        ----------
        pool_id : int
            The pool's number.
        batch : sequence of NewExample
            Every id at most once.
        keeps_features : callable
            Asked for each example that changes.
        keep_existing : bool
            Leave examples as they are whose ids are live already.

        Returns
        -------
        UpsertResult
            The pool's version and one outcome and seq per example. The version has grown by one if any
            example was created or updated.

        Raises
        ------
        InvalidInput
            An id occurs twice, or a value cannot be stored; nothing was written.
        PoolNotFound
            There is no such pool.
        """
        _require_distinct(batch)
        # Hashing needs no lock, so it is done before taking one.
        rows = [to_row(example, pool_id) for example in batch]
        with self._write() as connection:
            version = lock_pool(connection, pool_id)
            id_to_old = live_by_id(connection, pool_id, [example.id for example in batch])
            changed = [
                (example, row, id_to_old.get(example.id))
                for example, row in zip(batch, rows, strict=True)
                if not (keep_existing and example.id in id_to_old)
                and not _is_stored(example, id_to_old.get(example.id))
            ]
            id_to_seq = {example_id: old.seq for example_id, old in id_to_old.items()}
            if changed:
                version += 1
                id_to_seq |= self._add_versions(connection, pool_id, version, changed, keeps_features)
        is_changed = {example.id for example, _, _ in changed}
        outcomes: list[Outcome] = [
            "unchanged"
            if example.id not in is_changed
            else "updated"
            if example.id in id_to_old
            else "created"
            for example in batch
        ]
        return UpsertResult(version, outcomes, [id_to_seq[example.id] for example in batch])

    def patch_example(
        self, pool_id: int, example_id: str, changes: Mapping[str, Any], *, keeps_features: KeepsFeatures
    ) -> Example:
        """Replace fields of an example and return the version that is live afterwards.

        Parameters
        ----------
        pool_id : int
            The pool's number.
        example_id : str
            The example's id, which itself cannot change.
        changes : mapping
            Field names of `NewExample` with whole new values; equal values change nothing.
        keeps_features : callable
            Asked if anything changes.

        Raises
        ------
        ExampleNotFound
            No such example is live.
        InvalidInput
            A field is unknown, or a value cannot be stored.
        PoolNotFound
            There is no such pool.
        """
        if unknown := changes.keys() - _PATCHABLE:
            raise InvalidInput(f"cannot change {sorted(unknown)}, allowed are {sorted(_PATCHABLE)}")
        with self._write() as connection:
            version = lock_pool(connection, pool_id)
            old = live_by_id(connection, pool_id, [example_id]).get(example_id)
            if old is None:
                raise ExampleNotFound(f"the pool holds no example with id {example_id!r}")
            new = replace(NewExample(**{name: getattr(old, name) for name in _FIELDS}), **changes)
            if _is_stored(new, old):
                return old
            changed = [(new, to_row(new, pool_id), old)]
            self._add_versions(connection, pool_id, version + 1, changed, keeps_features)
            return live_by_id(connection, pool_id, [example_id])[example_id]

    def revise_examples(
        self,
        pool_id: int,
        ids: Sequence[str],
        revise: Callable[[Mapping[str, Example]], Sequence[NewExample]],
        *,
        keeps_features: KeepsFeatures,
    ) -> int:
        """Read examples and write what becomes of them, with no other write in between.

        Parameters
        ----------
        pool_id : int
            The pool's number.
        ids : sequence of str
            Examples to read.
        revise : callable
            Gets those of the ids that are live, and returns new versions of some of them, each id at most
            once; versions that are identical to the stored ones are left alone. Called with the writer's lock
            held, as ``keeps_features`` is.
        keeps_features : callable
            Asked for each example that changes.

        Returns
        -------
        int
            The pool's version, grown by one if anything changed.

        Raises
        ------
        InvalidInput
            A value cannot be stored, or ``revise`` returned an id twice; nothing was written.
        PoolNotFound
            There is no such pool.
        """
        with self._write() as connection:
            version = lock_pool(connection, pool_id)
            id_to_old = live_by_id(connection, pool_id, ids)
            revised = revise(id_to_old)
            _require_distinct(revised)
            changed: list[tuple[NewExample, dict[str, Any], Example | None]] = [
                (example, to_row(example, pool_id), id_to_old[example.id])
                for example in revised
                if not _is_stored(example, id_to_old[example.id])
            ]
            if changed:
                version += 1
                self._add_versions(connection, pool_id, version, changed, keeps_features)
        return version

    def delete_examples(
        self, pool_id: int, *, ids: Sequence[str] | None = None, subject_id: str | None = None
    ) -> list[str]:
        """Erase examples: none is live any more, and the content of all their versions is overwritten.

        A tombstone of id, seq and versions stays for the change log. On SQLite the bytes are gone from the
        files when this returns, unless a reader is in the middle of a statement; PostgreSQL's vacuum removes
        them later.

        Parameters
        ----------
        pool_id : int
            The pool's number.
        ids : sequence of str
            Examples to erase; unknown ones are passed over.
        subject_id : str
            Erase the examples of this subject instead, and the superseded versions that named it.

        Returns
        -------
        list of str
            Ids of the examples that were live, in ``seq`` order. The pool's version has grown by one if there
            are any.

        Raises
        ------
        InvalidInput
            Neither or both of ``ids`` and ``subject_id`` were given.
        PoolNotFound
            There is no such pool.
        """
        if (ids is None) == (subject_id is None):
            raise InvalidInput("wanted either ids or subject_id")
        with self._write() as connection:
            version = lock_pool(connection, pool_id)
            if ids is None:
                ids = _ids_of_subject(connection, pool_id, subject_id)
            seq_to_id: dict[int, str] = {}
            for some in chunks(ids):
                seq_to_id |= self._erase(connection, pool_id, version + 1, some)
            if subject_id is not None:
                past = in_pool(examples, pool_id), _c.subject_id == subject_id, _c.removed_in.is_not(None)
                connection.execute(update(examples).where(*past).values(ERASED))
            if seq_to_id:
                set_version(connection, pool_id, version + 1, self._clock())
        self._forget()
        return [seq_to_id[seq] for seq in sorted(seq_to_id)]

    def _add_versions(
        self,
        connection: Connection,
        pool_id: int,
        version: int,
        changed: Sequence[tuple[NewExample, dict[str, Any], Example | None]],
        keeps_features: KeepsFeatures,
    ) -> dict[str, int]:
        """Insert the rows as ``version``, mark their predecessors removed, and return id to seq."""
        now = self._clock()
        first = _take_seqs(connection, len(changed))
        for seq, (new, row, old) in enumerate(changed, start=first):
            row["seq"] = row["feature_seq"] = seq
            row["added_in"] = version
            row["created_at"] = row["updated_at"] = now
            if old is not None:
                row["created_at"] = old.created_at
                if keeps_features(old, new):
                    row["feature_seq"] = old.feature_seq
        superseded = [{"old_seq": old.seq, "version": version} for _, _, old in changed if old is not None]
        if superseded:
            connection.execute(_SUPERSEDE, superseded)
        connection.execute(insert(examples), [row for _, row, _ in changed])
        set_version(connection, pool_id, version, now)
        return {new.id: row["seq"] for new, row, _ in changed}

    def _erase(
        self, connection: Connection, pool_id: int, version: int, ids: Sequence[str]
    ) -> dict[int, str]:
        """Overwrite every version of the ids; return seq to id of those that were live."""
        of_ids = in_pool(examples, pool_id), _c.id.in_(ids)
        # Two statements, since each of the two indexes over ids covers one of them.
        connection.execute(update(examples).where(*of_ids, _c.removed_in.is_not(None)).values(ERASED))
        removed = connection.execute(
            update(examples)
            .where(*of_ids, _c.removed_in.is_(None))
            .values(ERASED | {"removed_in": version, "updated_at": self._clock()})
            .returning(_c.seq, _c.id)
        )
        return {row.seq: row.id for row in removed}


def _require_distinct(batch: Sequence[NewExample]) -> None:
    seen: set[str] = set()
    for index, example in enumerate(batch):
        if example.id in seen:
            error = FieldError(f"/examples/{index}/id", "occurs twice in the batch", "duplicate_id")
            raise InvalidInput(f"id {example.id!r} occurs twice in the batch", errors=[error])
        seen.add(example.id)


def _is_stored(new: NewExample, old: Example | None) -> bool:
    # Numbers of different type compare equal in Python (1 == True) and are different JSON: compare the JSON.
    return old is not None and all(
        (
            new.status == old.status,
            new.split == old.split,
            new.subject_id == old.subject_id,
            new.group == old.group,
            new.vector == old.vector,
            canonical_json([new.inputs, new.outputs, new.metadata])
            == canonical_json([old.inputs, old.outputs, old.metadata]),
        )
    )


def _take_seqs(connection: Connection, n: int) -> int:
    """Reserve ``n`` numbers that no example ever had, and return the first."""
    statement = (
        update(counters)
        .where(counters.c.name == "examples.seq")
        .values(value=counters.c.value + n)
        .returning(counters.c.value)
    )
    return int(connection.execute(statement).scalar_one()) - n + 1


def _ids_of_subject(connection: Connection, pool_id: int, subject_id: str | None) -> Sequence[str]:
    statement = select(_c.id).where(
        in_pool(examples, pool_id), _c.subject_id == subject_id, _c.removed_in.is_(None)
    )
    return connection.scalars(statement).all()
