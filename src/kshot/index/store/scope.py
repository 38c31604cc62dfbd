"""Which rows a caller may see: every statement of the store takes its predicate from here.

A store has one tenant today, so every row is visible. A store of several tenants adds its predicate to
`visible` and nowhere else.
"""

from sqlalchemy import BindParameter, ColumnElement, Table, and_, true


def visible(table: Table) -> ColumnElement[bool]:  # noqa: ARG001  # the tenant predicate will need the table
    """Return the predicate for the rows of ``table`` that the caller may see."""
    return true()


def in_pool(table: Table, pool_id: int | BindParameter[int]) -> ColumnElement[bool]:
    """Return the predicate for the visible rows of one pool."""
    return and_(table.c.pool_id == pool_id, visible(table))


def checked_in_pool(table: Table, pool_id: int | BindParameter[int]) -> ColumnElement[bool]:
    """Return the predicate of `in_pool` for a statement that finds its few rows by a key of their own.

    SQLite, which has no statistics, takes ``pool_id = ?`` to be the more selective half and walks an index of
    the whole pool; an expression is no key to an index, so it is checked on the rows found.
    """
    return and_(table.c.pool_id + 0 == pool_id, visible(table))
