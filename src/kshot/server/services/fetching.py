"""Texts of chosen rows, and their lengths."""

from collections.abc import Sequence

import numpy as np

from kshot.arrays import Float32s, Float64s, Int64s
from kshot.index.candidates import QueryFeatures
from kshot.index.snapshot import Snapshot
from kshot.index.store import Store
from kshot.schemas.selections import SelectRequest
from kshot.server.services import assembly
from kshot.server.services.assembly import Chosen
from kshot.server.services.choosing import Choice
from kshot.server.services.room import Room
from kshot.server.services.runtime import PoolRuntime
from kshot.server.services.shown import Shown


def core_choice(snapshot: Snapshot, query: QueryFeatures, rows: Int64s) -> Choice:
    """Describe the core; no method picked it, so it gained nothing."""
    scores = np.zeros(len(rows)) if query.vector is None else _cosines(snapshot, query.vector, rows)
    return Choice(rows, scores, np.zeros(len(rows)), len(rows), {})


def _cosines(snapshot: Snapshot, query_vector: Float32s, rows: Int64s) -> Float64s:
    """Cosine of rows, in any order, to the query."""
    if snapshot.dense is None:
        return np.zeros(len(rows))
    return snapshot.dense.similarities(query_vector, rows).astype(np.float64)


def chosen_rows(
    store: Store,
    runtime: PoolRuntime,
    snapshot: Snapshot,
    query: QueryFeatures,
    choice: Choice,
    *,
    is_stable: bool,
) -> list[Chosen]:
    """Return chosen rows with their texts; those that were erased since are left out."""
    rows = choice.rows
    if not len(rows):
        return []
    cosines = None if query.vector is None else _cosines(snapshot, query.vector, rows).tolist()
    found = []
    for place, shown in runtime.shown.get(snapshot, rows, lambda seqs: load_shown(store, runtime, seqs)):
        row = int(rows[place])
        found.append(
            Chosen(
                row=row,
                example=shown.example,
                turn=shown.turn,
                tokens=shown.tokens,
                score=float(choice.scores[place]),
                gain=float(choice.gains[place]),
                similarity=None if cosines is None else cosines[place],
                label=assembly.label_of(snapshot, row),
                is_stable=is_stable,
            )
        )
    return found


def room_beside(
    store: Store, runtime: PoolRuntime, snapshot: Snapshot, stable: Sequence[Chosen], request: SelectRequest
) -> Room | None:
    """Return what the core leaves of ``max_tokens``; None without a limit."""
    if request.max_tokens is None:
        return None
    left = max(0, request.max_tokens - sum(one.tokens for one in stable))

    def lengths(rows: Int64s) -> Int64s:
        # Erased since: too long for any budget.
        found = np.full(len(rows), left + 1, np.int64)
        for place, shown in runtime.shown.get(snapshot, rows, lambda seqs: load_shown(store, runtime, seqs)):
            found[place] = max(shown.tokens, 1)
        return found

    return Room(left, lengths)


def load_shown(store: Store, runtime: PoolRuntime, seqs: Sequence[int]) -> list[Shown]:
    """Fetch, render and measure example versions, for the pool's cache of them."""
    examples = store.get_examples_by_seq(runtime.record.id, seqs)
    turns = [runtime.templates.turn(one.inputs, one.outputs, one.metadata) for one in examples]
    return [*map(Shown, examples, turns, assembly.measured(runtime, turns))]
