"""From a request to pairs, and from scores to a reply; nothing here asks a scorer."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from kshot.clients.scorers.base import (
    Boundary,
    Capabilities,
    NotScored,
    Pair,
    Scored,
    ScoringOptions,
    Text,
)
from kshot.errors import InvalidInput
from kshot.schemas.scoring import (
    BoundaryName,
    Normalisation,
    OptionIn,
    PairIn,
    Scorable,
    ScoreError,
    ScoreItem,
    ScoreReply,
    ScoreRequest,
    best_option,
)
from kshot.server.validation import validated

Result = Scored | NotScored


def pairs_of(request: ScoreRequest) -> list[Pair | NotScored]:
    """Return what is to be scored; in the place of an item that cannot be read, why."""
    if request.pairs is not None:
        return [_pair(value) for value in request.pairs]
    assert request.context is not None
    assert request.options is not None
    context = _text(request.context)
    return [_option(context, value) for value in request.options]


def options_of(request: ScoreRequest) -> ScoringOptions:
    """Return how to score."""
    return ScoringOptions(
        boundary=None if request.boundary is None else Boundary(request.boundary),
        terminator=request.terminator,
        on_overflow=request.on_overflow,
        per_token=request.per_token,
    )


def unconditional(request: ScoreRequest, pairs: Sequence[Pair]) -> list[Pair]:
    """Return the same completions given the unconditional context; none without one."""
    if request.unconditional_context is None:
        return []
    context = _text(request.unconditional_context)
    return [Pair(context=context, completion=pair.completion) for pair in pairs]


def reply_of(
    request: ScoreRequest,
    capabilities: Capabilities,
    results: Sequence[Result],
    base: Mapping[int, Result],
) -> ScoreReply:
    """Normalise scores and compare them.

    Parameters
    ----------
    request : ScoreRequest
    capabilities : Capabilities
    results : sequence of Scored or NotScored
        One per item of the request.
    base : mapping of int to Scored or NotScored
        By place: the same completions given the unconditional context.
    """
    items = [_item(result, base.get(place), request.normalisation) for place, result in enumerate(results)]
    return ScoreReply(
        backend=capabilities.backend,
        model=capabilities.model,
        fingerprint=capabilities.fingerprint,
        tolerance_nats=capabilities.tolerance_nats,
        normalisation=request.normalisation,
        results=items,
        best=None if request.options is None else best_option(items),
    )


def _pair(value: Any) -> Pair | NotScored:
    try:
        given = validated(PairIn, value)
    except InvalidInput as error:
        return NotScored(code=error.code, message=error.message)
    return Pair(context=_text(given.context), completion=_text(given.completion))


def _option(context: Text, value: Any) -> Pair | NotScored:
    try:
        given = validated(OptionIn, {"completion": value})
    except InvalidInput as error:
        return NotScored(code=error.code, message=error.message.removeprefix("/completion "))
    return Pair(context=context, completion=_text(given.completion))


def _text(value: Scorable) -> Text:
    return value if isinstance(value, str) else tuple(value)


def _value(normalisation: Normalisation, result: Scored, base: Result | None) -> float:
    """Return what a completion is compared by; NaN where there is no such number."""
    if normalisation == "sum":
        return result.sum_nats
    if normalisation == "mean_token":
        return _over(result.sum_nats, result.tokens)
    if normalisation == "per_byte":
        return _over(result.sum_nats, result.bytes)
    if normalisation == "per_character":
        return _over(result.sum_nats, result.characters)
    return _pmi(result, base)


def _over(nats: float, count: int) -> float:
    return nats / count if count else math.nan


def _pmi(result: Scored, base: Result | None) -> float:
    # Of two infinities the difference is no number.
    return result.sum_nats - base.sum_nats if isinstance(base, Scored) else math.nan


def _item(result: Result, base: Result | None, normalisation: Normalisation) -> ScoreItem:
    if isinstance(result, NotScored):
        return ScoreItem(error=ScoreError(code=result.code, message=result.message))
    error = None
    if isinstance(base, NotScored) and normalisation == "pmi":
        error = ScoreError(code=base.code, message=f"given the unconditional context: {base.message}")
    boundary: BoundaryName = result.boundary.value
    return ScoreItem(
        score=_finite(_value(normalisation, result, base)),
        sum_nats=_finite(result.sum_nats),
        mean_token_nats=_finite(_over(result.sum_nats, result.tokens)),
        per_byte_nats=_finite(_over(result.sum_nats, result.bytes)),
        per_character_nats=_finite(_over(result.sum_nats, result.characters)),
        pmi_nats=_finite(_pmi(result, base)),
        ruled_out=result.sum_nats == -math.inf,
        tokens=result.tokens,
        bytes=result.bytes,
        characters=result.characters,
        per_token_nats=None if result.per_token is None else [_finite(one) for one in result.per_token],
        greedy=result.greedy,
        boundary=boundary,
        mode=str(result.mode),
        dropped=result.dropped,
        lossy=result.lossy,
        cached=result.cached,
        error=error,
    )


def _finite(value: float) -> float | None:
    """JSON has no word for infinity."""
    return value if math.isfinite(value) else None
