"""Sticky sets: every query of a cluster is answered as the example at its heart would be."""

import asyncio
from dataclasses import dataclass

from kshot.arrays import Float32s
from kshot.index.candidates import QueryFeatures
from kshot.index.snapshot import Exclusions
from kshot.index.store import Store
from kshot.server.services.queries import require_vector, text_features
from kshot.server.services.runtime import PoolRuntime


@dataclass(frozen=True, slots=True)
class _Heart:
    id: str
    vector: Float32s
    text: str


async def cluster_features(
    store: Store, runtime: PoolRuntime, query: QueryFeatures, clusters: int
) -> tuple[QueryFeatures, str | None]:
    """Return the features of the example at the heart of the query's cluster, and its id.

    The hearts represent a sample of the pool (facility location) and stay the same until one of them is
    deleted. A query belongs to the nearest one. A pool without vectors has no clusters: the query then stands
    for itself.

    Raises
    ------
    InvalidInput
        The query has no vector.
    """
    require_vector(query)
    heart = await asyncio.to_thread(_nearest_heart, store, runtime, query, clusters)
    if heart is None:
        return query, None
    if runtime.settings.embedder.type == "external":
        return QueryFeatures(heart.vector, None, heart.text), heart.id
    # Embedded as a query, not read from the index: the same texts come again and again and are remembered.
    return await text_features(runtime, heart.text), heart.id


def _nearest_heart(store: Store, runtime: PoolRuntime, query: QueryFeatures, clusters: int) -> _Heart | None:
    snapshot = runtime.index.snapshot
    rows = runtime.cores.rows("", snapshot, snapshot.eligible(None, Exclusions()), clusters)
    if snapshot.dense is None or query.vector is None or not len(rows):
        return None
    row = int(rows[int(snapshot.dense.similarities(query.vector, rows).argmax())])
    examples = store.get_examples_by_seq(runtime.record.id, [int(snapshot.seqs[row])])
    if not examples:
        return None
    text = runtime.templates.embed_text(examples[0].inputs)
    return _Heart(examples[0].id, snapshot.dense.vectors[row], text)
