"""Open pools, found by name, and the embedders that they share."""

import shutil
import threading
from pathlib import Path

from kshot.clients.embedders.base import Embedder
from kshot.clients.embedders.factory import build_embedder
from kshot.clients.embedders.online import OnlineEncoder
from kshot.errors import KshotError, PoolNotFound, Unavailable
from kshot.index.store import Store
from kshot.records import Pool
from kshot.schemas.pools import EmbedderSpec
from kshot.server.logs import get_logger
from kshot.server.services.runtime import PoolRuntime, feature_key, settings_of

log = get_logger(__name__)


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


class PoolRegistry:
    """Open pools by name. Every access to a pool goes through `get`, which will take the tenant.

    ``settings_lock`` is held by whoever reads, changes and writes back a pool's settings.
    """

    def __init__(self, store: Store, embedders: Embedders, pools_dir: Path) -> None:
        self.settings_lock = threading.Lock()
        self._store = store
        self._embedders = embedders
        self._pools_dir = pools_dir
        self._lock = threading.Lock()
        self._name_to_runtime: dict[str, PoolRuntime] = {}
        self._name_to_problem: dict[str, KshotError] = {}

    def open_all(self) -> list[PoolRuntime]:
        """Open every stored pool; one that cannot be opened is remembered with its reason."""
        for record in self._store.list_pools():
            try:
                self.install(self.open(record))
            except KshotError as error:
                log.warning("pool_not_opened", pool=record.name, code=error.code)
                self._name_to_problem[record.name] = error
        return self.all()

    def open(self, record: Pool) -> PoolRuntime:
        """Open a pool without letting requests find it."""
        embedder, encoder = self._embedders.get(settings_of(record).embedder)
        return PoolRuntime.open(record, self._store, embedder, encoder, self.folder_of(record))

    def folder_of(self, record: Pool) -> Path:
        """Return where a pool's features lie under the settings of ``record``."""
        settings = settings_of(record)
        embedder, _ = self._embedders.get(settings.embedder)
        return self._pools_dir / str(record.id) / feature_key(settings, embedder)

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

    def problems(self) -> dict[str, KshotError]:
        """Return why pools cannot serve, by name."""
        mismatches = {runtime.record.name: runtime.mismatch for runtime in self.all()}
        with self._lock:
            found = dict(self._name_to_problem)
        return found | {name: error for name, error in mismatches.items() if error is not None}

    def remove(self, record: Pool) -> None:
        """Forget a pool and delete its files."""
        with self._lock:
            self._name_to_runtime.pop(record.name, None)
            self._name_to_problem.pop(record.name, None)
        self.remove_files(record.id)

    def remove_files(self, pool_id: int) -> None:
        """Delete the files of a pool that is gone."""
        shutil.rmtree(self._pools_dir / str(pool_id), ignore_errors=True)

    def remove_stale_files(self, pool_id: int) -> None:
        """Delete what earlier or abandoned features of a pool left on disk; what its answers got stays.

        Not while something builds features for the pool. Requests that still hold a replaced runtime keep its
        mapped files.
        """
        runtime = next((one for one in self.all() if one.record.id == pool_id), None)
        if runtime is None or not runtime.folder.parent.is_dir():
            return
        for path in runtime.folder.parent.iterdir():
            if path != runtime.folder and path.is_dir():
                shutil.rmtree(path, ignore_errors=True)

    def remove_orphaned_files(self) -> None:
        """Delete the files of pools that the store does not know; for the start."""
        if self._pools_dir.is_dir():
            known = {str(record.id) for record in self._store.list_pools()}
            for path in self._pools_dir.iterdir():
                if path.name not in known:
                    shutil.rmtree(path, ignore_errors=True)
