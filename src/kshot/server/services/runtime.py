"""What an open pool needs at run time, joined once."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from kshot.clients.embedders.base import Embedder
from kshot.clients.embedders.online import OnlineEncoder
from kshot.clients.tokenizers import Tokenizer, build_tokenizer
from kshot.errors import EmbedderMismatch
from kshot.formatting import content_text
from kshot.index.answer_scores import FILE_NAME, AnswerScores
from kshot.index.pool import PoolIndex
from kshot.index.sealing import load_base
from kshot.index.store import Store
from kshot.index.token_sealing import load_token_base
from kshot.records import Example, Pool, canonical_json
from kshot.schemas.pools import PoolSettings
from kshot.server.logs import get_logger
from kshot.server.services.core import StableCores
from kshot.server.services.pace import Pace
from kshot.server.services.shown import ShownCache
from kshot.server.services.templates import PoolTemplates
from kshot.server.validation import validated

T = TypeVar("T")
log = get_logger(__name__)
_TEXTS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True, eq=False)
class PoolRuntime:
    """A pool that is open: settings, templates, tokenizer, embedder and index that belong together.

    Never changed: other settings make another runtime. A request keeps the one that it started with. Only
    ``index`` lives on, driven by the indexer alone.
    """

    record: Pool
    settings: PoolSettings
    templates: PoolTemplates
    tokenizer: Tokenizer
    embedder: Embedder
    encoder: OnlineEncoder
    token_layer: int | None
    folder: Path
    index: PoolIndex
    cores: StableCores
    shown: ShownCache
    pace: Pace

    @classmethod
    def open(
        cls, record: Pool, store: Store, embedder: Embedder, encoder: OnlineEncoder, folder: Path
    ) -> "PoolRuntime":
        """Open a pool over the features in ``folder``, which no other index may be writing."""
        settings = settings_of(record)
        templates = PoolTemplates(settings)
        index = PoolIndex(
            folder / "segments",
            settings.label_field,
            _loader(store, record.id, lambda one: templates.embed_text(one.inputs), gone=""),
            _loader(store, record.id, lambda one: len(content_text(one.outputs)), gone=None),
            # Beside the features: another embedder changes nothing about the answers.
            AnswerScores(folder.parent / FILE_NAME),
        )
        if index.dropped_segments:
            log.warning("segments_dropped", pool=record.name, segments=index.dropped_segments)
        return cls(
            record=record,
            settings=settings,
            templates=templates,
            tokenizer=build_tokenizer(settings.tokenizer),
            embedder=embedder,
            encoder=encoder,
            token_layer=token_layer_of(settings, embedder),
            folder=folder,
            index=index,
            cores=StableCores(),
            shown=ShownCache(),
            pace=Pace(),
        )

    def with_settings(self, record: Pool) -> "PoolRuntime":
        """Return the same pool under settings that change no stored vector."""
        settings = settings_of(record)
        return replace(
            self,
            record=record,
            settings=settings,
            templates=PoolTemplates(settings),
            tokenizer=build_tokenizer(settings.tokenizer),
            shown=ShownCache(),
        )

    def load_base(self) -> None:
        """Use the saved bases, dense and of tokens, if there are some for these rows."""
        base = load_base(self.folder, self.index.snapshot)
        if base is not None:
            self.index.install_base(base)
        token_base = load_token_base(self.folder, self.index.snapshot)
        if token_base is not None:
            self.index.install_token_base(token_base)

    @property
    def mismatch(self) -> EmbedderMismatch | None:
        """Why the stored vectors cannot be compared with a query's, if another embedder made them."""
        recorded, present = self.record.embedder_fingerprint, self.embedder.fingerprint
        if recorded is None or recorded == present:
            return None
        return EmbedderMismatch(
            f"pool {self.record.name!r} was built with {recorded}, the embedder at hand is {present}; "
            "PATCH the pool's `embedder` to embed it again"
        )

    def check_embedder(self) -> None:
        """Refuse to serve vectors that another embedder made.

        Raises
        ------
        EmbedderMismatch
            Names both fingerprints.
        """
        if (mismatch := self.mismatch) is not None:
            raise mismatch


def settings_of(record: Pool, changed: Mapping[str, Any] = MappingProxyType({})) -> PoolSettings:
    """Return a pool's stored settings, some of them changed.

    Raises
    ------
    InvalidInput
        One is not allowed, or was allowed once, but is not in this version.
    """
    return validated(PoolSettings, {**record.settings, **changed}, prefix="/settings")


def token_layer_of(settings: PoolSettings, embedder: Embedder) -> int | None:
    """Return the layer whose token vectors are kept; None without any."""
    return embedder.default_token_layer if settings.token_layer is None else settings.token_layer


def feature_key(settings: PoolSettings, embedder: Embedder) -> str:
    """Name everything that stored features depend on, as a folder's name."""
    parts = [embedder.fingerprint, token_layer_of(settings, embedder), settings.embed_template]
    return hashlib.blake2b(canonical_json(parts).encode(), digest_size=8).hexdigest()


def _loader(
    store: Store, pool_id: int, read: Callable[[Example], T], *, gone: T
) -> Callable[[Sequence[int]], list[T]]:
    """Return what reads something of example versions, by seq; ``gone`` where there is none."""

    def load(seqs: Sequence[int]) -> list[T]:
        seq_to_found: dict[int, T] = {}
        for start in range(0, len(seqs), _TEXTS_AT_ONCE):
            some = [seq for seq in seqs[start : start + _TEXTS_AT_ONCE] if seq >= 0]
            for example in store.get_examples_by_seq(pool_id, some):
                seq_to_found[example.seq] = read(example)
        return [seq_to_found.get(seq, gone) for seq in seqs]

    return load
