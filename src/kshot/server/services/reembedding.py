"""New features for settings that make the stored ones stale: built beside them, put in place at once."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kshot.index.store import Store
from kshot.records import Pool
from kshot.server.services.indexing import Indexer
from kshot.server.services.progress import Progress, silent
from kshot.server.services.registry import PoolRegistry
from kshot.server.services.runtime import PoolRuntime, settings_of


class Reembedding:
    """Embeds a pool anew under changed settings.

    Until the switch requests are answered from the old features. What was embedded lies in segments in a
    folder of its own, so that a run which was cut short is taken up where it stopped.
    """

    def __init__(self, store: Store, registry: PoolRegistry, indexer: Indexer) -> None:
        self._store = store
        self._registry = registry
        self._indexer = indexer

    def run(self, pool_id: int, changed: Mapping[str, Any], progress: Progress = silent) -> dict[str, Any]:
        """Embed and switch.

        Parameters
        ----------
        pool_id : int
            The pool's number.
        changed : mapping
            The settings to change, validated; the others are taken as they are at the switch.
        progress : callable
            Told of the phase ``embedding`` after each chunk, and of ``switching`` before the switch.

        Returns
        -------
        dict
            ``examples`` that are selectable, ``refused`` ones, and the ``embedder_fingerprint``.

        Raises
        ------
        PoolNotFound
            There is no such pool, or not any more.
        KshotError
            The embedder does not work.
        """
        record = self._store.get_pool_by_id(pool_id)
        future = _unbuilt(record, changed)
        live = self._registry.find(record.name)
        if live is not None and live.mismatch is None and self._registry.folder_of(future) == live.folder:
            # Other words for the same features, such as another path to the same model.
            new, refused = live, 0
        else:
            new = self._registry.open(future)
            refused = self._embed(new, progress)
        refused += self._indexer.run(lambda: self._switch(new, changed, progress))
        self._registry.remove_stale_files(pool_id)
        return {
            "examples": new.index.snapshot.examples,
            "refused": refused,
            "embedder_fingerprint": new.embedder.fingerprint,
        }

    def _embed(self, new: PoolRuntime, progress: Progress) -> int:
        """Bring a runtime that no request sees up to date; return how many examples were refused."""
        refused = 0
        while True:
            changes = self._store.read_changes(new.record.id, new.index.snapshot.version)
            if changes.version == new.index.snapshot.version:
                return refused
            before, added = new.index.snapshot.examples, len(changes.added)
            present = added - len(new.index.missing(changes.added))

            def report(done: int, first: int = before + present, total: int = before + added) -> None:
                progress(first + done, total, "embedding")

            refused += self._indexer.embed_missing(new, changes, report)
            new.index.publish(changes)

    def _switch(self, new: PoolRuntime, changed: Mapping[str, Any], progress: Progress) -> int:
        """Put settings and features in place; in the indexer's thread, between two publications."""
        is_built = new is not self._registry.find(new.record.name)
        refused = self._embed(new, progress) if is_built else 0
        progress(new.index.snapshot.examples, new.index.snapshot.examples, "switching")
        with self._registry.settings_lock:
            settings = settings_of(self._store.get_pool_by_id(new.record.id), changed)
            record = self._store.change_features(
                new.record.id,
                settings=settings.model_dump(mode="json"),
                fingerprint=new.embedder.fingerprint,
                dimension=new.embedder.dimension,
            )
            self._indexer.install(new.with_settings(record))
        if settings.label_field != new.settings.label_field:
            self._indexer.relabel(record.name)
        return refused


def _unbuilt(record: Pool, changed: Mapping[str, Any]) -> Pool:
    settings = settings_of(record, changed).model_dump(mode="json")
    return replace(record, settings=settings, embedder_fingerprint=None, dimension=None)
