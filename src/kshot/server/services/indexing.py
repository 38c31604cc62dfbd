"""Turns committed examples into selectable ones: one thread that follows every pool's change log."""

import queue
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from kshot.clients.embedders.base import TextFeatures
from kshot.errors import InvalidInput, KshotError
from kshot.index.pool import PoolIndex
from kshot.index.sealing import build_base, wants_base
from kshot.index.segments import Features
from kshot.index.store import Store
from kshot.index.store.example_rows import ExampleHeader, PoolChanges
from kshot.records import Example
from kshot.server.logs import get_logger
from kshot.server.services.runtime import PoolRuntime

log = get_logger(__name__)
CHUNK_ROWS = 1_024
_RETRY_S = (1.0, 2.0, 5.0, 15.0, 60.0)

Progress = Callable[[int, int], None]
"""Called with (done, total) after each chunk; raises to stop."""


class Indexer:
    """Embeds what is new, writes segments, publishes snapshots; builds HNSW bases beside.

    The one thread that drives every `PoolIndex`. Nothing it does is state: a restart finds the same work in
    the store's change log and goes on.
    """

    def __init__(self, store: Store, on_publish: Callable[[PoolRuntime], None]) -> None:
        self._store = store
        self._on_publish = on_publish
        self._work: queue.SimpleQueue[PoolRuntime | Callable[[], None] | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kshot-indexer", daemon=True)
        self._builders: dict[int, threading.Thread] = {}

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

        For the start, before `start`: with all features present the pool is current at once.
        """
        changes = self._store.read_changes(runtime.record.id, 0)
        complete = not runtime.index.missing(changes.added)
        runtime.index.publish(changes if complete else changes._replace(version=0))
        runtime.load_base()
        self.notify(runtime)

    def notify(self, runtime: PoolRuntime) -> None:
        """Say that a pool's change log has grown."""
        self._work.put(runtime)

    def relabel(self, runtime: PoolRuntime) -> None:
        """Read a pool's labels from the field that its settings name now."""
        self._work.put(lambda: self._relabel(runtime))

    @property
    def depth(self) -> int:
        """Notifications that wait."""
        return self._work.qsize()

    def _run(self) -> None:
        while (item := self._work.get()) is not None and not self._stopping.is_set():
            if not isinstance(item, PoolRuntime):
                item()
                continue
            try:
                self._follow(item)
                item.indexing_problem, item.indexing_attempts = None, 0
            except _Stopped:
                return
            except KshotError as error:
                self._retry_later(item, error)
            except Exception as error:
                log.exception("indexing_failed", pool=item.record.name)
                self._retry_later(item, KshotError(f"indexing failed: {type(error).__name__}"))

    def _follow(self, runtime: PoolRuntime) -> None:
        index = runtime.index
        while True:
            changes = self._store.read_changes(runtime.record.id, index.snapshot.version)
            if changes.version == index.snapshot.version:
                break
            self.embed_missing(runtime, index, changes)
            index.publish(changes)
            runtime.wake_waiters()
            self._on_publish(runtime)
        if wants_base(index.snapshot):
            self._build_base(runtime)

    def embed_missing(
        self, runtime: PoolRuntime, index: PoolIndex, changes: PoolChanges, progress: Progress | None = None
    ) -> None:
        """Write segments for the added examples that have none, a chunk at a time."""
        missing = index.missing(changes.added)
        for start in range(0, len(missing), CHUNK_ROWS):
            if self._stopping.is_set():
                raise _Stopped
            chunk = missing[start : start + CHUNK_ROWS]
            started = time.perf_counter()
            features = features_of(runtime, self._examples(runtime, chunk))
            index.append(features)
            log.debug(
                "chunk_indexed",
                pool=runtime.record.name,
                rows=len(chunk),
                took_s=time.perf_counter() - started,
            )
            if progress is not None:
                progress(min(start + CHUNK_ROWS, len(missing)), len(missing))

    def _examples(self, runtime: PoolRuntime, headers: Sequence[ExampleHeader]) -> list[Example]:
        return self._store.get_examples_by_seq(runtime.record.id, [header.seq for header in headers])

    def _relabel(self, runtime: PoolRuntime) -> None:
        everything = self._store.read_changes(runtime.record.id, 0)
        runtime.index.relabel(runtime.settings.label_field, everything.added)

    def _retry_later(self, runtime: PoolRuntime, error: KshotError) -> None:
        attempt = runtime.indexing_attempts
        delay_s = _RETRY_S[min(attempt, len(_RETRY_S) - 1)]
        runtime.indexing_attempts = attempt + 1
        runtime.indexing_problem = error
        log.warning("indexing_delayed", pool=runtime.record.name, code=error.code, retry_s=delay_s)
        timer = threading.Timer(delay_s, self.notify, [runtime])
        timer.daemon = True
        timer.start()

    def _build_base(self, runtime: PoolRuntime) -> None:
        """Build an HNSW base in a thread of its own, unless one is being built for this pool."""
        running = self._builders.get(runtime.record.id)
        if running is not None and running.is_alive():
            return

        def build() -> None:
            started = time.perf_counter()
            base = build_base(runtime.folder, runtime.index.snapshot)
            log.info(
                "base_built", pool=runtime.record.name, rows=len(base), took_s=time.perf_counter() - started
            )
            self._work.put(lambda: runtime.index.install_base(base))

        builder = threading.Thread(target=build, name="kshot-base", daemon=True)
        self._builders[runtime.record.id] = builder
        builder.start()


class _Stopped(Exception):
    """The process is shutting down."""


def features_of(runtime: PoolRuntime, examples: Sequence[Example]) -> Features:
    """Encode examples; those that the embedder refuses are left out, and stay unselectable.

    Raises
    ------
    KshotError
        The embedder as a whole does not work; worth a retry.
    """
    keys = np.array([example.feature_seq for example in examples], np.int64)
    if runtime.settings.embedder.type == "external":
        vectors = np.stack([np.frombuffer(example.vector or b"", "<f4") for example in examples])
        return Features(keys, vectors.astype(np.float32), np.zeros(len(keys), np.bool_))
    texts = [runtime.templates.embed_text(example.inputs) for example in examples]
    try:
        encoded = runtime.embedder.encode(texts, token_layer=runtime.token_layer)
    except InvalidInput:
        return _without_refused(runtime, examples)
    return _features(keys, encoded)


def _without_refused(runtime: PoolRuntime, examples: Sequence[Example]) -> Features:
    """Find the texts that the embedder refuses by halves, and encode the others."""
    accepted: list[Example] = []
    waiting = [examples]
    while waiting:
        some = waiting.pop()
        try:
            texts = [runtime.templates.embed_text(example.inputs) for example in some]
            runtime.embedder.encode(texts, token_layer=None)
            accepted.extend(some)
        except InvalidInput as error:
            if len(some) == 1:
                log.warning("example_refused", pool=runtime.record.name, example=some[0].id, code=error.code)
                continue
            middle = len(some) // 2
            waiting += [some[:middle], some[middle:]]
    if not accepted:
        return Features(np.empty(0, np.int64), np.empty((0, 1), np.float32), np.empty(0, np.bool_))
    accepted.sort(key=lambda example: example.feature_seq)
    keys = np.array([example.feature_seq for example in accepted], np.int64)
    texts = [runtime.templates.embed_text(example.inputs) for example in accepted]
    return _features(keys, runtime.embedder.encode(texts, token_layer=runtime.token_layer))


def _features(keys: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]", encoded: TextFeatures) -> Features:
    if encoded.tokens is None:
        return Features(keys, encoded.vectors, encoded.truncated)
    return Features(
        keys,
        encoded.vectors,
        encoded.truncated,
        encoded.tokens.astype(np.float16),
        encoded.offsets,
        encoded.token_ids,
    )
