"""Connections and transactions: one lock for writers, typed errors instead of the driver's."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Self

from sqlalchemy import Connection, ExceptionContext, create_engine, event

from kshot.errors import KshotError, StoreCorrupt, Unavailable
from kshot.index.store.dialects import parse_url
from kshot.index.store.encoding import decode_json, encode_json
from kshot.index.store.migrate import upgrade

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the present time, timezone-aware."""
    return datetime.now(UTC)


class Transactions:
    """Opens a database, brings its schema up to date, and hands out connections.

    Any thread may use it. Writers take turns; readers never wait for them.

    Parameters
    ----------
    url : str
        ``sqlite:///FILE`` or ``postgresql://...``; an empty or missing database is set up.
    clock : callable
        The time that rows are stamped with, timezone-aware.

    Raises
    ------
    InvalidInput
        The URL is malformed or names another kind of database.
    MissingDependency
        The driver is not installed.
    StoreCorrupt
        The database cannot be read, belongs to something else, or was written by a newer kshot.
    Unavailable
        The database does not answer, or its file cannot be opened.
    """

    def __init__(self, url: str, *, clock: Clock = utc_now) -> None:
        parsed, self._database = parse_url(url)
        self._clock = clock
        self._write_lock = threading.Lock()
        self._engine = create_engine(
            parsed,
            # Texts and prompts must not reach a log through an exception's message.
            hide_parameters=True,
            json_serializer=encode_json,
            json_deserializer=decode_json,
            pool_size=10,
            max_overflow=20,
            **self._database.engine_options(),
        )
        self._database.prepare(self._engine)
        event.listen(self._engine, "handle_error", self._raise_typed)
        try:
            with self._engine.connect() as connection:
                upgrade(connection, self._database)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        """Lend a connection for statements that may each see another state."""
        with self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _snapshot(self) -> Iterator[Connection]:
        """Lend a connection whose statements all see one state."""
        with self._engine.connect() as connection:
            self._database.begin_snapshot(connection)
            yield connection

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        """Lend the one writing connection; commit durably at the end, roll back on any exception."""
        with self._write_lock, self._engine.connect() as connection:
            self._database.begin_write(connection)
            yield connection
            connection.commit()

    @contextmanager
    def _append(self) -> Iterator[Connection]:
        """Lend the writing connection for a log, whose numbers then become visible in their order."""
        with self._write_lock, self._engine.connect() as connection:
            self._database.begin_append(connection)
            yield connection
            connection.commit()

    def _forget(self) -> None:
        """Remove overwritten content from disk; call it after the erasing transaction."""
        with self._write_lock, self._engine.connect() as connection:
            self._database.forget(connection)

    def _raise_typed(self, context: ExceptionContext) -> None:
        """Raise kshot's own exception where there is one (an event of SQLAlchemy)."""
        error = context.original_exception
        if isinstance(error, KshotError):
            # Refused by a column's type on the way in.
            raise error
        # The driver's further lines may quote values; its first never does.
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        if self._database.is_corrupt(error):
            raise StoreCorrupt(f"the database cannot be read as a kshot store: {reason}") from error
        if self._database.is_unavailable(error):
            raise Unavailable(f"the store does not answer: {reason}") from error

    def close(self) -> None:
        """Close the connections that are not in use; the rest close when they are returned."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
