"""From the pairs and prompts of a call to the tokens that a model is fed."""

import asyncio
from collections.abc import Sequence

from kshot.clients.scorers.assessment import Assessment
from kshot.clients.scorers.base import NotScored, Pair, ScoringOptions, Text, Tokens
from kshot.clients.scorers.boundary import Fed, split
from kshot.clients.scorers.endpoint import NotAnswered, Rejected
from kshot.clients.scorers.fitting import fit
from kshot.clients.scorers.isolation import Unanswered, reason
from kshot.clients.scorers.server_tokenizer import ServerTokenizer
from kshot.clients.scorers.tokenization import encodings, run_flow
from kshot.errors import InvalidInput, PayloadTooLarge, ScorerUnavailable


async def feed(
    tokenizer: ServerTokenizer, known: Assessment, pairs: Sequence[Pair], options: ScoringOptions
) -> list[Fed | NotScored]:
    """Divide pairs into tokens that fit the model; one result each, in their order."""
    context_to_places: dict[Text, list[int]] = {}
    for i, pair in enumerate(pairs):
        context_to_places.setdefault(pair.context, []).append(i)
    parts = await asyncio.gather(
        *(
            _divide(tokenizer, known, context, [pairs[i].completion for i in places], options)
            for context, places in context_to_places.items()
        )
    )
    results: dict[int, Fed | NotScored] = {}
    for places, part in zip(context_to_places.values(), parts, strict=True):
        results |= dict(zip(places, part, strict=True))
    return [_fitted(results[i], known, options) for i in range(len(pairs))]


async def begin_all(
    tokenizer: ServerTokenizer, known: Assessment, prompts: Sequence[Text], room: int
) -> list[Tokens]:
    """Return the tokens of prompts, texts with the model's start in front.

    Raises
    ------
    InvalidInput
        A prompt is empty, holds a lone surrogate, or leaves less than ``room`` tokens of the model's window.
    ScorerUnavailable
        The tokenizer does not answer.
    """
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(f"a prompt holds a lone surrogate at character {error.start}") from None
    try:
        encoded = dict(zip(texts, await run_flow(encodings(texts), tokenizer.answer), strict=True))
    except NotAnswered as error:
        raise ScorerUnavailable(f"the scorer does not answer: {reason(error)}") from error
    special = known.special
    begun = [special.begin(encoded[one]) if isinstance(one, str) else tuple(one) for one in prompts]
    if special.start is not None:
        begun = [ids or (special.start,) for ids in begun]
    longest = known.capabilities.max_model_tokens - room
    for ids in begun:
        if not ids:
            raise InvalidInput("a prompt is empty, and the model has no token that starts a text")
        if len(ids) > longest:
            raise PayloadTooLarge(f"a prompt has {len(ids)} tokens, allowed {max(longest, 0)}")
    return begun


async def _divide(
    tokenizer: ServerTokenizer,
    known: Assessment,
    context: Text,
    completions: Sequence[Text],
    options: ScoringOptions,
) -> list[Fed | NotScored]:
    flow = split(
        context,
        completions,
        special=known.special,
        boundary=options.boundary,
        terminator=options.terminator,
    )
    try:
        return await run_flow(flow, tokenizer.answer)
    except NotAnswered as error:
        lost: NotScored = Unanswered(
            code=ScorerUnavailable.code, message=f"the scorer does not answer: {reason(error)}"
        )
    except ScorerUnavailable as error:
        if not isinstance(error.__cause__, Rejected):
            lost = Unanswered(code=error.code, message=error.message)
        elif len(completions) > 1 and not isinstance(context, str):
            # Token ids that are none: each completion by itself, as ids are not divided anyway.
            parts = [await _divide(tokenizer, known, context, [one], options) for one in completions]
            return [one for part in parts for one in part]
        else:
            lost = NotScored(code=InvalidInput.code, message=error.message)
    return [lost] * len(completions)


def _fitted(one: Fed | NotScored, known: Assessment, options: ScoringOptions) -> Fed | NotScored:
    if isinstance(one, NotScored):
        return one
    prefix = known.special.prefix
    keep = len(prefix) if prefix and one.context[: len(prefix)] == prefix else 0
    return fit(
        one,
        max_model_tokens=known.capabilities.max_model_tokens,
        on_overflow=options.on_overflow,
        keep=keep,
    )
