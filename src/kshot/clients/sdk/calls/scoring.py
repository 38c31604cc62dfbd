"""Calls about likelihoods."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from kshot.clients.sdk.calls.base import Call, encode, path_of, present, reader
from kshot.errors import InvalidInput
from kshot.schemas.scoring import BoundaryName, Normalisation, ScoreReply, ScorerInfo

Scored: TypeAlias = str | Sequence[int]
"""A text, or token ids that are fed as they are."""
GivenPair: TypeAlias = tuple[Scored, Scored] | Mapping[str, Any]
"""``(context, completion)``, or a dict of the two."""
SCORING_TIMEOUT_S = 600.0


def score(
    context: Scored | None = None,
    options: Iterable[Scored] | None = None,
    *,
    pairs: Iterable[GivenPair] | None = None,
    normalisation: Normalisation = "sum",
    unconditional_context: Scored | None = None,
    boundary: BoundaryName | None = None,
    terminator: Literal["none", "newline", "eot"] = "none",
    on_overflow: Literal["error", "left"] = "error",
    per_token: bool = False,
    timeout_s: float | None = SCORING_TIMEOUT_S,
) -> Call[ScoreReply]:
    """Return how likely completions are given their contexts, in the model of the server's scorer.

    Parameters
    ----------
    context, options : str or sequence of int, and an iterable of them
        Completions of one context; ``best`` of the result is the place of the likeliest.
    pairs : iterable of (context, completion), or of dict
        Instead of those: pairs of their own; at most 10,000.
    normalisation : str
        What ``score`` is: ``sum``, ``mean_token``, ``per_byte``, ``per_character`` or ``pmi``.
    unconditional_context : str or sequence of int, optional
        For ``pmi``: what the likelihood of a completion is compared with.
    boundary : str, optional
        Where a completion begins, in tokens: ``joint``, ``separate``, ``harness`` or ``ids``. Default:
        ``separate`` where the context ends with a line end or a special token, else ``joint``.
    terminator : "none", "newline" or "eot"
        Appended to every completion, so that "New" does not always beat "New York".
    on_overflow : "error" or "left"
        Whether a context that is too long is an error, or loses its start.
    per_token : bool
        Return each token's log-probability as well.
    timeout_s : float, optional
        Longest wait for the answer.

    Returns
    -------
    ScoreReply
        ``results`` in the given order. One that could not be scored has ``error``, and is not raised.

    Raises
    ------
    InvalidInput
    ScorerUnavailable
        None is configured, it does not answer, or its numbers cannot be trusted.
    """
    body = present(
        context=context,
        options=_listed(options),
        pairs=None if pairs is None else [_pair(one) for one in pairs],
        unconditional_context=unconditional_context,
        boundary=boundary,
    ) | {
        "normalisation": normalisation,
        "terminator": terminator,
        "on_overflow": on_overflow,
        "per_token": per_token,
    }
    # To score again changes nothing, so it goes without an idempotency key.
    return Call(
        method="POST",
        path=path_of("score"),
        body=encode(body),
        timeout_s=timeout_s,
        read=reader(ScoreReply),
    )


def scorer() -> Call[ScorerInfo]:
    """Say which scorer the server has and what it can do; that there is none is an answer, not an error."""
    return Call(method="GET", path=path_of("scorer"), read=reader(ScorerInfo))


def _listed(options: Iterable[Scored] | None) -> list[Scored] | None:
    if isinstance(options, str | bytes):
        raise InvalidInput("options is one text, wanted an iterable of completions")
    return None if options is None else list(options)


def _pair(given: GivenPair) -> Mapping[str, Any]:
    if isinstance(given, Mapping):
        return given
    if isinstance(given, tuple) and len(given) == 2:
        return {"context": given[0], "completion": given[1]}
    raise InvalidInput(
        f"{type(given).__name__} is no pair; wanted (context, completion) or a dict of the two"
    )
