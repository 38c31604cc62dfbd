"""Column types and declarations that the tables share."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, DateTime, Dialect, Integer, TypeDecorator

from kshot.errors import InvalidInput


class UtcDateTime(TypeDecorator[datetime]):
    """A timezone-aware UTC time; SQLite keeps no zone, so it is put back when read."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002  # SQLAlchemy's signature
        """Refuse a naive time, store any other as UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise InvalidInput(f"time {value.isoformat()} has no timezone, wanted a timezone-aware one")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002  # SQLAlchemy's signature
        """Return an aware UTC time."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# SQLite numbers rows by itself only in a column declared exactly INTEGER, which holds 64 bits there.
big_key = BigInteger().with_variant(Integer(), "sqlite")


def json_column(name: str, *, nullable: bool = True) -> Column[Any]:
    """Declare a column of JSON, where None is NULL."""
    return Column(name, JSON(none_as_null=True), nullable=nullable)
