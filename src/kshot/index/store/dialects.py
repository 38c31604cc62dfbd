"""What SQLite and PostgreSQL do differently: the only module that knows which database it talks to."""

import importlib.util
import sqlite3
from typing import Any, ClassVar, Protocol

from sqlalchemy import URL, Connection, Engine, Insert, Table, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError

from kshot.errors import InvalidInput, MissingDependency

_BUSY_TIMEOUT_MS = 10_000


class Database(Protocol):
    """A kind of database. Methods that take a connection expect it outside a transaction."""

    has_single_owner: ClassVar[bool]
    """True if one process at a time uses the database, so that what another left running is dead."""

    def engine_options(self) -> dict[str, Any]:
        """Return further arguments for ``create_engine``."""

    def prepare(self, engine: Engine) -> None:
        """Arrange what every new connection needs."""

    def begin_write(self, connection: Connection) -> None:
        """Start a transaction that will write."""

    def begin_append(self, connection: Connection) -> None:
        """Start a transaction that appends to a log: later numbers are never seen before earlier ones."""

    def begin_snapshot(self, connection: Connection) -> None:
        """Start a transaction whose statements all see one state."""

    def begin_migration(self, connection: Connection) -> None:
        """Start a transaction that other processes' migrations wait for."""

    def insert_if_absent(self, table: Table) -> Insert:
        """Return an insert that leaves rows alone whose key or unique columns exist."""

    def forget(self, connection: Connection) -> None:
        """Remove from disk what was overwritten or deleted, as far as the database can do so at once."""

    def is_corrupt(self, error: BaseException) -> bool:
        """Tell whether the driver says that the data cannot be read."""

    def is_unavailable(self, error: BaseException) -> bool:
        """Tell whether the driver gave up for a reason that may pass."""


class Sqlite:
    """A file in WAL mode. Transactions are begun by hand; a lone statement needs none."""

    has_single_owner: ClassVar[bool] = True

    def engine_options(self) -> dict[str, Any]:
        """Wait for another process' lock rather than fail at once."""
        return {"connect_args": {"timeout": _BUSY_TIMEOUT_MS / 1000}}

    def prepare(self, engine: Engine) -> None:
        """Set the pragmas: durable commits, foreign keys, and zeros over whatever is deleted."""

        def connected(connection: sqlite3.Connection, record: object) -> None:  # noqa: ARG001  # event signature
            # sqlite3 would otherwise begin transactions itself, and late: two writers could both read first.
            connection.isolation_level = None
            for pragma in (
                "journal_mode = WAL",
                "synchronous = FULL",
                "foreign_keys = ON",
                "secure_delete = ON",
                "cache_size = -16384",
                "journal_size_limit = 67108864",
                # Pages collected before they move to the main file; a batch of rows alone dirties 1000.
                "wal_autocheckpoint = 8000",
            ):
                connection.execute(f"PRAGMA {pragma}").close()

        event.listen(engine, "connect", connected)

    def begin_write(self, connection: Connection) -> None:
        """Take the file's one write lock."""
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def begin_append(self, connection: Connection) -> None:
        """Take the file's one write lock."""
        self.begin_write(connection)

    def begin_snapshot(self, connection: Connection) -> None:
        """Begin; the state is fixed by the first statement that reads."""
        connection.exec_driver_sql("BEGIN")

    def begin_migration(self, connection: Connection) -> None:
        """Take the file's one write lock."""
        self.begin_write(connection)

    def insert_if_absent(self, table: Table) -> Insert:
        """Use ``ON CONFLICT DO NOTHING``."""
        return sqlite.insert(table).on_conflict_do_nothing()

    def forget(self, connection: Connection) -> None:
        """Empty the write-ahead log, which still holds the pages as they were.

        A reader in the middle of a transaction holds some of the log back until the next call or close.
        """
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").close()

    def is_corrupt(self, error: BaseException) -> bool:
        """Tell a broken file, or one of another format."""
        return _sqlite_code(error) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

    def is_unavailable(self, error: BaseException) -> bool:
        """Tell a lock held by another process, a full or failing disk, a file that cannot be opened."""
        return _sqlite_code(error) in {
            sqlite3.SQLITE_BUSY,
            sqlite3.SQLITE_LOCKED,
            sqlite3.SQLITE_FULL,
            sqlite3.SQLITE_IOERR,
            sqlite3.SQLITE_CANTOPEN,
            sqlite3.SQLITE_READONLY,
        }


def _sqlite_code(error: BaseException) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    # The low byte is the code; the rest details it.
    return None if code is None else code & 0xFF


class Postgres:
    """PostgreSQL through psycopg 3; durable as long as the server runs with ``synchronous_commit``."""

    has_single_owner: ClassVar[bool] = False

    def engine_options(self) -> dict[str, Any]:
        """Notice connections that the server closed meanwhile."""
        return {"pool_pre_ping": True}

    def prepare(self, engine: Engine) -> None:
        """Do nothing: the server's settings are right."""

    def begin_write(self, connection: Connection) -> None:
        """Do nothing: the driver begins with the first statement, and rows are locked as they are read."""

    def begin_append(self, connection: Connection) -> None:
        """Take a lock until the commit: two that append at once would commit in either order of numbers."""
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('kshot feedback'))")

    def begin_snapshot(self, connection: Connection) -> None:
        """Fix the state that the transaction reads."""
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")

    def begin_migration(self, connection: Connection) -> None:
        """Take a lock that replicas starting at the same time wait for."""
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('kshot migration'))")

    def insert_if_absent(self, table: Table) -> Insert:
        """Use ``ON CONFLICT DO NOTHING``."""
        return postgresql.insert(table).on_conflict_do_nothing()

    def forget(self, connection: Connection) -> None:
        """Do nothing: the server's vacuum removes old row versions in its own time."""

    def is_corrupt(self, error: BaseException) -> bool:
        """Tell the server's own words for broken data (SQLSTATE class XX)."""
        return (getattr(error, "sqlstate", None) or "").startswith("XX")

    def is_unavailable(self, error: BaseException) -> bool:
        """Tell a lost connection and whatever else psycopg counts as operational."""
        names = {cls.__name__ for cls in type(error).__mro__}
        return type(error).__module__.startswith("psycopg") and bool(
            names & {"OperationalError", "InterfaceError"}
        )


def parse_url(url: str) -> tuple[URL, Database]:
    """Return the URL for SQLAlchemy, with the driver named, and the kind of database behind it.

    Raises
    ------
    InvalidInput
        The URL is none, names another database, or a SQLite database without a file.
    MissingDependency
        The URL names PostgreSQL and psycopg is not installed.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        # The text may hold a password, so it is not repeated.
        raise InvalidInput("the store URL is malformed, wanted sqlite:///FILE or postgresql://...") from None
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:" or parsed.database.startswith("file:"):
            raise InvalidInput(f"store URL {url!r} names no file, wanted sqlite:///FILE")
        return parsed.set(drivername="sqlite"), Sqlite()
    if backend in {"postgresql", "postgres"}:
        if importlib.util.find_spec("psycopg") is None:
            raise MissingDependency.of("psycopg", extra="postgres", purpose="A store on PostgreSQL")
        return parsed.set(drivername="postgresql+psycopg"), Postgres()
    raise InvalidInput(f"the store URL names {backend!r}, wanted sqlite or postgresql")
