"""Pools: create, list, change, delete, count."""

import asyncio

import numpy as np

from kshot.clients.embedders.base import check_token_layer
from kshot.clients.tokenizers import build_tokenizer
from kshot.errors import FieldError, InvalidParameter, PoolExists, PoolNotFound, UnknownSelector
from kshot.index.store import Store
from kshot.records import Pool
from kshot.schemas.pools import PoolCreate, PoolInfo, PoolList, PoolPatch, PoolSettings, PoolStats
from kshot.server.selectors_schema import build_selector
from kshot.server.services.jobs import JobRunner
from kshot.server.services.runtime import Embedders, PoolRegistry
from kshot.server.services.templates import PoolTemplates
from kshot.server.validation import validated

FEATURE_SETTINGS = ("embedder", "embed_template", "token_layer")
"""Settings whose change makes every stored vector stale."""
_MAX_LABELS = 500


class PoolService:
    """The routes' view of pools."""

    def __init__(self, store: Store, registry: PoolRegistry, embedders: Embedders, jobs: JobRunner) -> None:
        self._store = store
        self._registry = registry
        self._embedders = embedders
        self._jobs = jobs

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
        return await asyncio.to_thread(self._patch, name, body)

    async def delete(self, name: str) -> None:
        """Delete a pool with its examples, selections and files."""
        await asyncio.to_thread(self._delete, name)

    async def stats(self, name: str) -> PoolStats:
        """Count a pool's examples."""
        return await asyncio.to_thread(self._stats, name)

    def _create(self, body: PoolCreate) -> PoolInfo:
        try:
            self._store.get_pool(body.name)
        except PoolNotFound:
            pass
        else:
            raise PoolExists(f"pool {body.name!r} exists already")
        check_settings(body.settings)
        embedder, _ = self._embedders.get(body.settings.embedder)
        check_token_layer(body.settings.token_layer, embedder.token_layers)
        record = self._store.create_pool(body.name, body.settings.model_dump(mode="json"))
        record = self._store.set_pool_embedder(record.id, embedder.fingerprint, embedder.dimension)
        self._registry.open(record)
        return self._info(record)

    def _list(self, cursor: str | None, limit: int) -> PoolList:
        records = sorted(self._store.list_pools(), key=lambda record: record.name)
        later = [record for record in records if cursor is None or record.name > cursor]
        page = later[:limit]
        more = page[-1].name if len(later) > limit else None
        return PoolList(data=[self._info(record) for record in page], next_cursor=more)

    def _patch(self, name: str, body: PoolPatch) -> PoolInfo:
        record = self._store.get_pool(name)
        old = PoolSettings.model_validate(record.settings)
        merged = {**old.model_dump(mode="json"), **body.settings}
        new = validated(PoolSettings, merged, prefix="/settings")
        check_settings(new)
        stale = any(getattr(old, field) != getattr(new, field) for field in FEATURE_SETTINGS)
        if not stale:
            record = self._store.update_pool_settings(name, new.model_dump(mode="json"))
            runtime = self._registry.get(name)
            runtime.reconfigure(record)
            if old.label_field != new.label_field:
                self._jobs.indexer.relabel(runtime)
            return self._info(record)
        embedder, _ = self._embedders.get(new.embedder)
        check_token_layer(new.token_layer, embedder.token_layers)
        job = self._jobs.submit("reembed", record.id, {"settings": new.model_dump(mode="json")})
        return self._info(record).model_copy(update={"job_id": job.id})

    def _delete(self, name: str) -> None:
        record = self._store.get_pool(name)
        self._store.delete_pool(name)
        self._registry.remove(name, record.id)

    def _info(self, record: Pool) -> PoolInfo:
        runtime = self._registry.find(record.name)
        return PoolInfo(
            name=record.name,
            settings=PoolSettings.model_validate(record.settings),
            embedder_fingerprint=record.embedder_fingerprint,
            dimension=record.dimension,
            version=record.version,
            examples=self._store.count_live(record.id),
            indexed_version=0 if runtime is None else runtime.index.snapshot.version,
            created_at=record.created_at,
            updated_at=record.updated_at,
        )

    def _stats(self, name: str) -> PoolStats:
        record = self._store.get_pool(name)
        runtime = self._registry.get(name)
        snapshot = runtime.index.snapshot
        live = self._store.count_live(record.id)

        def counts(field: str, most: int | None = None) -> dict[str, int]:
            column = snapshot.field_to_column.get(field)
            found = {} if column is None else column.counts(snapshot.live)
            return {str(value): count for value, count in list(found.items())[:most]}

        return PoolStats(
            name=name,
            version=record.version,
            indexed_version=snapshot.version,
            examples=live,
            pending=live - snapshot.examples,
            truncated=int(np.count_nonzero(snapshot.truncated & snapshot.live)),
            by_status=counts("status"),
            by_split=counts("split"),
            by_label=counts("label", _MAX_LABELS),
            dimension=record.dimension,
            token_vectors=0 if snapshot.tokens is None else snapshot.tokens.count,
            segments=runtime.index.segments,
            disk_bytes=runtime.index.disk_bytes,
            vector_index="empty" if snapshot.dense is None else snapshot.dense.kind,
        )


def check_settings(settings: PoolSettings) -> None:
    """Refuse settings that would fail later: templates, tokenizer, default method and its parameters.

    Raises
    ------
    InvalidTemplate, InvalidParameter, UnknownSelector
        What is wrong, with a pointer into the settings.
    """
    PoolTemplates(settings)
    build_tokenizer(settings.tokenizer)
    build_selector(settings.select.method, settings.select.params.get(settings.select.method, {}))
    for method, params in settings.select.params.items():
        try:
            build_selector(method, params)
        except (InvalidParameter, UnknownSelector) as error:
            pointer = f"/settings/select/params/{method}"
            raise InvalidParameter(
                f"{pointer}: {error.message}", errors=[FieldError(pointer, error.message)]
            ) from None
