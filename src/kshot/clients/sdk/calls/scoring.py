"""Calls about likelihoods."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from kshot.clients.sdk.calls.base import Call, encode, path_of, present, reader
from kshot.errors import InvalidInput
from kshot.schemas.scoring import BoundaryName, Normalisation, Overflow, ScoreReply, ScorerInfo

Scored: TypeAlias = str | Sequence[int]
"""A text, or token ids that are fed as they are."""
GivenContext: TypeAlias = Scored | Mapping[str, Any]
"""One of those, or a dict: ``instruction``, ``demonstrations`` and ``query``, or ``messages`` of a chat."""
GivenCompletion: TypeAlias = Scored | Mapping[str, Any]
"""One of those, or ``{"forms": [...]}``: a label that may be written in several ways."""
GivenPair: TypeAlias = tuple[GivenContext, GivenCompletion] | Mapping[str, Any]
"""``(context, completion)``, or a dict of the two."""
SCORING_TIMEOUT_S = 600.0


def score(
    context: GivenContext | None = None,
    options: Iterable[GivenCompletion] | None = None,
    *,
    pairs: Iterable[GivenPair] | None = None,
    normalisation: Normalisation = "sum",
    unconditional_context: GivenContext | None = None,
    boundary: BoundaryName | None = None,
    terminator: Literal["none", "newline", "eot"] = "none",
    on_overflow: Overflow = "error",
    per_token: bool = False,
    timeout_s: float | None = SCORING_TIMEOUT_S,
) -> Call[ScoreReply]:
    """Return how likely completions are given their contexts, in the model of the server's scorer.

    Parameters
    ----------
    context, options : str, sequence of int or dict, and an iterable of them
        Completions of one context; ``best`` of the result is the place of the likeliest. A context may be a
        dict as well: ``instruction``, ``demonstrations`` (a list in prompt order) and ``query``, or
        ``messages`` with ``template_switches``, which the model's own template writes. A completion may be
        ``{"forms": [...]}``, several ways to write one label, whose likelihoods are added.
    pairs : iterable of (context, completion), or of dict
        Instead of those: pairs of their own; at most 10,000.
    normalisation : str
        What ``score`` is: ``sum``, ``mean_token``, ``per_byte``, ``per_character`` or ``pmi``.
    unconditional_context : str, sequence of int or dict, optional
        For ``pmi``: what the likelihood of a completion is compared with.
    boundary : str, optional
        Where a completion begins, in tokens: ``joint``, ``separate``, ``harness`` or ``ids``. Default:
        ``separate`` where the context is a chat, or ends with a line end or a special token, else ``joint``.
    terminator : "none", "newline" or "eot"
        Appended to every completion, so that "New" does not always beat "New York".
    on_overflow : "error", "left" or "drop_demos"
        Whether a context that is too long is an error, loses its start, or loses whole demonstrations (of a
        chat, exchanges), the farthest from the query first.
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


def _listed(options: Iterable[GivenCompletion] | None) -> list[GivenCompletion] | None:
    if isinstance(options, str | bytes | Mapping):
        raise InvalidInput("options is one completion, wanted an iterable of them")
    return None if options is None else list(options)


def _pair(given: GivenPair) -> Mapping[str, Any]:
    if isinstance(given, Mapping):
        return given
    if isinstance(given, tuple) and len(given) == 2:
        return {"context": given[0], "completion": given[1]}
    raise InvalidInput(
        f"{type(given).__name__} is no pair; wanted (context, completion) or a dict of the two"
    )
