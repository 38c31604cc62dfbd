"""Coverage gaps: queries to which nothing in the pool comes close, kept for whoever annotates next."""

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from kshot.errors import FieldError
from kshot.index.candidates import QueryFeatures
from kshot.index.snapshot import Eligible, Snapshot
from kshot.index.store import Store
from kshot.schemas.base import Notice
from kshot.schemas.gaps import Gap, GapList
from kshot.server.services.runtime import PoolRuntime
from kshot.server.validation import refusal

_PAGE = 500
GAP = "coverage_gap"
"""Code of the notice."""


def best_similarity(
    snapshot: Snapshot,
    query: QueryFeatures,
    allowed: Eligible,
    at_hand: Sequence[float],
    gap_below: float,
) -> float | None:
    """Return the cosine of the query to the nearest example that may be chosen.

    Parameters
    ----------
    snapshot : Snapshot
    query : QueryFeatures
    allowed : Eligible
        What filter and exclusions leave, before ``min_score``.
    at_hand : sequence of float
        Cosines to some of these rows that are known already.
    gap_below : float
        If none at hand reaches this, the index is asked: methods that do not go by similarity look at other
        rows than the nearest, and `min_score` keeps all of them away.

    Returns
    -------
    float or None
        None without vectors, or where nothing may be chosen at all.
    """
    if snapshot.dense is None or query.vector is None or not len(allowed.rows):
        return None
    best = max(at_hand, default=-math.inf)
    if best >= gap_below:
        return best
    return float(snapshot.dense.search(query.vector, 1, allowed.mask, allowed.rows).similarities[0])


def gap_notices(best: float | None, gap_below: float) -> list[Notice]:
    """Say that the pool has nothing near the query."""
    if best is None or best >= gap_below:
        return []
    message = f"the nearest example has the cosine {best:.3f}, below the pool's gap_below = {gap_below}"
    return [Notice(code=GAP, message=message)]


def count_gaps(store: Store, runtime: PoolRuntime) -> tuple[int, int]:
    """Return how many selections the pool keeps, and how many of them are gaps."""
    pool_id, since = runtime.record.id, _since(runtime)
    below = runtime.settings.select.gap_below
    return (
        store.count_selections(pool_id, since=since),
        store.count_selections(pool_id, since=since, below=below),
    )


def list_gaps(
    store: Store, runtime: PoolRuntime, below: float | None, cursor: str | None, limit: int
) -> GapList:
    """Return a page of gaps, the worst first.

    Raises
    ------
    InvalidInput
        The cursor is none of this server's.
    """
    below = runtime.settings.select.gap_below if below is None else below
    after = None if cursor is None else _parsed(cursor)
    found = store.list_gaps(
        runtime.record.id, below=below, since=_since(runtime), after=after, limit=limit + 1
    )
    page = found[:limit]
    # The query itself stays out of the cursor, since addresses are logged.
    last = f"{page[-1].best_similarity!r}:{page[-1].selection_id}" if len(found) > limit else None
    return GapList(
        data=[
            Gap(
                query=gap.query,
                count=gap.count,
                best_similarity=gap.best_similarity,
                first_at=gap.first_at,
                last_at=gap.last_at,
                selection_id=gap.selection_id,
            )
            for gap in page
        ],
        next_cursor=last,
        below=below,
    )


def iterate_gaps(store: Store, runtime: PoolRuntime) -> Iterator[Gap]:
    """Iterate over all gaps, the worst first."""
    cursor: str | None = None
    while True:
        page = list_gaps(store, runtime, None, cursor, _PAGE)
        yield from page.data
        cursor = page.next_cursor
        if cursor is None:
            return


def _since(runtime: PoolRuntime) -> datetime:
    """Return the time before which selections are as good as purged; the purge itself comes by the hour."""
    return datetime.now(UTC) - timedelta(days=runtime.settings.retention_days)


def _parsed(cursor: str) -> tuple[float, str]:
    similarity, colon, selection_id = cursor.partition(":")
    try:
        value = float(similarity)
    except ValueError:
        value = math.nan
    if not (colon and selection_id and math.isfinite(value)):
        raise refusal(
            [FieldError("/cursor", f"received {cursor[:40]!r}, allowed a `next_cursor` of this server")]
        )
    return value, selection_id
