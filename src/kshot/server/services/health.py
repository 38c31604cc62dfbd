"""Pool health: measured when asked for, within a fixed amount of work, and kept until the pool changes."""

import threading
import time
import weakref

import numpy as np

from kshot.arrays import Float32s, Int64s
from kshot.index.columns import MISSING
from kshot.index.planning import row_ids
from kshot.index.snapshot import Snapshot
from kshot.records import Status
from kshot.schemas.health import DuplicateHealth, DuplicatePair, LabelHealth, PoolHealth, SuspectedLabel
from kshot.selectors import (
    coverage_sample,
    label_balance,
    log_det_distance,
    near_duplicate_rows,
    suspected_labels,
)
from kshot.selectors.health import AGREEMENT, NEIGHBOURS

MOST_PRODUCTS = 10**11
"""Multiplications of one search for neighbours: about 4 s of one core. At 384 dimensions every example of a
pool of 16,000 is looked at, and 1,680 of 155,000."""
DIVERSE = 100
"""Most diverse examples whose volume is measured."""
_DIVERSE_AMONG = 4_000
_PAIRS = 10
_SUSPECTS = 50


class HealthCache:
    """The health of each pool's newest snapshot, measured by one thread at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool_to_health: dict[int, tuple[weakref.ref[Snapshot], PoolHealth]] = {}

    def get(self, pool_id: int, snapshot: Snapshot) -> PoolHealth:
        """Return what was measured of this very snapshot, or measure it."""
        with self._lock:
            kept = self._pool_to_health.get(pool_id)
            if kept is not None and kept[0]() is snapshot:
                return kept[1]
            health = measure_health(snapshot)
            known = self._pool_to_health.items()
            self._pool_to_health = {key: one for key, one in known if one[0]() is not None}
            self._pool_to_health[pool_id] = weakref.ref(snapshot), health
            return health


def measure_health(snapshot: Snapshot) -> PoolHealth:
    """Look for near-duplicates and doubtful labels among the examples that are not retired.

    Notes
    -----
    Two searches of at most `MOST_PRODUCTS` each; of larger pools, a fixed random sample of the examples is
    compared with all others. A pool with retired examples has its other vectors copied.
    """
    started = time.perf_counter()
    rows = _rows(snapshot)
    if len(rows) < 2 or snapshot.dense is None:
        duplicates = distance = None
        labels = _labels(snapshot, rows, None)
    else:
        vectors = snapshot.dense.vectors
        vectors = vectors if len(rows) == len(vectors) else vectors[rows]
        duplicates = _duplicates(snapshot, rows, vectors)
        among = coverage_sample(len(rows), most=_DIVERSE_AMONG)
        distance = round(log_det_distance(vectors[among], DIVERSE), 4)
        labels = _labels(snapshot, rows, vectors)
    return PoolHealth(
        examples=len(rows),
        duplicates=duplicates,
        log_det_distance=distance,
        log_det_examples=min(DIVERSE, len(rows)),
        labels=labels,
        took_s=round(time.perf_counter() - started, 3),
    )


def _rows(snapshot: Snapshot) -> Int64s:
    """Return the live rows whose example is not retired."""
    mask = snapshot.live
    status = snapshot.field_to_column.get("status")
    if status is not None:
        retired = [code for code, value in enumerate(status.values) if value == Status.RETIRED]
        mask = mask & ~np.isin(status.codes, retired)
    return np.flatnonzero(mask)


def _sample(candidates: Int64s, rows: int, dimension: int) -> Int64s:
    """Return as many of the candidates as may be compared with all rows."""
    most = max(1, MOST_PRODUCTS // (rows * dimension))
    return candidates[coverage_sample(len(candidates), most=most)]


def _duplicates(snapshot: Snapshot, rows: Int64s, vectors: Float32s) -> DuplicateHealth:
    found = near_duplicate_rows(vectors, rows=_sample(np.arange(len(rows)), *vectors.shape))
    pairs = found.pairs(_PAIRS)
    ids = row_ids(snapshot, rows[np.array([pair[:2] for pair in pairs], np.int64).reshape(-1)])
    return DuplicateHealth(
        threshold=found.threshold,
        rate=round(found.rate, 6),
        measured=len(found.rows),
        pairs=[
            DuplicatePair(id=one, other_id=other, similarity=round(similarity, 4))
            for one, other, (_, _, similarity) in zip(ids[::2], ids[1::2], pairs, strict=True)
        ],
    )


def _labels(snapshot: Snapshot, rows: Int64s, vectors: Float32s | None) -> LabelHealth | None:
    column = snapshot.field_to_column.get("label")
    if column is None:
        return None
    codes = column.codes[rows].astype(np.int64)
    labelled = np.flatnonzero(codes != MISSING)
    if not len(labelled):
        return None
    balance = label_balance(codes)
    suspects: list[SuspectedLabel] = []
    measured = suspected = 0
    if vectors is not None:
        found = suspected_labels(vectors, codes, rows=_sample(labelled, len(labelled), vectors.shape[1]))
        measured, suspected = found.measured, len(found)
        shown = slice(0, _SUSPECTS)
        suspects = [
            SuspectedLabel(
                id=one,
                label=str(column.values[label]),
                suggested=str(column.values[suggested]),
                agreement=agreement,
                similarity=round(similarity, 4),
            )
            for one, label, suggested, agreement, similarity in zip(
                row_ids(snapshot, rows[found.rows[shown]]),
                found.labels[shown].tolist(),
                found.suggested[shown].tolist(),
                found.agreement[shown].tolist(),
                found.similarity[shown].tolist(),
                strict=True,
            )
        ]
    return LabelHealth(
        labels=balance.labels,
        labelled=balance.labelled,
        entropy=round(balance.entropy, 6),
        evenness=round(balance.evenness, 6),
        smallest=balance.smallest,
        largest=balance.largest,
        neighbours=NEIGHBOURS,
        agreement=AGREEMENT,
        measured=measured,
        suspected=suspected,
        suspects=suspects,
    )
