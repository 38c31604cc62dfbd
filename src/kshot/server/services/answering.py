"""The synchronous half of `select`: from features and a snapshot to a finished reply."""

import hashlib
import time
from dataclasses import asdict, dataclass
from typing import Any
from uuid import uuid4

import numpy as np

from kshot.arrays import Int64s
from kshot.errors import FieldError, InvalidInput
from kshot.index.candidates import QueryFeatures, similarities
from kshot.index.snapshot import Eligible, Exclusions, Snapshot
from kshot.index.store import Store
from kshot.schemas.base import Notice
from kshot.schemas.selections import (
    Explanation,
    Frame,
    Rejected,
    SelectionReply,
    SelectRequest,
    Usage,
)
from kshot.server.services import assembly, choosing
from kshot.server.services.assembly import Chosen
from kshot.server.services.choosing import NEAR_IDENTICAL, Choice, Method
from kshot.server.services.runtime import PoolRuntime

_SHOWN_LABELS = 500


@dataclass(frozen=True, slots=True)
class Clock:
    """When a request came in and when its query was embedded; readings of `time.perf_counter`."""

    started: float
    embedded: float


@dataclass(frozen=True, slots=True)
class Answer:
    """A selection as made, and its wire form."""

    reply: SelectionReply
    chosen: list[Chosen]


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
    defaults = runtime.settings.select
    k = request.k if request.k is not None else defaults.k
    method, notices = choosing.fitting(method, snapshot, query)
    allowed = snapshot.eligible(request.filter, choosing.exclusions(request))
    notices += unseen_notices(allowed)
    core_rows = _core(runtime, snapshot, request, k)
    core_rows = core_rows[allowed.mask[core_rows]]
    near = choosing.with_min_score(snapshot, query, allowed, request.min_score)
    eligible = choosing.without(near, core_rows)
    searched = time.perf_counter()
    choice = choosing.choose(snapshot, query, eligible, method, request, k - len(core_rows))
    selected = time.perf_counter()

    core_choice = Choice(core_rows, *(similarities(snapshot, query, core_rows),) * 2, len(core_rows), {})
    stable = _chosen(store, runtime, snapshot, query, core_choice, is_stable=True)
    dynamic = _chosen(store, runtime, snapshot, query, choice, is_stable=False)
    policy = request.packing or defaults.packing
    stable, dynamic, dropped = assembly.packed(runtime, stable, dynamic, policy, request.max_tokens)
    tail = assembly.ordered(runtime, snapshot, dynamic, request.order or defaults.order, request.seed)
    chosen = [*stable, *tail]
    notices += _notices(chosen, k, len(allowed.rows), dropped)
    abstained = not chosen and request.min_score is not None and len(allowed.rows) > 0
    frame = _frame(runtime, snapshot, request)
    selection_id = str(uuid4())
    finished = time.perf_counter()
    reply = SelectionReply(
        selection_id=selection_id,
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
        abstained=abstained,
        warnings=notices,
        frame=frame,
        explain=_explanation(runtime, method, allowed, choice, dropped, snapshot, store)
        if request.explain
        else None,
    )
    return Answer(reply, chosen)


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
    seq_to_place = {seq: place for place, seq in enumerate(snapshot.seqs[rows].tolist())}
    examples = store.get_examples_by_seq(runtime.record.id, list(seq_to_place))
    cosines = None if query.vector is None else similarities(snapshot, query, rows).tolist()
    turns = [runtime.templates.turn(one.inputs, one.outputs, one.metadata) for one in examples]
    chosen = []
    for example, turn, tokens in zip(examples, turns, assembly.measured(runtime, turns), strict=True):
        place = seq_to_place[example.seq]
        row = int(rows[place])
        chosen.append(
            Chosen(
                row=row,
                example=example,
                turn=turn,
                tokens=tokens,
                score=float(choice.scores[place]),
                gain=float(choice.gains[place]),
                similarity=None if cosines is None else cosines[place],
                label=assembly.label_of(snapshot, row),
                is_stable=is_stable,
            )
        )
    return chosen


def _explanation(
    runtime: PoolRuntime,
    method: Method,
    allowed: Eligible,
    choice: Choice,
    dropped: list[Chosen],
    snapshot: Snapshot,
    store: Store,
) -> Explanation:
    rejected = [
        Rejected(id=one.example.id, score=one.score, reason="max_tokens: picked, but it did not fit")
        for one in dropped
    ]
    seq_to_score = {int(snapshot.seqs[row]): score for row, score in choice.runners_up}
    for example in store.get_examples_by_seq(runtime.record.id, list(seq_to_score)):
        reason = f"k: {method.name} would have picked it next"
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


def _notices(chosen: list[Chosen], k: int, eligible: int, dropped: list[Chosen]) -> list[Notice]:
    notices = []
    if not eligible:
        notices.append(Notice(code="no_eligible", message="no example passes the filter and the exclusions"))
    elif len(chosen) + len(dropped) < k:
        found = len(chosen) + len(dropped)
        notices.append(Notice(code="fewer_than_k", message=f"{found} of {k} demonstrations could be chosen"))
    if dropped:
        notices.append(Notice(code="max_tokens", message=f"{len(dropped)} picks did not fit into max_tokens"))
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
