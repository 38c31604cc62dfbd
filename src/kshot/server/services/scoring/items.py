"""From a scorer's results to what a reply says of each item: normalised numbers, labels, reasons."""

import math
from collections.abc import Sequence

import numpy as np

from kshot.clients.scorers.base import NotScored, Scored
from kshot.errors import InvalidParameter
from kshot.schemas.scoring import BoundaryName, Normalisation, ScoreError, ScoreItem

Result = Scored | NotScored
_OF_LABELS = ("sum", "pmi")


def item_of(result: Result, base: Result | None, normalisation: Normalisation) -> ScoreItem:
    """Return what is said of one completion.

    Parameters
    ----------
    result : Scored or NotScored
    base : Scored or NotScored or None
        The same completion given the unconditional context.
    normalisation : str
    """
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
        truncated=result.truncated,
        dropped=result.dropped,
        dropped_demonstrations=result.dropped_demonstrations,
        lossy=result.lossy,
        cached=result.cached,
        error=error,
    )


def label_item(results: Sequence[Result], base: Sequence[Result], normalisation: Normalisation) -> ScoreItem:
    """Return what is said of a label: the likelihood that one of its forms follows.

    A label has no length, so it is compared by its sum or its PMI only. Where one form has no score the label
    has none: the sum of the others would be too small.

    Parameters
    ----------
    results : sequence of Scored or NotScored
        One per form.
    base : sequence of Scored or NotScored
        The same given the unconditional context; empty without one.
    normalisation : str
    """
    forms = [item_of(one, None, "sum") for one in results]
    if normalisation not in _OF_LABELS:
        message = f"normalisation {normalisation!r} is none of a label's, allowed: {', '.join(_OF_LABELS)}"
        return ScoreItem(forms=forms, error=ScoreError(code=InvalidParameter.code, message=message))
    scored = [one for one in results if isinstance(one, Scored)]
    for i, one in enumerate(results):
        if isinstance(one, NotScored):
            return ScoreItem(forms=forms, error=ScoreError(code=one.code, message=f"form {i}: {one.message}"))
    error = None
    for i, one in enumerate(base):
        if isinstance(one, NotScored) and normalisation == "pmi":
            message = f"form {i}, given the unconditional context: {one.message}"
            error = error or ScoreError(code=one.code, message=message)
    nats = log_sum_exp([one.sum_nats for one in scored])
    without = [one.sum_nats for one in base if isinstance(one, Scored)]
    pmi = nats - log_sum_exp(without) if base and len(without) == len(base) else math.nan
    return ScoreItem(
        score=_finite(pmi if normalisation == "pmi" else nats),
        sum_nats=_finite(nats),
        pmi_nats=_finite(pmi),
        ruled_out=nats == -math.inf,
        truncated=any(one.truncated for one in scored),
        dropped=max(one.dropped for one in scored),
        dropped_demonstrations=max(one.dropped_demonstrations for one in scored),
        lossy=any(one.lossy for one in scored),
        cached=all(one.cached for one in scored),
        forms=forms,
        error=error,
    )


def log_sum_exp(nats: Sequence[float]) -> float:
    """Return the logarithm of the sum of likelihoods given by theirs; -inf where all are ruled out."""
    return float(np.logaddexp.reduce(np.array(nats, np.float64)))


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


def _finite(value: float) -> float | None:
    """JSON has no word for infinity."""
    return value if math.isfinite(value) else None
