"""The stable core: demonstrations that are the same for every query, so that prompts share a prefix."""

import threading
from collections import OrderedDict

import numpy as np

from kshot.arrays import Int64s
from kshot.index.snapshot import Eligible, Snapshot
from kshot.selectors.annotation.facility_location import facility_location

_KEPT = 256


class StableCores:
    """Chooses the cores of one pool and keeps to each for as long as all its examples can be chosen.

    The core is the facility-location choice among the pool's fixed sample: the examples that best stand for
    all, no two of equal content. It is made once per filter and size and kept while its members stay live
    and eligible, so that new examples do not change the prompt's prefix.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key_to_core: OrderedDict[tuple[str, int], Int64s] = OrderedDict()

    def rows(self, filter_key: str, snapshot: Snapshot, eligible: Eligible, k: int) -> Int64s:
        """Return the core's rows in their fixed order; fewer than ``k`` if fewer are eligible."""
        key = (filter_key, k)
        with self._lock:
            core = self._key_to_core.get(key)
            if core is not None:
                self._key_to_core.move_to_end(key)
        repeated = snapshot.repeats.later(eligible.mask)
        if core is not None and _stands(core, snapshot, eligible, min(k, len(eligible.rows) - len(repeated))):
            return core
        core = _choose(snapshot, np.setdiff1d(eligible.rows, repeated), k)
        with self._lock:
            self._key_to_core[key] = core
            while len(self._key_to_core) > _KEPT:
                self._key_to_core.popitem(last=False)
        return core


def _stands(core: Int64s, snapshot: Snapshot, eligible: Eligible, most: int) -> bool:
    """Tell whether a core's members can be chosen, and are as many as there can be.

    A row belongs to one example for as long as that has the same inputs.
    """
    return (
        len(core) == most
        # A request that began earlier may hold an older snapshot.
        and core.max(initial=-1) < len(snapshot)
        and bool(eligible.mask[core].all())
    )


def _choose(snapshot: Snapshot, allowed: Int64s, k: int) -> Int64s:
    if snapshot.dense is None or snapshot.sample is None or not len(allowed):
        return np.empty(0, np.int64)
    rows = np.intersect1d(snapshot.sample.rows, allowed, assume_unique=True)
    if len(rows) < k:
        # A narrow filter leaves too little of the sample: look at the first eligible rows instead.
        rows = allowed[: max(k, len(snapshot.sample.rows))]
    return rows[facility_location(snapshot.dense.vectors[rows], k).indices]
