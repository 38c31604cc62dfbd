"""Turns committed examples into selectable ones: one thread that follows every pool's change log."""

import queue
import threading
import time
from collections.abc import Callable, Sized
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from kshot.errors import KshotError, PoolNotFound
from kshot.index.candidates import prepare
from kshot.index.pool import PoolIndex
from kshot.index.sealing import build_base, wants_base
from kshot.index.snapshot import Snapshot
from kshot.index.store import Store
from kshot.index.store.example_rows import PoolChanges
from kshot.index.token_sealing import build_token_base, wants_token_base
from kshot.records import Pool
from kshot.server.logs import get_logger
from kshot.server.services.featurising import features_of
from kshot.server.services.registry import PoolRegistry
from kshot.server.services.runtime import PoolRuntime
from kshot.server.services.waiting import Publications

log = get_logger(__name__)
T = TypeVar("T")
CHUNK_ROWS = 1_024
_RETRY_S = (1.0, 2.0, 5.0, 15.0, 60.0)

Progress = Callable[[int], None]
"""Called with the examples of this call that are done, after each chunk; raises to stop."""


class Stopped(Exception):
    """The process is shutting down; the work goes on after the next start."""


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Why a pool's examples cannot be indexed for now, and when that is tried again."""

    error: KshotError
    attempts: int
    due_s: float


@dataclass(frozen=True, slots=True)
class _BaseKind:
    """A sealed index that is built beside a live pool.

    After a construction the next one rests for ``rest`` times as long.
    """

    name: str
    is_wanted: Callable[[Snapshot], bool]
    build: Callable[[Path, Snapshot], Sized]
    install: Callable[[PoolIndex, Any], None]
    rest: float


_BASES = (
    _BaseKind("dense", wants_base, build_base, PoolIndex.install_base, rest=0.0),
    # Wanted again after few rows, as these cost every query.
    _BaseKind("token", wants_token_base, build_token_base, PoolIndex.install_token_base, rest=3.0),
)


class Indexer:
    """Embeds what is new, writes segments, publishes snapshots; builds sealed indexes beside.

    The one thread that drives every installed `PoolIndex`. Nothing it does is state: a restart finds the same
    work in the store's change log and goes on.
    """

    def __init__(
        self,
        store: Store,
        registry: PoolRegistry,
        publications: Publications,
        on_publish: Callable[[PoolRuntime], None],
    ) -> None:
        self._store = store
        self._registry = registry
        self._publications = publications
        self._on_publish = on_publish
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kshot-indexer", daemon=True)
        self._lock = threading.Lock()
        self._notified: set[str] = set()
        self._name_to_trouble: dict[str, _Trouble] = {}
        #: What is under way, or rests; for the indexer's thread alone.
        self._building: set[tuple[int, str]] = set()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Finish the chunk at hand and stop; what is left is found again at the next start."""
        self._stopping.set()
        self._work.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def recover(self, runtime: PoolRuntime) -> None:
        """Publish what is on disk already; whatever is missing follows once the thread runs.

        For pools that nobody can have written to since they were opened. With all features present the pool
        is current at once.
        """
        if runtime.mismatch is not None:
            return
        changes = self._store.read_changes(runtime.record.id, 0)
        self._compact(runtime, changes)
        complete = not runtime.index.missing(changes.added)
        self._publish(runtime, changes if complete else changes._replace(version=0))
        runtime.load_base()
        self.notify(runtime.record.name)

    def notify(self, name: str) -> None:
        """Say that a pool's change log has grown."""
        with self._lock:
            # A pool in trouble is looked after when its time comes, and must not keep the others waiting.
            if name in self._notified or name in self._name_to_trouble:
                return
            self._notified.add(name)
        self._work.put(partial(self._attend, name))

    def relabel(self, name: str) -> None:
        """Read a pool's labels from the field that its settings name now."""
        self._work.put(partial(self._relabel, name))

    def forget(self, record: Pool) -> None:
        """Stop following a pool that is gone, and delete what the work at hand may still write for it."""
        with self._lock:
            self._name_to_trouble.pop(record.name, None)
        self._publications.forget(record.id)
        self._work.put(partial(self._registry.remove_files, record.id))

    def install(self, runtime: PoolRuntime) -> None:
        """Let requests find a runtime that has caught up; only in the indexer's thread."""
        self._registry.install(runtime)
        with self._lock:
            self._name_to_trouble.pop(runtime.record.name, None)
        self._announce(runtime)
        prepare(runtime.index.snapshot)
        self._build_bases_if_wanted(runtime)

    def run(self, work: Callable[[], T]) -> T:
        """Run ``work`` in the indexer's thread, between two publications, and return its result.

        Raises
        ------
        Stopped
            The process is shutting down.
        """
        future: Future[T] = Future()

        def perform() -> None:
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001  (whatever it is, it belongs to the caller)
                future.set_exception(error)

        self._work.put(perform)
        while not future.done():
            if not self._thread.is_alive():
                raise Stopped
            wait([future], timeout=1.0)
        return future.result()

    @property
    def depth(self) -> int:
        """Pieces of work that wait."""
        return self._work.qsize()

    def problems(self) -> dict[str, KshotError]:
        """Return why pools are behind, by name."""
        with self._lock:
            return {name: trouble.error for name, trouble in self._name_to_trouble.items()}

    def embed_missing(
        self, runtime: PoolRuntime, changes: PoolChanges, progress: Progress = lambda _: None
    ) -> int:
        """Write segments for the added examples that have none, a chunk at a time.

        Returns
        -------
        int
            Examples that were refused.

        Raises
        ------
        Stopped
            The process is shutting down.
        PoolNotFound
            The pool was deleted meanwhile.
        """
        missing = runtime.index.missing(changes.added)
        refused = 0
        for start in range(0, len(missing), CHUNK_ROWS):
            self._check_wanted(runtime)
            started = time.perf_counter()
            seqs = [header.seq for header in missing[start : start + CHUNK_ROWS]]
            examples = self._store.get_examples_by_seq(runtime.record.id, seqs)
            refused += len(examples)
            for features in features_of(runtime, examples):
                runtime.index.append(features)
                refused -= len(features)
            log.debug(
                "chunk_indexed",
                pool=runtime.record.name,
                rows=len(examples),
                took_s=time.perf_counter() - started,
            )
            progress(min(start + CHUNK_ROWS, len(missing)))
        return refused

    def catch_up(self, runtime: PoolRuntime) -> None:
        """Embed and publish until the pool is current; for installed pools in the indexer's thread only."""
        while True:
            changes = self._store.read_changes(runtime.record.id, runtime.index.snapshot.version)
            if changes.version == runtime.index.snapshot.version:
                return
            self.embed_missing(runtime, changes)
            self._publish(runtime, changes)

    def _run(self) -> None:
        while (work := self._work.get()) is not None and not self._stopping.is_set():
            try:
                work()
            except Exception:
                # The one thread that indexes has to outlive whatever one piece of work meets.
                log.exception("indexer_work_failed")

    def _attend(self, name: str) -> None:
        with self._lock:
            self._notified.discard(name)
            trouble = self._name_to_trouble.get(name)
        if trouble is not None and time.monotonic() < trouble.due_s:
            return
        runtime = self._registry.find(name)
        try:
            if runtime is not None and runtime.mismatch is None:
                self.catch_up(runtime)
                prepare(runtime.index.snapshot)
                self._build_bases_if_wanted(runtime)
        except (Stopped, PoolNotFound):
            return
        except KshotError as error:
            self._retry_later(name, error)
        except Exception as error:
            log.exception("indexing_failed", pool=name)
            self._retry_later(name, KshotError(f"indexing failed: {type(error).__name__}"))
        else:
            with self._lock:
                self._name_to_trouble.pop(name, None)

    def _retry_later(self, name: str, error: KshotError) -> None:
        with self._lock:
            before = self._name_to_trouble.get(name)
            attempts = 1 if before is None else before.attempts + 1
            delay_s = _RETRY_S[min(attempts, len(_RETRY_S)) - 1]
            self._name_to_trouble[name] = _Trouble(error, attempts, time.monotonic() + delay_s)
        log.warning("indexing_delayed", pool=name, code=error.code, retry_s=delay_s)
        runtime = self._registry.find(name)
        if runtime is not None:
            self._publications.give_up(runtime.record.id)
        timer = threading.Timer(delay_s, self._work.put, [partial(self._attend, name)])
        timer.daemon = True
        timer.start()

    def _relabel(self, name: str) -> None:
        runtime = self._registry.find(name)
        if runtime is None or runtime.mismatch is not None:
            return
        everything = self._store.read_changes(runtime.record.id, 0)
        runtime.index.relabel(runtime.settings.label_field, everything.added)

    def _compact(self, runtime: PoolRuntime, everything: PoolChanges) -> None:
        """Drop features that no example uses, at once if they were made from erased content."""
        unowned = runtime.index.unowned(everything.added)
        kept = self._store.get_examples_by_seq(runtime.record.id, unowned)
        runtime.index.compact(unowned, set(unowned) - {example.seq for example in kept})

    def _publish(self, runtime: PoolRuntime, changes: PoolChanges) -> None:
        runtime.index.publish(changes)
        self._announce(runtime)

    def _announce(self, runtime: PoolRuntime) -> None:
        self._publications.announce(runtime.record.id, runtime.index.snapshot.version)
        self._on_publish(runtime)

    def _check_wanted(self, runtime: PoolRuntime) -> None:
        if self._stopping.is_set():
            raise Stopped
        self._store.get_pool_by_id(runtime.record.id)

    def _build_bases_if_wanted(self, runtime: PoolRuntime) -> None:
        """Build what is wanted in threads of their own, unless it is being built for this pool."""
        for kind in _BASES:
            key = runtime.record.id, kind.name
            if key not in self._building and kind.is_wanted(runtime.index.snapshot):
                self._building.add(key)
                threading.Thread(
                    target=self._build_base, args=[runtime, kind], name=f"kshot-{kind.name}-base", daemon=True
                ).start()

    def _build_base(self, runtime: PoolRuntime, kind: _BaseKind) -> None:
        forget = partial(self._building.discard, (runtime.record.id, kind.name))
        started = time.perf_counter()
        try:
            base = kind.build(runtime.folder, runtime.index.snapshot)
        except Exception:
            # The pool is served without; the next publication tries again. Its folder may be gone.
            log.exception("base_not_built", pool=runtime.record.name, kind=kind.name)
            self._work.put(forget)
            return
        took_s = time.perf_counter() - started
        log.info("base_built", pool=runtime.record.name, kind=kind.name, rows=len(base), took_s=took_s)
        self._work.put(partial(kind.install, runtime.index, base))
        # While a pool grows, building takes no more than its share of the time.
        self._stopping.wait(kind.rest * took_s)
        self._work.put(forget)
        self._work.put(partial(self._attend, runtime.record.name))
