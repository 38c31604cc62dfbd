"""From the pairs and prompts of a call to the tokens that a model is fed."""

import asyncio
from collections.abc import Sequence

from kshot.clients.scorers.assessment import Assessment
from kshot.clients.scorers.base import Context, NotScored, Pair, ScoringOptions, Text, Tokens
from kshot.clients.scorers.boundary import Fed
from kshot.clients.scorers.dropping import Window, divide
from kshot.clients.scorers.endpoint import NotAnswered, Rejected
from kshot.clients.scorers.isolation import Unanswered, reason
from kshot.clients.scorers.prompts import begun
from kshot.clients.scorers.server_tokenizer import ServerTokenizer
from kshot.clients.scorers.tokenization import NoTemplate, run_flow
from kshot.errors import InvalidInput, ScorerUnavailable


async def feed(
    tokenizer: ServerTokenizer, known: Assessment, pairs: Sequence[Pair], options: ScoringOptions
) -> list[Fed | NotScored]:
    """Divide pairs into tokens that fit the model; one result each, in their order."""
    context_to_places: dict[Context, list[int]] = {}
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
    return [results[i] for i in range(len(pairs))]


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
    flow = begun(prompts, special=known.special, longest=known.capabilities.max_model_tokens - room)
    try:
        return await run_flow(flow, tokenizer.answer)
    except NotAnswered as error:
        raise ScorerUnavailable(f"the scorer does not answer: {reason(error)}") from error


async def _divide(
    tokenizer: ServerTokenizer,
    known: Assessment,
    context: Context,
    completions: Sequence[Text],
    options: ScoringOptions,
) -> list[Fed | NotScored]:
    window = Window(known.capabilities.max_model_tokens, known.special)
    try:
        return await run_flow(divide(context, completions, window, options), tokenizer.answer)
    except NoTemplate as error:
        lost = NotScored(code=InvalidInput.code, message=str(error))
    except NotAnswered as error:
        lost = Unanswered(code=ScorerUnavailable.code, message=f"the scorer does not answer: {reason(error)}")
    except ScorerUnavailable as error:
        if not isinstance(error.__cause__, Rejected):
            lost = Unanswered(code=error.code, message=error.message)
        elif len(completions) > 1 and isinstance(context, tuple):
            # Token ids that are none: each completion by itself, as ids are not divided anyway.
            parts = [await _divide(tokenizer, known, context, [one], options) for one in completions]
            return [one for part in parts for one in part]
        else:
            lost = NotScored(code=InvalidInput.code, message=error.message)
    return [lost] * len(completions)
