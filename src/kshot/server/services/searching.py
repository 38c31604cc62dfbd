"""Plain nearest neighbours."""

import time

from kshot.index.candidates import QueryFeatures
from kshot.index.store import Store
from kshot.schemas.selections import Hit, SearchReply, SearchRequest
from kshot.server.services.assembly import label_of
from kshot.server.services.choosing import exclusions
from kshot.server.services.drafting import Clock, milliseconds, unseen_notices
from kshot.server.services.runtime import PoolRuntime


def neighbours(
    store: Store, runtime: PoolRuntime, query: QueryFeatures, request: SearchRequest, clock: Clock
) -> SearchReply:
    """Return the eligible examples nearest to the query, nearest first. Reads one snapshot."""
    snapshot = runtime.index.snapshot
    eligible = snapshot.eligible(request.filter, exclusions(request))
    seq_to_row_and_similarity: dict[int, tuple[int, float]] = {}
    if snapshot.dense is not None and query.vector is not None:
        near = snapshot.dense.search(query.vector, request.k, eligible.mask, eligible.rows)
        pairs = zip(near.rows.tolist(), near.similarities.tolist(), strict=True)
        seq_to_row_and_similarity = {int(snapshot.seqs[row]): (row, similarity) for row, similarity in pairs}
    hits = []
    for example in store.get_examples_by_seq(runtime.record.id, list(seq_to_row_and_similarity)):
        row, similarity = seq_to_row_and_similarity[example.seq]
        hits.append(
            Hit(
                id=example.id,
                similarity=similarity,
                inputs=example.inputs,
                outputs=example.outputs,
                metadata=dict(example.metadata),
                label=label_of(snapshot, row),
            )
        )
    return SearchReply(
        pool=runtime.record.name,
        pool_version=snapshot.version,
        hits=hits,
        timing_ms={
            "embed": milliseconds(clock.started, clock.embedded),
            "total": milliseconds(clock.started, time.perf_counter()),
        },
        warnings=unseen_notices(eligible),
    )
