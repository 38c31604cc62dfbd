"""Likelihoods that were computed once, by a hash of what was asked."""

import struct
from collections.abc import Iterable, Sequence

from sqlalchemy import delete, func, select

from kshot.index.store.batches import batches
from kshot.index.store.engine import Transactions
from kshot.index.store.schema import scores
from kshot.index.store.scope import visible
from kshot.records import ScoreRecord

_c = scores.c
_FIELDS = (
    *("nats", "tokens", "bytes", "characters", "boundary", "mode", "greedy"),
    *("dropped", "dropped_demonstrations", "lossy"),
)
_COLUMNS = (_c.key, *(_c[name] for name in _FIELDS), _c.per_token)


class ScoreTable(Transactions):
    """Reads and writes remembered scores; none of them is needed, as each can be computed again."""

    def get_scores(self, keys: Sequence[bytes]) -> dict[bytes, ScoreRecord]:
        """Return the scores that are remembered under some of the keys."""
        found: dict[bytes, ScoreRecord] = {}
        with self._read() as connection:
            for some in batches(keys):
                wanted = _c.key.in_(some)
                for row in connection.execute(select(*_COLUMNS).where(wanted, visible(scores))):
                    values = dict(zip(_FIELDS, row[1:-1], strict=True))
                    key = bytes(row[0])
                    found[key] = ScoreRecord(key=key, **values, per_token=_unpacked(row[-1]))
        return found

    def put_scores(self, records: Iterable[ScoreRecord]) -> None:
        """Remember scores; one that is there already is replaced only by one that says more."""
        now = self._clock()
        key_to_record = {record.key: record for record in records}
        rows = [
            {
                "key": record.key,
                **{name: getattr(record, name) for name in _FIELDS},
                "per_token": _packed(record.per_token),
                "created_at": now,
            }
            for _, record in sorted(key_to_record.items())  # in one order, so that two writers cannot lock
        ]
        if not rows:
            return
        richer = sorted(key for key, record in key_to_record.items() if record.per_token is not None)
        with self._write() as connection:
            for keys in batches(richer):
                connection.execute(delete(scores).where(_c.key.in_(keys), visible(scores)))
            connection.execute(self._database.insert_if_absent(scores), rows)

    def count_scores(self) -> int:
        """Return how many scores are remembered."""
        with self._read() as connection:
            statement = select(func.count()).select_from(scores).where(visible(scores))
            return int(connection.execute(statement).scalar_one())

    def purge_scores(self, keep: int) -> int:
        """Forget the oldest scores beyond ``keep``, and return how many those were.

        Of scores that were written at the same moment, those of larger keys go last.
        """
        excess = self.count_scores() - keep
        if excess <= 0:
            return 0
        oldest = select(_c.key).where(visible(scores)).order_by(_c.created_at, _c.key).limit(excess)
        with self._write() as connection:
            return connection.execute(delete(scores).where(_c.key.in_(oldest))).rowcount


def _packed(values: Sequence[float] | None) -> bytes | None:
    return None if values is None else struct.pack(f"<{len(values)}d", *values)


def _unpacked(data: bytes | None) -> tuple[float, ...] | None:
    return None if data is None else struct.unpack(f"<{len(data) // 8}d", data)
