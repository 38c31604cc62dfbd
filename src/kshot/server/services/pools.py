"""Pools: create, list, change, delete, count."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np

from kshot.clients.embedders.base import check_token_layer
from kshot.clients.tokenizers import build_tokenizer
from kshot.errors import (
    Conflict,
    FieldError,
    KshotError,
    PoolExists,
    PoolNotFound,
    Unavailable,
)
from kshot.index.store import Store
from kshot.records import Pool
from kshot.schemas.pools import PoolCreate, PoolInfo, PoolList, PoolPatch, PoolSettings, PoolStats
from kshot.server.metrics import Metrics
from kshot.server.selectors_schema import build_selector
from kshot.server.services.auto_method import AUTO
from kshot.server.services.auto_method import checked as checked_auto
from kshot.server.services.gaps import count_gaps
from kshot.server.services.health import HealthCache
from kshot.server.services.indexing import Indexer, Stopped
from kshot.server.services.jobs import REEMBED, JobRunner
from kshot.server.services.reembedding import Reembedding
from kshot.server.services.registry import Embedders, PoolRegistry
from kshot.server.services.runtime import settings_of
from kshot.server.services.templates import PoolTemplates
from kshot.server.validation import refusal

FEATURE_SETTINGS = ("embedder", "embed_template", "token_layer")
"""Settings whose change makes every stored vector stale."""
_MAX_LABELS = 500


class PoolService:
    """The routes' view of pools."""

    def __init__(
        self,
        store: Store,
        registry: PoolRegistry,
        embedders: Embedders,
        indexer: Indexer,
        reembedding: Reembedding,
        jobs: JobRunner,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._registry = registry
        self._embedders = embedders
        self._indexer = indexer
        self._reembedding = reembedding
        self._jobs = jobs
        self._metrics = metrics
        self._health = HealthCache()

    async def create(self, body: PoolCreate) -> PoolInfo:
        """Create a pool, its embedder ready."""
        return await asyncio.to_thread(self._create, body)

    async def list(self, cursor: str | None, limit: int) -> PoolList:
        """Return a page of pools in alphabetical order; the cursor is the last name seen."""
        return await asyncio.to_thread(self._list, cursor, limit)

    async def get(self, name: str) -> PoolInfo:
        """Return one pool."""
        return await asyncio.to_thread(lambda: self._info(self._store.get_pool(name)))

    async def patch(self, name: str, body: PoolPatch) -> PoolInfo:
        """Change settings; a change that makes vectors stale starts a job and holds when the job is done."""
        return await asyncio.to_thread(self.change, name, body)

    async def delete(self, name: str) -> None:
        """Delete a pool with its examples, selections and files; `Conflict` if policies embed as it does."""
        await asyncio.to_thread(self._delete, name)

    async def stats(self, name: str, *, health: bool) -> PoolStats:
        """Count a pool's examples; ``health`` also looks for what may be wrong with them."""
        return await asyncio.to_thread(self._stats, name, health=health)

    def _create(self, body: PoolCreate) -> PoolInfo:
        try:
            self._store.get_pool(body.name)
        except PoolNotFound:
            pass
        else:
            raise PoolExists(f"pool {body.name!r} exists already")
        self._check(body.settings)
        embedder, _ = self._embedders.get(body.settings.embedder)
        record = self._store.create_pool(body.name, body.settings.model_dump(mode="json"))
        try:
            record = self._store.set_pool_embedder(record.id, embedder.fingerprint, embedder.dimension)
            self._registry.install(self._registry.open(record))
        except BaseException:
            self._store.delete_pool(body.name)
            raise
        return self._info(record)

    def _list(self, cursor: str | None, limit: int) -> PoolList:
        records = sorted(self._store.list_pools(), key=lambda record: record.name)
        later = [record for record in records if cursor is None or record.name > cursor]
        page = later[:limit]
        more = page[-1].name if len(later) > limit else None
        return PoolList(data=[self._info(record) for record in page], next_cursor=more)

    def change(self, name: str, body: PoolPatch) -> PoolInfo:
        """Change settings as `patch` does, in the calling thread."""
        # This may load a model, for which nobody should wait at the lock.
        self._check(settings_of(self._store.get_pool(name), body.settings))
        with self._registry.settings_lock:
            record = self._store.get_pool(name)
            new = settings_of(record, body.settings)
            if not self._makes_stale(record, new, body):
                return self._info(self._take_over(record, new))
            self._check_vectors(record, new)
        settings = new.model_dump(mode="json")
        changed = {key: settings[key] for key in body.settings}
        if not self._store.count_live(record.id):
            try:
                self._reembedding.run(record.id, changed)
            except Stopped:
                raise Unavailable("the server is shutting down") from None
            return self._info(self._store.get_pool(name))
        job = self._jobs.submit(REEMBED, record.id, {"settings": changed})
        return self._info(record).model_copy(update={"job_id": job.id})

    def _makes_stale(self, record: Pool, new: PoolSettings, body: PoolPatch) -> bool:
        """Tell whether stored vectors do not fit the new settings.

        Raises
        ------
        Conflict
            A job that embeds the pool anew is under way: its settings and these contradict each other.
        """
        touched = [field for field in FEATURE_SETTINGS if field in body.settings]
        if not touched:
            return False
        job = self._jobs.unfinished(record.id, REEMBED)
        if job is not None:
            raise Conflict(
                f"job {job.id} embeds pool {record.name!r} anew; wait for it or cancel it to change "
                f"{' and '.join(touched)}",
                errors=[FieldError(f"/settings/{touched[0]}", f"job {job.id} is under way", "conflict")],
            )
        runtime = self._registry.find(record.name)
        if runtime is None or runtime.mismatch is not None:
            return True
        return any(getattr(runtime.settings, field) != getattr(new, field) for field in touched)

    def _take_over(self, record: Pool, new: PoolSettings) -> Pool:
        """Store and use settings that change no stored vector; the caller holds the settings' lock."""
        record = self._store.update_pool_settings(record.name, new.model_dump(mode="json"))
        runtime = self._registry.find(record.name)
        if runtime is None:
            self._reopen(record)
            return record
        self._registry.install(runtime.with_settings(record))
        if runtime.settings.label_field != new.label_field:
            self._indexer.relabel(record.name)
        return record

    def _reopen(self, record: Pool) -> None:
        """Try again to open a pool that could not be opened; its settings may have been the reason."""
        with suppress(KshotError):
            runtime = self._registry.open(record)
            self._indexer.recover(runtime)
            self._registry.install(runtime)
            self._indexer.notify(record.name)

    def _check_vectors(self, record: Pool, new: PoolSettings) -> None:
        """Refuse the external embedder, or another dimension, where examples came without such vectors."""
        is_other = record.settings["embedder"] != new.embedder.model_dump(mode="json")
        if is_other and new.embedder.type == "external" and self._store.count_live(record.id):
            message = "cannot become external or change its dimension while the pool holds examples"
            raise refusal([FieldError("/settings/embedder", message)])

    def _delete(self, name: str) -> None:
        record = self._store.get_pool(name)
        if users := self._store.policies_over_pool(name):
            named = ", ".join(users)
            raise Conflict(
                f"pool {name!r} makes the features of policies: {named}; give them another context first"
            )
        self._jobs.cancel_all(record.id)
        self._store.delete_pool(name)
        self._registry.remove(record)
        self._indexer.forget(record)
        self._metrics.forget_pool(name)

    def _info(self, record: Pool) -> PoolInfo:
        runtime = self._registry.find(record.name)
        snapshot = None if runtime is None else runtime.index.snapshot
        dimension = record.dimension
        if dimension is None and snapshot is not None and snapshot.dense is not None:
            dimension = snapshot.dense.vectors.shape[1]
        return PoolInfo(
            name=record.name,
            settings=settings_of(record),
            embedder_fingerprint=record.embedder_fingerprint,
            dimension=dimension,
            version=record.version,
            examples=self._store.count_live(record.id),
            indexed_version=0 if snapshot is None else snapshot.version,
            created_at=record.created_at,
            updated_at=record.updated_at,
        )

    def _stats(self, name: str, *, health: bool) -> PoolStats:
        runtime = self._registry.get(name)
        snapshot = runtime.index.snapshot
        info = self._info(self._store.get_pool(name))
        selections, gaps = count_gaps(self._store, runtime)

        def counts(field: str, most: int | None = None) -> dict[str, int]:
            column = snapshot.field_to_column.get(field)
            found = {} if column is None else column.counts(snapshot.live)
            return {str(value): count for value, count in list(found.items())[:most]}

        return PoolStats(
            name=name,
            version=info.version,
            indexed_version=snapshot.version,
            examples=info.examples,
            pending=max(0, info.examples - snapshot.examples),
            truncated=int(np.count_nonzero(snapshot.truncated & snapshot.live)),
            by_status=counts("status"),
            by_split=counts("split"),
            by_label=counts("label", _MAX_LABELS),
            dimension=info.dimension,
            token_vectors=0 if snapshot.tokens is None else snapshot.tokens.count,
            segments=runtime.index.segments,
            disk_bytes=runtime.index.disk_bytes,
            vector_index="empty" if snapshot.dense is None else snapshot.dense.kind,
            selections=selections,
            gaps=gaps,
            health=self._health.get(runtime.record.id, snapshot) if health else None,
        )

    def _check(self, settings: PoolSettings) -> None:
        """Refuse settings that would fail later: templates, tokenizer, embedder, methods, parameters.

        Raises
        ------
        KshotError
            What is wrong, with a pointer into the settings.
        """
        PoolTemplates(settings)
        with _pointing_at("/settings/tokenizer"):
            build_tokenizer(settings.tokenizer)
        with _pointing_at("/settings/embedder"):
            embedder, _ = self._embedders.get(settings.embedder)
        with _pointing_at("/settings/token_layer"):
            check_token_layer(settings.token_layer, embedder.token_layers)
        with _pointing_at("/settings/select/method"):
            if settings.select.method == AUTO:
                checked_auto(settings.select.params.get(AUTO, {}))
            else:
                build_selector(settings.select.method, {})
        for method, params in settings.select.params.items():
            with _pointing_at(f"/settings/select/params/{method}"):
                if method == AUTO:
                    checked_auto(params)
                else:
                    build_selector(method, params)


@contextmanager
def _pointing_at(pointer: str) -> Iterator[None]:
    """Say in which setting the cause of an exception stands."""
    try:
        yield
    except KshotError as error:
        inner = [
            FieldError(pointer + item.pointer.removeprefix("/method"), item.message, item.code)
            for item in error.errors
        ]
        error.errors = tuple(inner) or (FieldError(pointer, error.message),)
        raise
