"""Open pools: what a pool needs at run time, joined once, and found by name."""

import asyncio
import hashlib
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

from kshot.clients.embedders.base import Embedder
from kshot.clients.embedders.factory import build_embedder
from kshot.clients.embedders.online import OnlineEncoder
from kshot.clients.tokenizers import Tokenizer, build_tokenizer
from kshot.errors import EmbedderMismatch, KshotError, PoolNotFound, Unavailable
from kshot.index.pool import PoolIndex
from kshot.index.sealing import load_base
from kshot.index.store import Store
from kshot.records import Pool, canonical_json
from kshot.schemas.pools import EmbedderSpec, PoolSettings
from kshot.server.logs import get_logger
from kshot.server.services.core import StableCores
from kshot.server.services.templates import PoolTemplates

log = get_logger(__name__)
_TEXTS_AT_ONCE = 1_000


class Embedders:
    """One embedder and one query encoder per distinct specification, shared by the pools that name it."""

    def __init__(self, *, threads: int | None, cache_dir: Path | None, query_cache_bytes: int) -> None:
        self._threads = threads
        self._cache_dir = cache_dir
        self._query_cache_bytes = query_cache_bytes
        self._lock = threading.Lock()
        self._key_to_pair: dict[str, tuple[Embedder, OnlineEncoder]] = {}

    def get(self, spec: EmbedderSpec) -> tuple[Embedder, OnlineEncoder]:
        """Return the embedder and its online front; building one may take long the first time."""
        key = spec.model_dump_json()
        with self._lock:
            pair = self._key_to_pair.get(key)
            if pair is None:
                embedder = build_embedder(spec, threads=self._threads, cache=self._cache_dir)
                pair = embedder, OnlineEncoder(embedder, cache_bytes=self._query_cache_bytes)
                self._key_to_pair[key] = pair
            return pair

    async def close(self) -> None:
        """Stop the encoders' threads and release the models."""
        with self._lock:
            pairs = list(self._key_to_pair.values())
            self._key_to_pair.clear()
        for embedder, encoder in pairs:
            await encoder.close()
            embedder.close()


class PoolRuntime:
    """A pool that is open: its record, settings, templates, embedder, tokenizer and index.

    Replaced as a whole when the pool is embedded anew. ``problem`` says why it cannot serve, if it cannot.
    """

    def __init__(self, record: Pool, store: Store, embedders: Embedders, pools_dir: Path) -> None:
        self.record = record
        self.settings = PoolSettings.model_validate(record.settings)
        self.templates = PoolTemplates(self.settings)
        self.tokenizer: Tokenizer = build_tokenizer(self.settings.tokenizer)
        self.embedder, self.encoder = embedders.get(self.settings.embedder)
        self.token_layer = _token_layer(self.settings, self.embedder)
        self.folder = _folder(pools_dir, record.id, self.settings, self.embedder)
        self.index = PoolIndex(self.folder / "segments", self.settings.label_field, self._load_texts)
        self.cores = StableCores()
        self._store = store
        self._waiters_lock = threading.Lock()
        self._waiters: list[tuple[int, asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self.indexing_problem: KshotError | None = None
        self.indexing_attempts = 0
        if self.index.dropped_segments:
            log.warning("segments_dropped", pool=record.name, segments=self.index.dropped_segments)

    def load_base(self) -> None:
        """Use the saved HNSW base, if there is one for these rows."""
        base = load_base(self.folder, self.index.snapshot)
        if base is not None:
            self.index.install_base(base)

    def check_embedder(self) -> None:
        """Refuse to serve vectors that another embedder made.

        Raises
        ------
        EmbedderMismatch
            Names both fingerprints.
        """
        recorded = self.record.embedder_fingerprint
        if recorded is not None and recorded != self.embedder.fingerprint:
            raise EmbedderMismatch(
                f"pool {self.record.name!r} was built with {recorded}, the configured embedder is "
                f"{self.embedder.fingerprint}; create the pool anew or change its `embedder` setting"
            )

    def reconfigure(self, record: Pool) -> None:
        """Take over settings that change no stored vector."""
        settings = PoolSettings.model_validate(record.settings)
        self.templates, self.tokenizer = PoolTemplates(settings), build_tokenizer(settings.tokenizer)
        self.settings, self.record = settings, record

    async def wait_indexed(self, version: int, timeout_s: float) -> bool:
        """Wait until a pool version is selectable; False if that took too long."""
        if self.index.snapshot.version >= version:
            return True
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._waiters_lock:
            self._waiters.append((version, loop, future))
        self.wake_waiters()
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            return False
        return True

    def wake_waiters(self) -> None:
        """Let go of those whose version is published; called after each publication."""
        version = self.index.snapshot.version
        with self._waiters_lock:
            ready = [waiter for waiter in self._waiters if waiter[0] <= version]
            self._waiters = [waiter for waiter in self._waiters if waiter[0] > version]
        for _, loop, future in ready:
            loop.call_soon_threadsafe(_resolve, future)

    def _load_texts(self, seqs: Sequence[int]) -> list[str]:
        """Return embed texts by example version; empty where a version is gone."""
        seq_to_text: dict[int, str] = {}
        for start in range(0, len(seqs), _TEXTS_AT_ONCE):
            some = [seq for seq in seqs[start : start + _TEXTS_AT_ONCE] if seq >= 0]
            for example in self._store.get_examples_by_seq(self.record.id, some):
                seq_to_text[example.seq] = self.templates.embed_text(example.inputs)
        return [seq_to_text.get(seq, "") for seq in seqs]


class PoolRegistry:
    """Open pools by name. Every access to a pool goes through `get`, which will take the tenant."""

    def __init__(self, store: Store, embedders: Embedders, pools_dir: Path) -> None:
        self.store = store
        self._embedders = embedders
        self._pools_dir = pools_dir
        self._lock = threading.Lock()
        self._name_to_runtime: dict[str, PoolRuntime] = {}
        self._name_to_problem: dict[str, KshotError] = {}

    def open_all(self) -> list[PoolRuntime]:
        """Open every stored pool; one that cannot be opened is remembered with its reason."""
        for record in self.store.list_pools():
            try:
                self.open(record)
            except KshotError as error:
                log.warning("pool_not_opened", pool=record.name, code=error.code, reason=error.message)
                self._name_to_problem[record.name] = error
        return list(self._name_to_runtime.values())

    def open(self, record: Pool) -> PoolRuntime:
        """Open a pool, or open it anew after its settings changed, and put it in place."""
        runtime = self.build(record)
        self.install(runtime)
        return runtime

    def build(self, record: Pool) -> PoolRuntime:
        """Open a pool without putting it in place."""
        return PoolRuntime(record, self.store, self._embedders, self._pools_dir)

    def folder_of(self, record: Pool) -> Path:
        """Return where a pool's features lie under the settings of ``record``."""
        settings = PoolSettings.model_validate(record.settings)
        return _folder(self._pools_dir, record.id, settings, self._embedders.get(settings.embedder)[0])

    def install(self, runtime: PoolRuntime) -> None:
        """Let requests find this runtime from now on."""
        with self._lock:
            self._name_to_runtime[runtime.record.name] = runtime
            self._name_to_problem.pop(runtime.record.name, None)

    def get(self, name: str) -> PoolRuntime:
        """Return an open pool.

        Raises
        ------
        PoolNotFound
            There is no pool of that name.
        Unavailable
            The pool exists but could not be opened; the message says why.
        """
        runtime = self._name_to_runtime.get(name)
        if runtime is not None:
            return runtime
        problem = self._name_to_problem.get(name)
        if problem is not None:
            raise Unavailable(f"pool {name!r} could not be opened: {problem.message}")
        raise PoolNotFound(f"no pool is named {name!r}; create it with POST /v1/pools")

    def find(self, name: str) -> PoolRuntime | None:
        """Return an open pool, or None."""
        return self._name_to_runtime.get(name)

    def all(self) -> list[PoolRuntime]:
        """Return the open pools."""
        with self._lock:
            return list(self._name_to_runtime.values())

    def problems(self) -> dict[str, str]:
        """Return why pools are closed or behind, by name."""
        found = {name: error.message for name, error in self._name_to_problem.items()}
        for runtime in self.all():
            if runtime.indexing_problem is not None:
                found[runtime.record.name] = runtime.indexing_problem.message
        return found

    def remove(self, name: str, pool_id: int) -> None:
        """Forget a pool and delete its files."""
        with self._lock:
            self._name_to_runtime.pop(name, None)
            self._name_to_problem.pop(name, None)
        shutil.rmtree(self._pools_dir / str(pool_id), ignore_errors=True)


def _token_layer(settings: PoolSettings, embedder: Embedder) -> int | None:
    return embedder.default_token_layer if settings.token_layer is None else settings.token_layer


def _folder(pools_dir: Path, pool_id: int, settings: PoolSettings, embedder: Embedder) -> Path:
    """Name the folder of a pool's features after everything that they depend on."""
    parts = [embedder.fingerprint, _token_layer(settings, embedder), settings.embed_template]
    return (
        pools_dir / str(pool_id) / hashlib.blake2b(canonical_json(parts).encode(), digest_size=8).hexdigest()
    )


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
