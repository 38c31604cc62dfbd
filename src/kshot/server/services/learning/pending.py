"""Decisions whose outcomes are awaited: they narrow the widths of policies that explore by widths."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from kshot.arrays import Int64s
from kshot.records import DecisionRecord
from kshot.server.services.learning.outcomes import features_of

NARROWED = frozenset({"lin_ucb", "pak_ucb", "rff_ucb", "ucb1", "ucb_v"})
"""Algorithms that would otherwise choose the same arm for everybody until the first outcome is in."""
MOST = 2_000
"""Decisions that are kept in mind, the newest."""


class _Awaited(NamedTuple):
    arm: str
    features: Int64s
    until: float


class Pending:
    """The awaited decisions of one policy, in the order in which they were made. Any thread may use it."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._lock = threading.Lock()
        self._id_to_awaited: OrderedDict[str, _Awaited] = OrderedDict()

    def add(self, record: DecisionRecord) -> None:
        """Await the outcome of a decision."""
        until = record.decided_at.timestamp() + self._window_s
        with self._lock:
            self._id_to_awaited[record.id] = _Awaited(record.served, features_of(record), until)
            while len(self._id_to_awaited) > MOST:
                self._id_to_awaited.popitem(last=False)

    def settle(self, decision_ids: Iterable[str]) -> None:
        """Await some no longer."""
        with self._lock:
            for decision_id in decision_ids:
                self._id_to_awaited.pop(decision_id, None)

    def contexts(self, dimension: int, now: float) -> Mapping[str, Any]:
        """Return the features of awaited decisions by arm, each of shape (m, d)."""
        with self._lock:
            while self._id_to_awaited and next(iter(self._id_to_awaited.values())).until < now:
                self._id_to_awaited.popitem(last=False)
            # One that was dated ahead, as the clock was wrong, may stand before others that are due.
            awaited = [one for one in self._id_to_awaited.values() if one.until >= now]
        arm_to_rows: dict[str, list[Int64s]] = {}
        for one in awaited:
            if len(one.features) == dimension:
                arm_to_rows.setdefault(one.arm, []).append(one.features)
        return {arm: np.stack(rows) for arm, rows in arm_to_rows.items()}

    def __len__(self) -> int:
        return len(self._id_to_awaited)
