"""Build an embedder from a pool's settings."""

import os
from pathlib import Path

from kshot.clients.embedders.base import Embedder
from kshot.clients.embedders.external import ExternalEmbedder
from kshot.clients.embedders.hashing import HashingEmbedder
from kshot.clients.embedders.minilm import open_minilm
from kshot.clients.embedders.openai_compatible import OpenAiCompatibleEmbedder
from kshot.clients.embedders.sentence_transformer import open_model
from kshot.errors import InvalidParameter
from kshot.schemas.pools import (
    EmbedderSpec,
    External,
    Hashing,
    MiniLm,
    OpenAiCompatible,
    SentenceTransformers,
)


def build_embedder(spec: EmbedderSpec, *, threads: int | None = None, cache: Path | None = None) -> Embedder:
    """Return a ready embedder; heavy packages are imported only by the kinds that need them.

    Parameters
    ----------
    spec : EmbedderSpec
        One of the kinds in `kshot.schemas.pools`. It may name folders, URLs and environment variables of this
        machine, so whoever accepts it from afar decides whom to trust with that.
    threads : int or None
        Threads of a local model; None for every core that this process may use.
    cache : Path or None
        Root folder of exported models; None for ``KSHOT_CACHE`` or the user's cache folder.

    Raises
    ------
    InvalidParameter
        The model or the environment variable does not exist.
    InvalidInput
        The model's files are not what they should be.
    MissingDependency
        A package is absent; the message holds the line that installs it.
    """
    match spec:
        case MiniLm():
            return open_minilm(threads=threads, cache=cache)
        case SentenceTransformers():
            return open_model(spec.model, threads=threads, cache=cache)
        case OpenAiCompatible():
            return OpenAiCompatibleEmbedder(
                spec.base_url, spec.model, dimensions=spec.dimensions, api_key=_secret(spec.api_key_env)
            )
        case External():
            return ExternalEmbedder(spec.dimension)
        case Hashing():
            return HashingEmbedder()


def _secret(variable: str | None) -> str | None:
    if variable is None:
        return None
    value = os.environ.get(variable)
    if not value:
        raise InvalidParameter(f"environment variable {variable}, named by api_key_env, is not set")
    return value
