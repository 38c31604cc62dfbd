"""The synchronous half of `select`: from features and a snapshot to a finished reply."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

import numpy as np

from kshot.arrays import Float32s, Float64s, Int64s
from kshot.index.candidates import QueryFeatures
from kshot.index.snapshot import Eligible, Snapshot
from kshot.index.store import Store
from kshot.schemas.base import Notice
from kshot.schemas.pools import OrderName, PackingName
from kshot.schemas.selections import (
    Adaptive,
    Frame,
    GainStep,
    RandomOrder,
    SelectionReply,
    SelectRequest,
    Usage,
)
from kshot.selectors import adaptive_k
from kshot.server.services import assembly, choosing, prefix
from kshot.server.services.assembly import Chosen
from kshot.server.services.choosing import Choice, Method
from kshot.server.services.explaining import explain, left_out_reasons
from kshot.server.services.gaps import best_similarity, gap_notices
from kshot.server.services.pace import in_time
from kshot.server.services.room import Room
from kshot.server.services.runtime import PoolRuntime
from kshot.server.services.shown import Shown

NEAR_IDENTICAL = 0.98
_SHOWN_LABELS = 500


@dataclass(frozen=True, slots=True)
class Clock:
    """When a request came in and when its query was embedded; readings of `time.perf_counter`."""

    started: float
    embedded: float


@dataclass(frozen=True, slots=True)
class Answer:
    """A selection as made, and its wire form.

    ``method`` is the one that ran; ``request`` has the pool's defaults where the caller's was silent;
    ``best_similarity`` is the cosine of the query to the nearest example that might have been chosen.
    """

    reply: SelectionReply
    chosen: list[Chosen]
    method: Method
    request: SelectRequest
    best_similarity: float | None


def answer(
    store: Store,
    runtime: PoolRuntime,
    method: Method,
    query: QueryFeatures,
    request: SelectRequest,
    clock: Clock,
    *,
    fallbacks: Sequence[Method] = (),
    cluster: str | None = None,
    asked: QueryFeatures | None = None,
) -> Answer:
    """Choose, fetch, pack, order, describe. Reads one snapshot; safe in any thread.

    ``fallbacks`` may answer in place of ``method`` where that would miss the request's deadline. ``cluster``
    names the example whose features ``query`` holds, where that is not the query itself, which is ``asked``.
    """
    snapshot = runtime.index.snapshot
    request, k, order, packing = _with_defaults(runtime, request)
    late: Notice | None = None
    if request.deadline_ms is not None:
        left_ms = request.deadline_ms - milliseconds(clock.started, time.perf_counter())
        method, late = in_time(runtime.pace, method, fallbacks, query, left_ms, exact=request.exact)
        if late is not None:
            request = request.model_copy(update={"exact": False})
    method, notices = choosing.fitting(method, query, runtime.settings.difficulty_field)
    notices += [late] if late is not None else []
    allowed = snapshot.eligible(request.filter, choosing.exclusions(request))
    notices += unseen_notices(allowed)
    frame = _frame(runtime, snapshot, request)
    system = None if frame is None else frame.system
    block_tokens = None if request.stable is None else request.stable.block_tokens
    core = _core_choice(snapshot, query, prefix.core_rows(runtime, snapshot, request, allowed, k))
    stable = _chosen(store, runtime, snapshot, query, core, is_stable=True)
    stable = prefix.aligned(runtime, system, stable, block_tokens)
    near = choosing.with_min_score(snapshot, query, allowed, request.min_score)
    if request.distinct.content:
        near = choosing.without(near, snapshot.repeats.later(near.mask))
    core_rows = np.array([one.row for one in stable], np.int64)
    eligible = choosing.beside(snapshot, near, core_rows, request.distinct)
    searched = time.perf_counter()
    choice = choosing.choose(
        snapshot,
        query,
        eligible,
        method,
        request,
        k - len(stable),
        runtime.settings.difficulty_field,
        _room(store, runtime, snapshot, stable, request) if packing == "knapsack" else None,
    )
    selected = time.perf_counter()

    picked = _chosen(store, runtime, snapshot, query, choice, is_stable=False)
    worthy, curve = _worth_their_tokens(picked, request.adaptive)
    stable, dynamic, dropped = assembly.fitted(
        runtime,
        stable,
        worthy,
        packing,
        request.max_tokens,
        lambda picks: assembly.ordered(runtime, snapshot, picks, order, request.seed),
    )
    chosen = [*stable, *dynamic]
    wanted = k if request.adaptive is None else len(chosen) + len(dropped) + choice.without_room
    notices += _notices(chosen, wanted, len(allowed.rows), len(dropped) + choice.without_room)
    gap_below = runtime.settings.select.gap_below
    best = best_similarity(snapshot, asked or query, allowed, _at_hand(choice, stable, asked), gap_below)
    notices += gap_notices(best, gap_below)
    begins = prefix.described(runtime, system, stable, block_tokens)
    explanation = None
    if request.explain:
        left_out = left_out_reasons(dropped, picked[len(worthy) :], request.adaptive)
        explanation = explain(
            store, runtime, snapshot, asked or query, method, allowed, choice, chosen, left_out, k
        )
    finished = time.perf_counter()
    runtime.pace.took(method.name, milliseconds(clock.embedded, finished), exact=request.exact)
    reply = SelectionReply(
        selection_id=str(uuid4()),
        pool=runtime.record.name,
        pool_version=snapshot.version,
        method=method.name,
        demonstrations=assembly.demonstrations(chosen, rendered=not runtime.templates.is_default),
        usage=Usage(
            tokens=sum(one.tokens for one in chosen),
            estimated=not runtime.tokenizer.exact,
            eligible=len(near.rows),
            candidates=choice.candidates,
            prefix_tokens=begins.tokens,
            cacheable_tokens=begins.cacheable,
        ),
        set=assembly.statistics(snapshot, chosen),
        prefix_hash=begins.hash,
        timing_ms={
            "embed": milliseconds(clock.started, clock.embedded),
            "filter": milliseconds(clock.embedded, searched),
            "select": milliseconds(searched, selected),
            "assemble": milliseconds(selected, finished),
            "total": milliseconds(clock.started, finished),
        },
        exactness=choice.exactness.value,
        degraded=late is not None,
        abstained=not chosen and not len(near.rows) and len(allowed.rows) > 0,
        warnings=notices,
        curve=curve,
        cluster=cluster,
        frame=frame,
        explain=explanation,
    )
    return Answer(reply, chosen, method, request, best)


def _at_hand(choice: Choice, stable: Sequence[Chosen], asked: QueryFeatures | None) -> list[float]:
    """Collect what is known of the cosines to the query; those to another one do not count."""
    if asked is not None:
        return []
    cosines = [choice.nearest, *(one.similarity for one in stable)]
    return [cosine for cosine in cosines if cosine is not None]


def _worth_their_tokens(
    picked: list[Chosen], adaptive: Adaptive | None
) -> tuple[list[Chosen], list[GainStep]]:
    """Cut the picks where more are not worth their tokens, and describe all of them in pick order."""
    if adaptive is None:
        return picked, []
    gains, tokens = [one.gain for one in picked], [one.tokens for one in picked]
    found = adaptive_k(gains, tokens, adaptive.min_gain_per_token, min_k=adaptive.min_k)
    curve = [
        GainStep(
            id=one.example.id, gain=one.gain, tokens=one.tokens, gain_per_token=rate, kept=place < found.kept
        )
        for place, (one, rate) in enumerate(zip(picked, found.gain_per_token.tolist(), strict=True))
    ]
    return picked[: found.kept], curve


def _with_defaults(
    runtime: PoolRuntime, request: SelectRequest
) -> tuple[SelectRequest, int, OrderName | RandomOrder, PackingName]:
    defaults = runtime.settings.select
    k = defaults.k if request.k is None else request.k
    order, packing = request.order or defaults.order, request.packing or defaults.packing
    return request.model_copy(update={"k": k, "order": order, "packing": packing}), k, order, packing


def _core_choice(snapshot: Snapshot, query: QueryFeatures, rows: Int64s) -> Choice:
    """Describe the core; no method picked it, so it gained nothing."""
    scores = np.zeros(len(rows)) if query.vector is None else _cosines(snapshot, query.vector, rows)
    return Choice(rows, scores, np.zeros(len(rows)), len(rows), {})


def _cosines(snapshot: Snapshot, query_vector: Float32s, rows: Int64s) -> Float64s:
    """Cosine of rows, in any order, to the query."""
    if snapshot.dense is None:
        return np.zeros(len(rows))
    return snapshot.dense.similarities(query_vector, rows).astype(np.float64)


def _chosen(
    store: Store,
    runtime: PoolRuntime,
    snapshot: Snapshot,
    query: QueryFeatures,
    choice: Choice,
    *,
    is_stable: bool,
) -> list[Chosen]:
    rows = choice.rows
    if not len(rows):
        return []
    cosines = None if query.vector is None else _cosines(snapshot, query.vector, rows).tolist()
    chosen = []
    for place, shown in runtime.shown.get(snapshot, rows, lambda seqs: _load(store, runtime, seqs)):
        row = int(rows[place])
        chosen.append(
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
    return chosen


def _room(
    store: Store, runtime: PoolRuntime, snapshot: Snapshot, stable: Sequence[Chosen], request: SelectRequest
) -> Room | None:
    """Return what the core leaves of ``max_tokens``; None without a limit."""
    if request.max_tokens is None:
        return None
    left = max(0, request.max_tokens - sum(one.tokens for one in stable))

    def lengths(rows: Int64s) -> Int64s:
        # Erased since: too long for any budget.
        found = np.full(len(rows), left + 1, np.int64)
        for place, shown in runtime.shown.get(snapshot, rows, lambda seqs: _load(store, runtime, seqs)):
            found[place] = max(shown.tokens, 1)
        return found

    return Room(left, lengths)


def _load(store: Store, runtime: PoolRuntime, seqs: Sequence[int]) -> list[Shown]:
    examples = store.get_examples_by_seq(runtime.record.id, seqs)
    turns = [runtime.templates.turn(one.inputs, one.outputs, one.metadata) for one in examples]
    return [*map(Shown, examples, turns, assembly.measured(runtime, turns))]


def unseen_notices(eligible: Eligible) -> list[Notice]:
    """Say which fields of a filter no example has: most likely a typing error."""
    return [
        Notice(code="field_unseen", message=f"no example has the field {name!r}")
        for name in eligible.unseen_fields
    ]


def _notices(chosen: list[Chosen], k: int, eligible: int, dropped: int) -> list[Notice]:
    notices = []
    if not eligible:
        notices.append(Notice(code="no_eligible", message="no example passes the filter and the exclusions"))
    elif (found := len(chosen) + dropped) < k:
        notices.append(Notice(code="fewer_than_k", message=f"{found} of {k} demonstrations could be chosen"))
    if dropped:
        notices.append(Notice(code="max_tokens", message=f"{dropped} picks did not fit into max_tokens"))
    near = [
        one.example.id for one in chosen if one.similarity is not None and one.similarity > NEAR_IDENTICAL
    ]
    if near:
        message = f"{', '.join(map(repr, near[:3]))} nearly equals the query; exclude it when you evaluate"
        notices.append(Notice(code="near_identical", message=message))
    return notices


def _frame(runtime: PoolRuntime, snapshot: Snapshot, request: SelectRequest) -> Frame | None:
    templates = runtime.templates
    if templates.is_default:
        return None
    column = snapshot.field_to_column.get("label")
    labels = [] if column is None else [str(label) for label in column.counts(snapshot.live)][:_SHOWN_LABELS]
    query = None if request.inputs is None else templates.query(request.inputs)
    return Frame(
        system=templates.system(runtime.record.name, sorted(labels)),
        separator=templates.separator,
        query_input=None if query is None else query.input,
        query_text=None if query is None else query.text,
    )


def milliseconds(start: float, end: float) -> float:
    """Return the time between two readings of `time.perf_counter`."""
    return round((end - start) * 1000, 3)
