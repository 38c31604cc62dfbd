"""`select`, `search` and `render`: the hot path."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from kshot.errors import FieldError, KshotError, Overloaded, PoolNotFound, SelectionNotFound
from kshot.index.candidates import QueryFeatures
from kshot.index.store import Store
from kshot.records import Selection
from kshot.schemas.gaps import GapList
from kshot.schemas.selections import (
    BatchItem,
    BatchReply,
    BatchRequest,
    RenderReply,
    RenderRequest,
    SearchReply,
    SearchRequest,
    SelectionReply,
    SelectRequest,
    StoredDemonstration,
    StoredSelection,
)
from kshot.server.logs import get_logger
from kshot.server.metrics import Metrics
from kshot.server.problems import problem
from kshot.server.services.answering import Answer, finished
from kshot.server.services.auto_method import Decides, choose
from kshot.server.services.choosing import Method
from kshot.server.services.clusters import cluster_features
from kshot.server.services.drafting import Clock, Draft, asks_scorer, drafted, milliseconds
from kshot.server.services.explaining import parameters
from kshot.server.services.gaps import GAP, list_gaps
from kshot.server.services.queries import cheaper_methods, method_of, query_features, require_vector
from kshot.server.services.registry import PoolRegistry
from kshot.server.services.rendering import rendered
from kshot.server.services.runtime import PoolRuntime
from kshot.server.services.scoring.service import ScoringService
from kshot.server.services.searching import neighbours
from kshot.server.services.selection_log import SelectionLog
from kshot.server.services.weighing import Questions, Verdict, questions, weighed
from kshot.server.validation import refusal, validated

T = TypeVar("T")
log = get_logger(__name__)
_BATCH_CONCURRENCY = 16
_FINISH_MS = 5.0
"""What is kept of a deadline for what follows the scorer's answer."""


class SelectionService:
    """The routes' view of selections.

    A request is answered from one immutable snapshot in a worker thread; at most ``concurrency`` run at once
    and ``queue`` more wait. As many may wait for the scorer, without a thread; one of them may ask it for
    ``scorer_tokens`` prompt tokens.
    """

    def __init__(
        self,
        store: Store,
        registry: PoolRegistry,
        selection_log: SelectionLog,
        metrics: Metrics,
        scoring: ScoringService,
        decisions: Decides,
        *,
        concurrency: int,
        queue: int,
        scorer_tokens: int,
    ) -> None:
        self._store = store
        self._registry = registry
        self._log = selection_log
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="kshot-select")
        self._scoring = scoring
        self._decisions = decisions
        self._scorer_tokens = scorer_tokens
        self._room = concurrency + queue
        self._running = 0
        self._weighing = 0

    def close(self) -> None:
        """Wait for running selections."""
        self._threads.shutdown()

    async def select(self, pool: str, request: SelectRequest) -> SelectionReply:
        """Return the best set for one query."""
        return (await self._select(self._registry.get(pool), request)).reply

    async def select_batch(self, pool: str, request: BatchRequest) -> BatchReply:
        """Answer many queries; one that is refused fails alone."""
        runtime = self._registry.get(pool)
        gate = asyncio.Semaphore(min(_BATCH_CONCURRENCY, self._room))

        async def one(value: Any) -> BatchItem:
            async with gate:
                try:
                    made = await self._select(runtime, validated(SelectRequest, value))
                except Exception as error:
                    if not isinstance(error, KshotError):
                        log.exception("batch_item_failed", pool=pool)
                    return BatchItem(error=problem(error).model_dump(mode="json", exclude_none=True))
                return BatchItem(selection=made.reply)

        return BatchReply(results=await asyncio.gather(*(one(value) for value in request.queries)))

    async def search(self, pool: str, request: SearchRequest) -> SearchReply:
        """Return the plain nearest neighbours."""
        started = time.perf_counter()
        runtime = self._registry.get(pool)
        runtime.check_embedder()
        query = await query_features(runtime, request)
        require_vector(query)
        clock = Clock(started, time.perf_counter())
        return await self._in_thread(lambda: neighbours(self._store, runtime, query, request, clock))

    async def render(self, pool: str, request: RenderRequest) -> RenderReply:
        """Select, and put the result into a prompt."""
        inputs = request.inputs
        if inputs is None:
            raise refusal([FieldError("/inputs", "is missing", "missing")])
        runtime = self._registry.get(pool)
        made = await self._select(runtime, request)
        return await self._in_thread(lambda: rendered(runtime, request, inputs, made))

    async def get(self, selection_id: str) -> StoredSelection:
        """Return a recorded selection."""
        return await asyncio.to_thread(self._get, selection_id)

    async def gaps(self, pool: str, *, below: float | None, cursor: str | None, limit: int) -> GapList:
        """Return a page of the queries to which nothing in the pool comes close, the worst first."""
        runtime = self._registry.get(pool)
        return await asyncio.to_thread(list_gaps, self._store, runtime, below, cursor, limit)

    async def _select(self, runtime: PoolRuntime, request: SelectRequest) -> Answer:
        started = time.perf_counter()
        pool = runtime.record.name
        try:
            runtime.check_embedder()
            auto = await choose(self._decisions, runtime, request)
            if auto is not None:
                request = auto.request
            method = method_of(runtime, request)
            if asks_scorer(runtime, method, request) is not None:
                self._scoring.require_configured()
            query = await query_features(runtime, request)
            cluster = asked = None
            if request.sticky is not None:
                asked = query
                query, cluster = await cluster_features(self._store, runtime, asked, request.sticky.clusters)
            clock = Clock(started, time.perf_counter())
            made = await self._answer(runtime, method, query, request, clock, cluster, asked)
            if auto is not None:
                told = {
                    "selection_id": auto.selection_id,
                    "decision_id": auto.decision.decision_id,
                    "variant": auto.decision.variant,
                }
                made = replace(made, reply=made.reply.model_copy(update=told))
        except Exception:
            # Counted, and raised again.
            self._metrics.select_ended(pool, "error")
            raise
        self._metrics.select_timed(pool, made.reply.method, made.reply.timing_ms)
        self._metrics.select_ended(pool, _outcome(made.reply))
        if any(notice.code == GAP for notice in made.reply.warnings):
            self._metrics.gap_found(pool)
        self._log.add(_to_record(runtime, made))
        if request.durable:
            await self._log.flushed()
        return made

    async def _answer(
        self,
        runtime: PoolRuntime,
        method: Method,
        query: QueryFeatures,
        request: SelectRequest,
        clock: Clock,
        cluster: str | None,
        asked: QueryFeatures | None,
    ) -> Answer:
        """Draft and finish in one go, or with the scorer's answer in between."""
        store = self._store
        fallbacks = () if request.deadline_ms is None else cheaper_methods(runtime)

        def draft() -> tuple[Draft, Questions | None]:
            made = drafted(store, runtime, method, query, request, clock, fallbacks=fallbacks)
            return made, questions(store, runtime, made, self._scorer_tokens)

        def finish(made: Draft, verdict: Verdict | None = None) -> Answer:
            return finished(store, runtime, made, verdict, cluster=cluster, asked=asked)

        def at_once() -> Answer | tuple[Draft, Questions]:
            made, wanted = draft()
            return finish(made) if wanted is None else (made, wanted)

        first = await self._in_thread(at_once)
        if isinstance(first, Answer):
            return first
        made, wanted = first
        verdict = await self._weighed(made, wanted)
        return await self._in_thread(lambda: finish(made, verdict))

    async def _weighed(self, draft: Draft, wanted: Questions) -> Verdict:
        """Wait for the scorer, for as long as the deadline allows."""
        if self._weighing >= self._room:
            raise Overloaded(f"{self._weighing} selections wait for the scorer, allowed {self._room}")
        assert draft.mdl is not None
        left_ms = None
        if draft.request.deadline_ms is not None:
            passed_ms = milliseconds(draft.clock.started, time.perf_counter())
            left_ms = draft.request.deadline_ms - passed_ms - _FINISH_MS
        self._weighing += 1
        try:
            return await weighed(self._scoring, wanted, draft.mdl, left_ms)
        finally:
            self._weighing -= 1

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._running >= self._room:
            raise Overloaded(f"{self._running} selections run or wait, allowed {self._room}")
        self._running += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._running -= 1

    def _get(self, selection_id: str) -> StoredSelection:
        selection = self._log.find(selection_id) or self._store.get_selection(selection_id)
        try:
            pool = self._store.get_pool_by_id(selection.pool_id)
        except PoolNotFound:
            raise SelectionNotFound(f"selection {selection_id!r} went with its pool") from None
        return StoredSelection(
            selection_id=selection.id,
            pool=pool.name,
            pool_version=selection.pool_version,
            created_at=selection.created_at,
            method=selection.method,
            request=dict(selection.request),
            demonstrations=[StoredDemonstration.model_validate(one) for one in selection.demonstrations],
            query=selection.query,
            abstained=selection.abstained,
            best_similarity=selection.best_similarity,
        )


def _outcome(reply: SelectionReply) -> str:
    if reply.abstained:
        return "abstained"
    return "degraded" if reply.degraded else "ok"


def _to_record(runtime: PoolRuntime, made: Answer) -> Selection:
    shown = made.request.model_dump(
        mode="json",
        exclude={"inputs", "vector", "method", "explain", "durable"},
        exclude_defaults=True,
        by_alias=True,
    )
    return Selection(
        id=made.reply.selection_id,
        pool_id=runtime.record.id,
        pool_version=made.reply.pool_version,
        created_at=datetime.now(UTC),
        method=made.method.name,
        request={**shown, "params": parameters(made.method), "seed": made.request.seed},
        demonstrations=[
            {
                "id": one.example.id,
                "seq": one.example.seq,
                "score": one.score,
                "gain": one.gain,
                "part": "stable" if one.is_stable else "dynamic",
            }
            for one in made.chosen
        ],
        query=made.request.inputs if runtime.settings.store_queries == "full" else None,
        abstained=made.reply.abstained,
        best_similarity=made.best_similarity,
    )
