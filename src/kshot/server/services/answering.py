"""The synchronous half of `select`: from features and a snapshot to a finished reply."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import uuid4

import numpy as np

from kshot.arrays import Float32s, Float64s, Int64s
from kshot.errors import FieldError, InvalidInput
from kshot.index.candidates import QueryFeatures
from kshot.index.snapshot import Eligible, Exclusions, Snapshot
from kshot.index.store import Store
from kshot.schemas.base import Notice
from kshot.schemas.pools import OrderName, PackingName
from kshot.schemas.selections import (
    Explanation,
    Frame,
    RandomOrder,
    Rejected,
    SelectionReply,
    SelectRequest,
    Usage,
)
from kshot.server.services import assembly, choosing
from kshot.server.services.assembly import Chosen
from kshot.server.services.choosing import RUNNERS_UP, Choice, Method
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

    ``method`` is the one that ran; ``request`` has the pool's defaults where the caller's was silent.
    """

    reply: SelectionReply
    chosen: list[Chosen]
    method: Method
    request: SelectRequest


def answer(
    store: Store,
    runtime: PoolRuntime,
    method: Method,
    query: QueryFeatures,
    request: SelectRequest,
    clock: Clock,
) -> Answer:
    """Choose, fetch, pack, order, describe. Reads one snapshot; safe in any thread."""
    snapshot = runtime.index.snapshot
    request, k, order, packing = _with_defaults(runtime, request)
    method, notices = choosing.fitting(method, query)
    allowed = snapshot.eligible(request.filter, choosing.exclusions(request))
    notices += unseen_notices(allowed)
    core_rows = _core(runtime, snapshot, request, k)
    core_rows = core_rows[allowed.mask[core_rows]]
    near = choosing.with_min_score(snapshot, query, allowed, request.min_score)
    eligible = choosing.without(near, core_rows)
    searched = time.perf_counter()
    choice = choosing.choose(snapshot, query, eligible, method, request, k - len(core_rows))
    selected = time.perf_counter()

    stable, dynamic, dropped = assembly.fitted(
        runtime,
        _chosen(store, runtime, snapshot, query, _core_choice(snapshot, query, core_rows), is_stable=True),
        _chosen(store, runtime, snapshot, query, choice, is_stable=False),
        packing,
        request.max_tokens,
        lambda picks: assembly.ordered(runtime, snapshot, picks, order, request.seed),
    )
    chosen = [*stable, *dynamic]
    notices += _notices(chosen, k, len(allowed.rows), len(dropped))
    frame = _frame(runtime, snapshot, request)
    explanation = None
    if request.explain:
        explanation = _explanation(runtime, method, allowed, choice, dropped, snapshot, store, k)
    finished = time.perf_counter()
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
        ),
        set=assembly.statistics(snapshot, chosen),
        prefix_hash=_prefix_hash(runtime, frame.system if frame else None, stable),
        timing_ms={
            "embed": milliseconds(clock.started, clock.embedded),
            "filter": milliseconds(clock.embedded, searched),
            "select": milliseconds(searched, selected),
            "assemble": milliseconds(selected, finished),
            "total": milliseconds(clock.started, finished),
        },
        abstained=not chosen and not len(near.rows) and len(allowed.rows) > 0,
        warnings=notices,
        frame=frame,
        explain=explanation,
    )
    return Answer(reply, chosen, method, request)


def _with_defaults(
    runtime: PoolRuntime, request: SelectRequest
) -> tuple[SelectRequest, int, OrderName | RandomOrder, PackingName]:
    defaults = runtime.settings.select
    k = defaults.k if request.k is None else request.k
    order, packing = request.order or defaults.order, request.packing or defaults.packing
    return request.model_copy(update={"k": k, "order": order, "packing": packing}), k, order, packing


def _core(runtime: PoolRuntime, snapshot: Snapshot, request: SelectRequest, k: int) -> Int64s:
    if request.stable is None:
        return np.empty(0, np.int64)
    if request.stable.k > k:
        message = f"received {request.stable.k}, allowed 1 to k = {k}"
        raise InvalidInput(f"/stable/k {message}", errors=[FieldError("/stable/k", message)])
    key = "" if request.filter is None else request.filter.model_dump_json(by_alias=True, exclude_none=True)
    # A query's own exclusions must not change the core of all the others: they only take rows out of it.
    everything = snapshot.eligible(request.filter, Exclusions())
    return runtime.cores.rows(key, snapshot, everything, request.stable.k)


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


def _load(store: Store, runtime: PoolRuntime, seqs: Sequence[int]) -> list[Shown]:
    examples = store.get_examples_by_seq(runtime.record.id, seqs)
    turns = [runtime.templates.turn(one.inputs, one.outputs, one.metadata) for one in examples]
    return [*map(Shown, examples, turns, assembly.measured(runtime, turns))]


def _explanation(
    runtime: PoolRuntime,
    method: Method,
    allowed: Eligible,
    choice: Choice,
    dropped: list[Chosen],
    snapshot: Snapshot,
    store: Store,
    k: int,
) -> Explanation:
    rejected = [
        Rejected(id=one.example.id, score=one.score, reason="max_tokens: picked, but it did not fit")
        for one in dropped
    ]
    seq_to_score = {int(snapshot.seqs[row]): score for row, score in choice.runners_up}
    for example in store.get_examples_by_seq(runtime.record.id, list(seq_to_score)):
        reason = f"k: {method.name} picks it when {k + RUNNERS_UP} are wanted"
        rejected.append(Rejected(id=example.id, score=seq_to_score[example.seq], reason=reason))
    return Explanation(
        method=method.name,
        params=parameters(method),
        diagnostics=dict(choice.diagnostics),
        filter_matched=allowed.filter_matched,
        excluded=allowed.excluded,
        rejected=rejected,
    )


def parameters(method: Method) -> dict[str, Any]:
    """Return every hyper-parameter that the method ran with."""
    selector: Any = method.selector  # a dataclass by contract
    return asdict(selector)


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


def _prefix_hash(runtime: PoolRuntime, system: str | None, stable: list[Chosen]) -> str | None:
    if not stable:
        return None
    parts = [system or "", *(one.turn.text for one in stable)]
    return hashlib.sha256(runtime.templates.separator.join(parts).encode()).hexdigest()[:16]


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
