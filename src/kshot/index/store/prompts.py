"""Prompts: versions that never change, and labels that move between them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, delete, func, insert, select, update

from kshot.errors import PromptExists, PromptNotFound
from kshot.index.store.engine import Transactions
from kshot.index.store.learning_schema import prompt_labels, prompt_versions, prompts
from kshot.index.store.scope import visible

_v = prompt_versions.c
_l = prompt_labels.c


class StoredVersion(NamedTuple):
    """One version of a prompt."""

    name: str
    version: int
    content: Mapping[str, Any]
    metadata: Mapping[str, Any]
    labels: tuple[str, ...]
    created_at: datetime


class StoredPrompt(NamedTuple):
    """A prompt without its texts."""

    name: str
    latest_version: int
    labels: Mapping[str, int]
    created_at: datetime


class PromptTable(Transactions):
    """Reads and writes prompts."""

    def create_prompt(
        self,
        name: str,
        content: Mapping[str, Any],
        content_hash: str,
        *,
        metadata: Mapping[str, Any],
        labels: Sequence[str],
    ) -> StoredVersion:
        """Create a prompt with its version 1; `PromptExists` if the name is taken."""
        now = self._clock()
        with self._write() as connection:
            statement = self._database.insert_if_absent(prompts).returning(prompts.c.id)
            prompt_id = connection.execute(statement, {"name": name, "created_at": now}).scalar()
            if prompt_id is None:
                raise PromptExists(f"a prompt named {name!r} exists already; add a version to it")
            row = {"content": content, "metadata": metadata, "content_hash": content_hash, "created_at": now}
            connection.execute(insert(prompt_versions), {"prompt_id": prompt_id, "version": 1, **row})
            _move(connection, prompt_id, labels, 1, now)
            return _version(connection, prompt_id, name, 1)

    def add_prompt_version(
        self,
        name: str,
        content: Mapping[str, Any],
        content_hash: str,
        *,
        metadata: Mapping[str, Any],
        labels: Sequence[str],
    ) -> tuple[StoredVersion, bool]:
        """Add a version and return it, and whether it is new.

        The newest version is returned, with the labels moved to it, if its content is the same.
        """
        now = self._clock()
        with self._write() as connection:
            prompt_id = _prompt_id(connection, name, lock=True)
            newest = connection.execute(
                select(_v.version, _v.content_hash)
                .where(_v.prompt_id == prompt_id, visible(prompt_versions))
                .order_by(_v.version.desc())
                .limit(1)
            ).one()
            is_new = newest.content_hash != content_hash
            version = newest.version + is_new
            if is_new:
                row = {"content": content, "metadata": metadata, "content_hash": content_hash}
                connection.execute(
                    insert(prompt_versions),
                    {"prompt_id": prompt_id, "version": version, "created_at": now, **row},
                )
            _move(connection, prompt_id, labels, version, now)
            return _version(connection, prompt_id, name, version), is_new

    def get_prompt(self, name: str) -> StoredPrompt:
        """Return a prompt's labels and how many versions it has; `PromptNotFound` if there is none."""
        with self._snapshot() as connection:
            prompt_id = _prompt_id(connection, name)
            return _prompt(connection, prompt_id, name)

    def list_prompts(self, *, after: str | None = None, limit: int = 100) -> list[StoredPrompt]:
        """Return a page of prompts by name."""
        statement = select(prompts.c.id, prompts.c.name).where(visible(prompts)).order_by(prompts.c.name)
        if after is not None:
            statement = statement.where(prompts.c.name > after)
        with self._snapshot() as connection:
            rows = connection.execute(statement.limit(limit)).all()
            return [_prompt(connection, row.id, row.name) for row in rows]

    def get_prompt_version(
        self, name: str, *, version: int | None = None, label: str | None = None
    ) -> StoredVersion:
        """Return a version by its number, or the one that a label stands at, or the newest.

        Raises
        ------
        PromptNotFound
            There is no such prompt, version or label; the message says which exist.
        """
        with self._snapshot() as connection:
            prompt_id = _prompt_id(connection, name)
            found = _prompt(connection, prompt_id, name)
            if label is not None:
                if label not in found.labels:
                    present = ", ".join(sorted(found.labels)) or "none"
                    raise PromptNotFound(f"prompt {name!r} has no label {label!r}; its labels: {present}")
                version = found.labels[label]
            version = found.latest_version if version is None else version
            if not 1 <= version <= found.latest_version:
                raise PromptNotFound(
                    f"prompt {name!r} has no version {version}; it has 1 to {found.latest_version}"
                )
            return _version(connection, prompt_id, name, version)

    def list_prompt_versions(
        self, name: str, *, before: int | None = None, limit: int = 100
    ) -> list[StoredVersion]:
        """Return a page of versions, the newest first."""
        with self._snapshot() as connection:
            prompt_id = _prompt_id(connection, name)
            where = and_(_v.prompt_id == prompt_id, visible(prompt_versions))
            if before is not None:
                where = and_(where, _v.version < before)
            statement = select(_v.version).where(where).order_by(_v.version.desc()).limit(limit)
            return [
                _version(connection, prompt_id, name, number)
                for number in connection.scalars(statement).all()
            ]

    def move_prompt_label(self, name: str, label: str, version: int) -> StoredVersion:
        """Let a label stand at a version; `PromptNotFound` if there is no such prompt or version."""
        with self._write() as connection:
            prompt_id = _prompt_id(connection, name, lock=True)
            latest = _prompt(connection, prompt_id, name).latest_version
            if not 1 <= version <= latest:
                raise PromptNotFound(f"prompt {name!r} has no version {version}; it has 1 to {latest}")
            _move(connection, prompt_id, [label], version, self._clock())
            return _version(connection, prompt_id, name, version)

    def remove_prompt_label(self, name: str, label: str) -> None:
        """Take a label away; `PromptNotFound` if it is not set."""
        with self._write() as connection:
            prompt_id = _prompt_id(connection, name, lock=True)
            where = and_(_l.prompt_id == prompt_id, _l.label == label, visible(prompt_labels))
            if not connection.execute(delete(prompt_labels).where(where)).rowcount:
                raise PromptNotFound(f"prompt {name!r} has no label {label!r}")

    def delete_prompt(self, name: str) -> None:
        """Remove a prompt with its versions; `PromptNotFound` if there is none."""
        with self._write() as connection:
            where = and_(prompts.c.name == name, visible(prompts))
            if not connection.execute(delete(prompts).where(where)).rowcount:
                raise PromptNotFound(f"no prompt is named {name!r}")


def _prompt_id(connection: Connection, name: str, *, lock: bool = False) -> int:
    statement = select(prompts.c.id).where(prompts.c.name == name, visible(prompts))
    found = connection.scalar(statement.with_for_update() if lock else statement)
    if found is None:
        raise PromptNotFound(f"no prompt is named {name!r}")
    return int(found)


def _prompt(connection: Connection, prompt_id: int, name: str) -> StoredPrompt:
    is_it = and_(prompts.c.id == prompt_id, visible(prompts))
    created_at = connection.execute(select(prompts.c.created_at).where(is_it)).scalar_one()
    of_it = and_(_v.prompt_id == prompt_id, visible(prompt_versions))
    latest = connection.execute(select(func.max(_v.version)).where(of_it)).scalar_one()
    labels = select(_l.label, _l.version).where(_l.prompt_id == prompt_id, visible(prompt_labels))
    label_to_version = {row.label: row.version for row in connection.execute(labels.order_by(_l.label))}
    return StoredPrompt(name, latest, label_to_version, created_at)


def _version(connection: Connection, prompt_id: int, name: str, version: int) -> StoredVersion:
    where = and_(_v.prompt_id == prompt_id, _v.version == version, visible(prompt_versions))
    row = connection.execute(select(_v.content, _v.metadata, _v.created_at).where(where)).one()
    labels = select(_l.label).where(_l.prompt_id == prompt_id, _l.version == version, visible(prompt_labels))
    return StoredVersion(
        name=name,
        version=version,
        content=row.content,
        metadata=row.metadata,
        labels=tuple(connection.scalars(labels.order_by(_l.label))),
        created_at=row.created_at,
    )


def _move(connection: Connection, prompt_id: int, labels: Sequence[str], version: int, now: datetime) -> None:
    for label in labels:
        where = and_(_l.prompt_id == prompt_id, _l.label == label, visible(prompt_labels))
        values = {"version": version, "updated_at": now}
        if not connection.execute(update(prompt_labels).where(where).values(values)).rowcount:
            connection.execute(insert(prompt_labels), {"prompt_id": prompt_id, "label": label, **values})
