"""From a request to what it asks for: the query's features, and the method that will answer."""

from kshot.arrays import Signal
from kshot.errors import FieldError, InvalidInput, UnknownSelector
from kshot.index.candidates import QueryFeatures
from kshot.schemas.selections import Query, SelectRequest
from kshot.server.selectors_schema import build_selector
from kshot.server.services.acceptance import unit_vector
from kshot.server.services.choosing import Method
from kshot.server.services.pace import CHEAPER
from kshot.server.services.runtime import PoolRuntime
from kshot.server.validation import refusal


async def query_features(runtime: PoolRuntime, request: Query) -> QueryFeatures:
    """Embed the query, or take its vector where the pool's embedder is external.

    Raises
    ------
    InvalidInput
        The query is empty or does not fit the embed template, or brings a vector to a pool that embeds texts.
    DimensionMismatch
        The vector has another dimension than the pool.
    KshotError
        What the embedder raised.
    """
    if request.inputs is None and request.vector is None:
        raise refusal([FieldError("/inputs", "is missing; a query has inputs, a vector, or both", "missing")])
    vector = None if request.vector is None else unit_vector(runtime, request.vector)
    text = None if request.inputs is None else runtime.templates.embed_text(request.inputs)
    if runtime.settings.embedder.type == "external" or text is None:
        return QueryFeatures(vector, None, text)
    if not text.strip():
        raise refusal([FieldError("/inputs", "gives an empty text to embed")])
    return await text_features(runtime, text)


async def text_features(runtime: PoolRuntime, text: str) -> QueryFeatures:
    """Embed a text of a pool that embeds texts by itself."""
    features = await runtime.encoder.encode_one(text, runtime.token_layer)
    tokens = token_ids = spans = None
    if features.tokens is not None and features.special is not None:
        tokens = features.tokens[~features.special]
        token_ids = None if features.token_ids is None else features.token_ids[~features.special]
        spans = None if features.spans is None else features.spans[~features.special]
    return QueryFeatures(features.vectors[0], tokens, text, spans, token_ids)


def require_vector(query: QueryFeatures) -> None:
    """Refuse a query without a vector.

    Raises
    ------
    InvalidInput
        The pool's embedder is external, and the request brings no vector.
    """
    if query.vector is None:
        message = "is missing; the pool's embedder is external"
        raise InvalidInput(f"/vector {message}", errors=[FieldError("/vector", message, "missing")])


def method_of(runtime: PoolRuntime, request: SelectRequest) -> Method:
    """Join the request's method with the pool's defaults for it.

    A method that takes the fused relevance takes the pool's weights of it, those of `fused`.

    Raises
    ------
    UnknownSelector, InvalidParameter
        The message names what is allowed.
    """
    asked = runtime.settings.select.method if request.method is None else request.method
    name, given = (asked, {}) if isinstance(asked, str) else (asked.type, dict(asked.model_extra or {}))
    of_pool = runtime.settings.select.params
    params = {**of_pool.get(name, {}), **given}
    if name != "fused" and params.get("relevance") == "fused":
        weights = {signal.value: of_pool.get("fused", {}).get(signal.value) for signal in Signal}
        params = {**{key: weight for key, weight in weights.items() if weight is not None}, **params}
    try:
        return Method(name, build_selector(name, params))
    except UnknownSelector as error:
        pointer = "/method" if isinstance(asked, str) else "/method/type"
        raise UnknownSelector(error.message, errors=[FieldError(pointer, error.message, "choice")]) from None


def cheaper_methods(runtime: PoolRuntime) -> list[Method]:
    """Return what may stand in for a method that would be late, under the pool's parameters."""
    params = runtime.settings.select.params
    return [Method(name, build_selector(name, params.get(name, {}))) for name in CHEAPER]
