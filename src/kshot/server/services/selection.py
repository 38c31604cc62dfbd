"""`select`, `search` and `render`: the hot path."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, TypeVar

from kshot.arrays import Float32s, unit_rows
from kshot.errors import DimensionMismatch, FieldError, InvalidInput, InvalidShape, KshotError, Overloaded
from kshot.formatting import Prompt
from kshot.index.candidates import QueryFeatures
from kshot.index.store import Store
from kshot.records import Selection
from kshot.schemas.selections import (
    BatchItem,
    BatchReply,
    BatchRequest,
    Hit,
    Message,
    Query,
    RenderReply,
    RenderRequest,
    SearchReply,
    SearchRequest,
    SelectionReply,
    SelectRequest,
    StoredDemonstration,
    StoredSelection,
)
from kshot.server.metrics import Metrics
from kshot.server.problems import problem
from kshot.server.selectors_schema import build_selector
from kshot.server.services import choosing
from kshot.server.services.answering import Answer, Clock, answer, milliseconds, parameters, unseen_notices
from kshot.server.services.assembly import label_of
from kshot.server.services.choosing import Method
from kshot.server.services.registry import PoolRegistry
from kshot.server.services.runtime import PoolRuntime
from kshot.server.services.selection_log import SelectionLog
from kshot.server.validation import validated

T = TypeVar("T")
_BATCH_CONCURRENCY = 16


class SelectionService:
    """The routes' view of selections.

    A request is answered from one immutable snapshot in a worker thread; at most ``concurrency`` run at once
    and ``queue`` more wait.
    """

    def __init__(
        self,
        store: Store,
        registry: PoolRegistry,
        selection_log: SelectionLog,
        metrics: Metrics,
        *,
        concurrency: int,
        queue: int,
    ) -> None:
        self._store = store
        self._registry = registry
        self._log = selection_log
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="kshot-select")
        self._room = concurrency + queue
        self._running = 0

    def close(self) -> None:
        """Wait for running selections."""
        self._threads.shutdown()

    async def select(self, pool: str, request: SelectRequest) -> SelectionReply:
        """Return the best set for one query."""
        return (await self._select(pool, request)).reply

    async def select_batch(self, pool: str, request: BatchRequest) -> BatchReply:
        """Answer many queries; one that is refused fails alone."""
        self._registry.get(pool)
        gate = asyncio.Semaphore(min(_BATCH_CONCURRENCY, self._room))

        async def one(value: Any) -> BatchItem:
            async with gate:
                try:
                    return BatchItem(selection=await self.select(pool, validated(SelectRequest, value)))
                except KshotError as error:
                    return BatchItem(error=problem(error).model_dump(mode="json", exclude_none=True))

        return BatchReply(results=await asyncio.gather(*(one(value) for value in request.queries)))

    async def search(self, pool: str, request: SearchRequest) -> SearchReply:
        """Return the plain nearest neighbours."""
        started = time.perf_counter()
        runtime = self._registry.get(pool)
        query = await self._query_features(runtime, request)
        if query.vector is None:
            raise InvalidInput("search needs a query vector", errors=[FieldError("/vector", "is missing")])
        clock = Clock(started, time.perf_counter())
        return await self._in_thread(lambda: self._search(runtime, query, request, clock))

    async def render(self, pool: str, request: RenderRequest) -> RenderReply:
        """Select, and put the result into a prompt."""
        if request.inputs is None:
            raise InvalidInput("render needs inputs", errors=[FieldError("/inputs", "is missing", "missing")])
        made = await self._select(pool, request)
        runtime = self._registry.get(pool)
        return await self._in_thread(lambda: _render(runtime, request, made))

    async def get(self, selection_id: str) -> StoredSelection:
        """Return a recorded selection."""
        return await asyncio.to_thread(self._get, selection_id)

    async def _select(self, pool: str, request: SelectRequest) -> Answer:
        started = time.perf_counter()
        runtime = self._registry.get(pool)
        try:
            runtime.check_embedder()
            method = _method(runtime, request)
            query = await self._query_features(runtime, request)
            clock = Clock(started, time.perf_counter())
            made = await self._in_thread(lambda: answer(self._store, runtime, method, query, request, clock))
        except KshotError:
            self._metrics.select_ended(pool, "error")
            raise
        self._metrics.select_timed(pool, made.reply.method, made.reply.timing_ms)
        self._metrics.select_ended(pool, "abstained" if made.reply.abstained else "ok")
        self._log.add(_to_record(runtime, method, request, made))
        if request.durable:
            await self._log.flushed()
        return made

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._running >= self._room:
            raise Overloaded(f"{self._running} selections run or wait, allowed {self._room}")
        self._running += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._running -= 1

    async def _query_features(self, runtime: PoolRuntime, request: Query) -> QueryFeatures:
        external = runtime.settings.embedder.type == "external"
        if request.inputs is None and request.vector is None:
            raise InvalidInput(
                "a query has inputs, a vector, or both",
                errors=[FieldError("/inputs", "is missing", "missing")],
            )
        if request.vector is not None and not external:
            message = f"is not allowed: the pool's embedder is {runtime.settings.embedder.type}, not external"
            raise InvalidInput(f"/vector {message}", errors=[FieldError("/vector", message)])
        text = None if request.inputs is None else runtime.templates.embed_text(request.inputs)
        if external:
            vector = None if request.vector is None else _unit(request.vector, runtime.record.dimension)
            return QueryFeatures(vector, None, text)
        assert text is not None
        if not text.strip():
            raise InvalidInput(
                "/inputs gives an empty text to embed", errors=[FieldError("/inputs", "is empty")]
            )
        features = await runtime.encoder.encode_one(text, runtime.token_layer)
        tokens = None
        if features.tokens is not None and features.special is not None:
            tokens = features.tokens[~features.special]
        return QueryFeatures(features.vectors[0], tokens, text)

    def _search(
        self, runtime: PoolRuntime, query: QueryFeatures, request: SearchRequest, clock: Clock
    ) -> SearchReply:
        snapshot = runtime.index.snapshot
        eligible = snapshot.eligible(request.filter, choosing.exclusions(request))
        hits: list[Hit] = []
        if snapshot.dense is not None and query.vector is not None:
            near = snapshot.dense.search(query.vector, request.k, eligible.mask, eligible.rows)
            seq_to_hit = dict(
                zip(
                    snapshot.seqs[near.rows].tolist(),
                    zip(near.rows, near.similarities, strict=True),
                    strict=True,
                )
            )
            for example in self._store.get_examples_by_seq(runtime.record.id, list(seq_to_hit)):
                row, similarity = seq_to_hit[example.seq]
                hits.append(
                    Hit(
                        id=example.id,
                        similarity=float(similarity),
                        inputs=example.inputs,
                        outputs=example.outputs,
                        metadata=dict(example.metadata),
                        label=label_of(snapshot, int(row)),
                    )
                )
        finished = time.perf_counter()
        return SearchReply(
            pool=runtime.record.name,
            pool_version=snapshot.version,
            hits=hits,
            timing_ms={
                "embed": milliseconds(clock.started, clock.embedded),
                "total": milliseconds(clock.started, finished),
            },
            warnings=unseen_notices(eligible),
        )

    def _get(self, selection_id: str) -> StoredSelection:
        selection = self._log.find(selection_id) or self._store.get_selection(selection_id)
        pool = self._store.get_pool_by_id(selection.pool_id)
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
        )


def _method(runtime: PoolRuntime, request: SelectRequest) -> Method:
    """Join the request's method with the pool's defaults for it."""
    asked = request.method if request.method is not None else runtime.settings.select.method
    name, given = (asked, {}) if isinstance(asked, str) else (asked.type, dict(asked.model_extra or {}))
    params = {**runtime.settings.select.params.get(name, {}), **given}
    return Method(name, params, build_selector(name, params))


def _unit(vector: Sequence[float], dimension: int | None) -> Float32s:
    if dimension is not None and len(vector) != dimension:
        message = f"received {len(vector)} numbers, allowed {dimension}"
        raise DimensionMismatch(f"/vector {message}", errors=[FieldError("/vector", message)])
    try:
        unit: Float32s = unit_rows([vector])[0]
    except InvalidShape as error:
        raise InvalidInput(
            "/vector has length zero", errors=[FieldError("/vector", "has length zero")]
        ) from error
    return unit


def _to_record(runtime: PoolRuntime, method: Method, request: SelectRequest, made: Answer) -> Selection:
    shown = request.model_dump(
        mode="json", exclude={"inputs", "vector", "method"}, exclude_defaults=True, by_alias=True
    )
    return Selection(
        id=made.reply.selection_id,
        pool_id=runtime.record.id,
        pool_version=made.reply.pool_version,
        created_at=datetime.now(UTC),
        method=method.name,
        request={**shown, "params": parameters(method), "seed": request.seed},
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
        query=request.inputs if runtime.settings.store_queries == "full" else None,
        abstained=made.reply.abstained,
    )


def _render(runtime: PoolRuntime, request: RenderRequest, made: Answer) -> RenderReply:
    assert request.inputs is not None
    frame = made.reply.frame
    prompt = Prompt(
        turns=[one.turn for one in made.chosen],
        query=runtime.templates.query(request.inputs),
        system=None if frame is None else frame.system,
        separator=runtime.templates.separator,
    )
    text = prompt.text()
    tokens, estimated = int(runtime.tokenizer.count([text])[0]), not runtime.tokenizer.exact
    match request.format:
        case "text":
            return RenderReply(selection=made.reply, text=text, tokens=tokens, estimated=estimated)
        case "anthropic":
            messages = [Message.model_validate(one) for one in prompt.conversation(request.style)]
            return RenderReply(
                selection=made.reply,
                messages=messages,
                system=prompt.system,
                tokens=tokens,
                estimated=estimated,
            )
        case _:
            messages = [Message.model_validate(one) for one in prompt.messages(request.style)]
            return RenderReply(selection=made.reply, messages=messages, tokens=tokens, estimated=estimated)
