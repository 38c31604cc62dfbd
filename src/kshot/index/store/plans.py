"""What plans propose to label, in order."""

from collections.abc import Sequence

from sqlalchemy import and_, delete, insert, select

from kshot.errors import InvalidInput
from kshot.index.store.engine import Transactions
from kshot.index.store.pools import lock_pool
from kshot.index.store.schema import plan_items
from kshot.index.store.scope import visible
from kshot.records import PlanItem

_c = plan_items.c
_FIELDS = ("rank", "example_id", "gain", "cost", "stratum", "layer")
_COLUMNS = tuple(_c[name] for name in _FIELDS)


class PlanTable(Transactions):
    """Reads and writes the items of plans; the plan itself is a job."""

    def put_plan_items(self, plan_id: str, pool_id: int, items: Sequence[PlanItem]) -> None:
        """Store the items of a plan in place of those that it has, if it has any.

        Raises
        ------
        PoolNotFound
            There is no such pool, or not any more.
        """
        rows = [
            {"plan_id": plan_id, "pool_id": pool_id, **{name: getattr(item, name) for name in _FIELDS}}
            for item in items
        ]
        with self._write() as connection:
            lock_pool(connection, pool_id)
            connection.execute(delete(plan_items).where(_c.plan_id == plan_id, visible(plan_items)))
            if rows:
                connection.execute(insert(plan_items), rows)

    def list_plan_items(self, plan_id: str, *, after: int = 0, limit: int = 100) -> list[PlanItem]:
        """Return a page of a plan's items in order; empty for a plan without any.

        Parameters
        ----------
        plan_id : str
        after : int
            The last rank of the page before.
        limit : int
            Items wanted, at least 1.

        Raises
        ------
        InvalidInput
            ``limit`` is below 1.
        """
        if limit < 1:
            raise InvalidInput(f"limit is {limit}, wanted at least 1")
        wanted = and_(_c.plan_id == plan_id, _c.rank > after, visible(plan_items))
        statement = select(*_COLUMNS).where(wanted).order_by(_c.rank).limit(limit)
        with self._read() as connection:
            return [PlanItem(**dict(zip(_FIELDS, row, strict=True))) for row in connection.execute(statement)]
