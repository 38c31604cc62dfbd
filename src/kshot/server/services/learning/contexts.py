"""What a policy decides on: the query's embedding, projected, and what the request says of itself."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from kshot.arrays import Float64s, unit_rows
from kshot.clients.embedders.base import Embedder
from kshot.clients.embedders.external import ExternalEmbedder
from kshot.clients.embedders.online import OnlineEncoder
from kshot.errors import DimensionMismatch, FieldError, InvalidParameter, InvalidShape, PoolNotFound
from kshot.formatting import content_text
from kshot.records import Content
from kshot.schemas.policies import CategoryFeature, ContextSettings, NumberFeature, RequestFeature
from kshot.schemas.pools import EmbedderSpec, MiniLm
from kshot.selectors.bandits import request_features
from kshot.selectors.bandits.contexts import ContextMap, gaussian_map, request_map
from kshot.server.services.registry import Embedders, PoolRegistry
from kshot.server.services.runtime import PoolRuntime
from kshot.server.validation import refusal

VARIANT_COMPONENTS = 8
"""Numbers by which variants are told apart where what is learnt of one is to say something of others."""


class Query(Protocol):
    """The part of a request that a decision looks at."""

    @property
    def inputs(self) -> Content | None:
        """The query."""
        ...

    @property
    def vector(self) -> list[float] | None:
        """Its embedding, instead of computing it."""
        ...

    @property
    def features(self) -> Mapping[str, Any]:
        """Values of the request features that the policy declares."""
        ...


@dataclass(frozen=True, slots=True)
class Features:
    """What a policy's decisions are made on.

    Attributes
    ----------
    contexts : ContextMap
        From embedding and request to features.
    source : str
        What makes the embeddings; empty where none are looked at.
    """

    contexts: ContextMap
    source: str

    @property
    def version(self) -> str:
        """What decisions on these features are marked with; outcomes of others are not learnt from."""
        if not self.source:
            return self.contexts.version
        return f"{self.contexts.version}-{hashlib.blake2b(self.source.encode(), digest_size=6).hexdigest()}"


class Contexts:
    """Makes features for every policy, over the embedders that pools use."""

    def __init__(self, registry: PoolRegistry, embedders: Embedders) -> None:
        self._registry = registry
        self._embedders = embedders

    def features_of(self, settings: ContextSettings, *, contextual: bool) -> Features:
        """Return what a policy's decisions are made on; building an embedder may take long the first time.

        Raises
        ------
        PoolNotFound
            The settings name a pool that does not exist.
        InvalidParameter
            The embeddings have fewer numbers than the features that are wanted.
        """
        if not contextual:
            return Features(request_map(), "")
        features = [_feature(one) for one in settings.features]
        if not settings.dimension:
            return Features(request_map(features), "")
        embedder = self._source(settings).embedder
        width = embedder.dimension
        if width is None:
            # An endpoint tells by its first answer.
            width = embedder.encode(["dimension"], token_layer=None).vectors.shape[1]
        if width < settings.dimension:
            message = f"received {settings.dimension}, allowed at most {width}, the embedder's dimension"
            raise InvalidParameter(
                f"/context/dimension {message}", errors=[FieldError("/context/dimension", message, "range")]
            )
        contexts = gaussian_map(width, settings.dimension, seed=settings.seed, features=features)
        return Features(contexts, self.source_of(settings))

    def vectors_of(self, settings: ContextSettings, texts: Mapping[str, str]) -> dict[str, Float64s]:
        """Return what describes variants by their texts, shape (g,): their embeddings, projected.

        None where no embedding is looked at, or the embedder is the caller's.
        """
        source = self._source(settings) if settings.dimension and texts else None
        if source is None or isinstance(source.embedder, ExternalEmbedder):
            return {}
        encoded = source.embedder.encode(list(texts.values()), token_layer=None).vectors
        components = min(VARIANT_COMPONENTS, encoded.shape[1])
        # The trailing 1 says nothing of a variant.
        projection = gaussian_map(encoded.shape[1], components, seed=settings.seed)
        return {name: projection.context(row)[:-1] for name, row in zip(texts, encoded, strict=True)}

    def source_of(self, settings: ContextSettings) -> str:
        """Return what makes the embeddings now: the embedder's fingerprint, and the pool's embed template."""
        source = self._source(settings)
        template = "" if source.runtime is None else source.runtime.settings.embed_template or ""
        return f"{source.embedder.fingerprint}\n{template}"

    async def features(self, settings: ContextSettings, contexts: ContextMap, query: Query) -> Float64s:
        """Return the features of one request, on the grid, shape (d,).

        Raises
        ------
        InvalidInput
            The query is missing or empty, brings a vector to an embedder that embeds texts by itself or none
            to one that does not, or a request feature is not declared or of the wrong kind.
        DimensionMismatch
            The vector has another length than the embedder's.
        KshotError
            What the embedder raised.
        """
        embedding = None
        if contexts.width:
            embedding = await self._embedding(settings, contexts.width, query)
        declared = {feature.name for feature in contexts.features}
        # A policy that looks at no context takes requests that describe one.
        given = query.features if contexts.features or contexts.width else {}
        try:
            return contexts.context(embedding, given)
        except InvalidParameter as error:
            named = next((name for name in given if name not in declared or name in error.message), None)
            pointer = "/features" if named is None else f"/features/{named}"
            raise refusal([FieldError(pointer, error.message)]) from None

    async def _embedding(self, settings: ContextSettings, width: int, query: Query) -> Float64s:
        source = self._source(settings)
        if query.vector is not None:
            return _unit(query.vector, width)
        if query.inputs is None:
            message = "is missing; the policy decides on the query: give inputs or a vector"
            raise refusal([FieldError("/inputs", message, "missing")])
        text = source.text(query.inputs)
        if not text.strip():
            raise refusal([FieldError("/inputs", "gives an empty text to embed")])
        encoded = await source.encoder.encode_one(text, None)
        return np.asarray(encoded.vectors[0], np.float64)

    def _source(self, settings: ContextSettings) -> "_Source":
        if settings.pool is not None:
            runtime = self._registry.find(settings.pool)
            if runtime is None:
                message = f"received {settings.pool!r}, which is no pool"
                raise PoolNotFound(
                    f"/context/pool {message}", errors=[FieldError("/context/pool", message, "choice")]
                )
            return _Source(runtime.embedder, runtime.encoder, runtime)
        spec: EmbedderSpec = MiniLm() if settings.embedder is None else settings.embedder
        return _Source(*self._embedders.get(spec), None)


@dataclass(frozen=True, slots=True)
class _Source:
    """What makes embeddings."""

    embedder: Embedder
    encoder: OnlineEncoder
    runtime: PoolRuntime | None

    def text(self, inputs: Content) -> str:
        return content_text(inputs) if self.runtime is None else self.runtime.templates.embed_text(inputs)


def _unit(vector: list[float], dimension: int) -> Float64s:
    if len(vector) != dimension:
        message = f"received {len(vector)} numbers, allowed {dimension}"
        raise DimensionMismatch(
            f"/vector {message}", errors=[FieldError("/vector", message, DimensionMismatch.code)]
        )
    try:
        return np.asarray(unit_rows([vector])[0], np.float64)
    except InvalidShape:
        raise refusal([FieldError("/vector", "has length zero, so no direction")]) from None


def _feature(declared: RequestFeature) -> request_features.RequestFeature:
    match declared:
        case NumberFeature():
            return request_features.NumberFeature(declared.name, declared.low, declared.high)
        case CategoryFeature():
            return request_features.CategoryFeature(declared.name, tuple(declared.values))
