"""Bring a database to the schema that this code knows, or say why that cannot be."""

from sqlalchemy import Connection, column, inspect, select, table

from kshot.errors import StoreCorrupt
from kshot.index.store.dialects import Database
from kshot.index.store.schema import HEAD, VERSION_TABLE


def upgrade(connection: Connection, database: Database) -> None:
    """Create or upgrade the schema in one transaction; nothing happens if it is current.

    Raises
    ------
    StoreCorrupt
        The database holds something else, or a schema that a newer kshot wrote.
    """
    if _revision(connection) == HEAD:
        return
    connection.rollback()
    database.begin_migration(connection)
    # Another process may have upgraded while this one waited.
    revision = _revision(connection)
    if revision != HEAD:
        _run_migrations(connection, revision)
    connection.commit()


def _revision(connection: Connection) -> str | None:
    """Return the schema revision, or None for an empty database."""
    names = inspect(connection).get_table_names()
    if VERSION_TABLE not in names:
        if names:
            raise StoreCorrupt(f"the database is no kshot store: it holds other tables ({names[0]}, ...)")
        return None
    revision = connection.scalar(select(column("version_num")).select_from(table(VERSION_TABLE)))
    return None if revision is None else str(revision)


def _run_migrations(connection: Connection, revision: str | None) -> None:
    # A store that is up to date, the usual case, does not pay for this import.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "kshot.index.store:migrations")
    known = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    if revision is not None and revision not in known:
        raise StoreCorrupt(
            f"the database has schema revision {revision!r}, this kshot knows up to {HEAD!r}: "
            "it was written by a newer kshot; upgrade kshot"
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
