"""From a request to pairs, and from scores to a reply; nothing here asks a scorer."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from kshot.clients.scorers.base import (
    Boundary,
    Capabilities,
    Chat,
    Context,
    Message,
    NotScored,
    Pair,
    Parts,
    ScoringOptions,
    Text,
)
from kshot.errors import InvalidInput
from kshot.schemas.scoring import (
    ChatIn,
    CompletionIn,
    ContextIn,
    FormsIn,
    OptionIn,
    PairIn,
    PartsIn,
    Scorable,
    ScoreReply,
    ScoreRequest,
    best_option,
)
from kshot.server.services.scoring.items import Result, item_of, label_item
from kshot.server.validation import validated


@dataclass(frozen=True, slots=True)
class Asked:
    """One item of a request: a completion, or a label with its forms."""

    pairs: tuple[Pair, ...]
    is_label: bool = False


def asked_of(request: ScoreRequest) -> list[Asked | NotScored]:
    """Return what is to be scored; in the place of an item that cannot be read, why."""
    if request.pairs is not None:
        return [_pair(value) for value in request.pairs]
    assert request.context is not None
    assert request.options is not None
    context = context_of(request.context)
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
    context = context_of(request.unconditional_context)
    return [Pair(context=context, completion=pair.completion) for pair in pairs]


def context_of(given: ContextIn) -> Context:
    """Return a context as a scorer takes it."""
    if isinstance(given, PartsIn):
        return Parts(
            instruction=given.instruction, demonstrations=tuple(given.demonstrations), query=given.query
        )
    if isinstance(given, ChatIn):
        return Chat(
            messages=tuple(Message(role=one.role, content=one.content) for one in given.messages),
            template_switches=json.dumps(given.template_switches, sort_keys=True),
        )
    return _text(given)


def reply_of(
    request: ScoreRequest,
    capabilities: Capabilities,
    asked: Sequence[Asked | NotScored],
    results: Sequence[Result],
    base: Sequence[Result],
) -> ScoreReply:
    """Normalise scores and compare them.

    Parameters
    ----------
    request : ScoreRequest
    capabilities : Capabilities
    asked : sequence of Asked or NotScored
        One per item of the request.
    results : sequence of Scored or NotScored
        Of all their pairs, one after the other.
    base : sequence of Scored or NotScored
        The same given the unconditional context; empty without one.
    """
    scored = iter(results)
    unconditioned = iter(base)
    items = []
    for one in asked:
        if isinstance(one, NotScored):
            items.append(item_of(one, None, request.normalisation))
            continue
        own = list(islice(scored, len(one.pairs)))
        theirs = list(islice(unconditioned, len(one.pairs)))
        if one.is_label:
            items.append(label_item(own, theirs, request.normalisation))
        else:
            items.append(item_of(own[0], next(iter(theirs), None), request.normalisation))
    return ScoreReply(
        backend=capabilities.backend,
        model=capabilities.model,
        fingerprint=capabilities.fingerprint,
        tolerance_nats=capabilities.tolerance_nats,
        normalisation=request.normalisation,
        results=items,
        best=None if request.options is None else best_option(items),
    )


def _pair(value: Any) -> Asked | NotScored:
    try:
        given = validated(PairIn, value)
    except InvalidInput as error:
        return NotScored(code=error.code, message=error.message)
    return _asked(context_of(given.context), given.completion)


def _option(context: Context, value: Any) -> Asked | NotScored:
    try:
        given = validated(OptionIn, {"completion": value})
    except InvalidInput as error:
        return NotScored(code=error.code, message=error.message.removeprefix("/completion "))
    return _asked(context, given.completion)


def _asked(context: Context, completion: CompletionIn) -> Asked:
    if not isinstance(completion, FormsIn):
        return Asked((Pair(context=context, completion=_text(completion)),))
    forms = dict.fromkeys(map(_text, completion.forms))
    return Asked(tuple(Pair(context=context, completion=form) for form in forms), is_label=True)


def _text(value: Scorable) -> Text:
    return value if isinstance(value, str) else tuple(value)
