"""The second half of `select`: one of the arrangements, explained, in its wire form."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

from kshot.index.candidates import QueryFeatures
from kshot.index.store import Store
from kshot.schemas.base import Notice
from kshot.schemas.selections import SelectionReply, SelectRequest, Usage
from kshot.server.services import assembly, prefix
from kshot.server.services.assembly import Chosen
from kshot.server.services.choosing import Choice, Method
from kshot.server.services.drafting import Draft, milliseconds
from kshot.server.services.explaining import explain, left_out_reasons
from kshot.server.services.gaps import best_similarity, gap_notices
from kshot.server.services.runtime import PoolRuntime
from kshot.server.services.weighing import Verdict

NEAR_IDENTICAL = 0.98


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


def finished(
    store: Store,
    runtime: PoolRuntime,
    draft: Draft,
    verdict: Verdict | None = None,
    *,
    cluster: str | None = None,
    asked: QueryFeatures | None = None,
) -> Answer:
    """Describe a draft's arrangement: the one of the verdict, or the first. Safe in any thread.

    ``cluster`` names the example whose features the draft's query holds, where that is not the query itself,
    which is ``asked``.
    """
    resumed = time.perf_counter()
    snapshot, request, choice, clock = draft.snapshot, draft.request, draft.choice, draft.clock
    notices = list(draft.notices)
    if verdict is not None:
        choice = replace(choice, diagnostics={**choice.diagnostics, **verdict.diagnostics})
        notices += [] if verdict.notice is None else [verdict.notice]
    made = draft.arrangements[0 if verdict is None else verdict.place]
    chosen = made.chosen
    missing = len(made.dropped) + choice.without_room
    wanted = draft.k if request.adaptive is None else len(chosen) + missing
    notices += _notices(chosen, wanted, len(draft.allowed.rows), missing)
    gap_below = runtime.settings.select.gap_below
    at_hand = _at_hand(choice, made.stable, asked)
    best = best_similarity(snapshot, asked or draft.query, draft.allowed, at_hand, gap_below)
    notices += gap_notices(best, gap_below)
    system = None if draft.frame is None else draft.frame.system
    block_tokens = None if request.stable is None else request.stable.block_tokens
    begins = prefix.described(runtime, system, made.stable, block_tokens)
    explanation = None
    if request.explain:
        left_out = left_out_reasons(made.dropped, made.cut, request.adaptive)
        explanation = explain(
            store,
            runtime,
            snapshot,
            asked or draft.query,
            draft.method,
            draft.allowed,
            choice,
            chosen,
            left_out,
            draft.k,
        )
    end = time.perf_counter()
    score_ms = milliseconds(draft.drafted, resumed)
    # What the scorer took is no fault of the method's.
    own_ms = milliseconds(clock.embedded, end) - score_ms
    runtime.pace.took(draft.method.name, own_ms, exact=request.exact)
    reply = SelectionReply(
        selection_id=str(uuid4()),
        pool=runtime.record.name,
        pool_version=snapshot.version,
        method=draft.method.name,
        demonstrations=assembly.demonstrations(chosen, rendered=not runtime.templates.is_default),
        usage=Usage(
            tokens=sum(one.tokens for one in chosen),
            estimated=not runtime.tokenizer.exact,
            eligible=len(draft.near.rows),
            candidates=choice.candidates,
            prefix_tokens=begins.tokens,
            cacheable_tokens=begins.cacheable,
        ),
        set=assembly.statistics(snapshot, chosen),
        prefix_hash=begins.hash,
        timing_ms={
            "embed": milliseconds(clock.started, clock.embedded),
            "filter": milliseconds(clock.embedded, draft.searched),
            "select": milliseconds(draft.searched, draft.selected),
            **({} if verdict is None else {"score": score_ms}),
            "assemble": round(milliseconds(draft.selected, end) - score_ms, 3),
            "total": milliseconds(clock.started, end),
        },
        exactness=choice.exactness.value,
        degraded=draft.late or (verdict is not None and verdict.degraded),
        abstained=not chosen and not len(draft.near.rows) and len(draft.allowed.rows) > 0,
        warnings=notices,
        curve=made.curve,
        cluster=cluster,
        frame=draft.frame,
        explain=explanation,
    )
    return Answer(reply, chosen, draft.method, request, best)


def _at_hand(choice: Choice, stable: Sequence[Chosen], asked: QueryFeatures | None) -> list[float]:
    """Collect what is known of the cosines to the query; those to another one do not count."""
    if asked is not None:
        return []
    cosines = [choice.nearest, *(one.similarity for one in stable)]
    return [cosine for cosine in cosines if cosine is not None]


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
