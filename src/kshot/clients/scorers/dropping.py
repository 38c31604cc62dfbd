"""Contexts that are too long lose whole demonstrations, the farthest from the query first."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from kshot.clients.scorers.base import Chat, Context, NotScored, Parts, ScoringOptions, Text
from kshot.clients.scorers.boundary import Fed, split
from kshot.clients.scorers.fitting import fit
from kshot.clients.scorers.special_tokens import SpecialTokens
from kshot.clients.scorers.tokenization import Flow
from kshot.errors import PayloadTooLarge

C = TypeVar("C", bound=Context)


@dataclass(frozen=True, slots=True)
class Window:
    """What a model takes, and what its texts start and end with."""

    tokens: int
    special: SpecialTokens


def demonstrations(context: Context) -> int:
    """Return how many demonstrations a context may lose."""
    if isinstance(context, Parts):
        return len(context.demonstrations)
    if isinstance(context, Chat):
        return len(_exchanges(context))
    return 0


def without(context: C, number: int) -> C:
    """Return a context without its first ``number`` demonstrations."""
    if number and isinstance(context, Parts):
        return replace(context, demonstrations=context.demonstrations[number:])
    if number and isinstance(context, Chat):
        lost = {i for exchange in _exchanges(context)[:number] for i in exchange}
        kept = tuple(message for i, message in enumerate(context.messages) if i not in lost)
        return replace(context, messages=kept)
    return context


def divide(
    context: Context, completions: Sequence[Text], window: Window, options: ScoringOptions
) -> Flow[list[Fed | NotScored]]:
    """Divide one context and its completions into tokens that fit the model; one result per completion.

    Of demonstrations, the fewest are dropped with which every completion fits that fits without any; the same
    ones for all completions of the context, so that these stay comparable.
    """
    whole = yield from _attempt(context, completions, window, options)
    most = demonstrations(context)
    if options.on_overflow != "drop_demos" or not most or not any(map(_too_long, whole)):
        return whole
    bare = yield from _attempt(without(context, most), completions, window, options)
    sizes = [one.tokens if isinstance(one, Fed) else -1 for one in bare]
    longest = max(range(len(bare)), key=sizes.__getitem__)
    dropped = most
    if sizes[longest] > 0:
        # The longest decides, so it alone is tokenised again and again.
        fits, fails = most, 0
        while fits - fails > 1:
            middle = (fits + fails) // 2
            (one,) = yield from _attempt(without(context, middle), [completions[longest]], window, options)
            fits, fails = (fits, middle) if _too_long(one) else (middle, fails)
        dropped = fits
    kept = yield from _attempt(without(context, dropped), completions, window, options)
    full = yield from _split(context, completions, window, options)
    return [
        _told(one, before, without_any, dropped)
        for one, before, without_any in zip(kept, full, bare, strict=True)
    ]


def _told(
    one: Fed | NotScored, full: Fed | NotScored, bare: Fed | NotScored, dropped: int
) -> Fed | NotScored:
    if isinstance(one, Fed) and isinstance(full, Fed):
        return replace(one, dropped=full.tokens - one.tokens, dropped_demonstrations=dropped)
    return bare if isinstance(bare, NotScored) else one


def _attempt(
    context: Context, completions: Sequence[Text], window: Window, options: ScoringOptions
) -> Flow[list[Fed | NotScored]]:
    parts = yield from _split(context, completions, window, options)
    return [
        one
        if isinstance(one, NotScored)
        else fit(
            one,
            max_model_tokens=window.tokens,
            on_overflow=options.on_overflow,
            keep=window.special.prefix_tokens(one.context),
        )
        for one in parts
    ]


def _split(
    context: Context, completions: Sequence[Text], window: Window, options: ScoringOptions
) -> Flow[list[Fed | NotScored]]:
    return (
        yield from split(
            context,
            completions,
            special=window.special,
            boundary=options.boundary,
            terminator=options.terminator,
        )
    )


def _too_long(one: Fed | NotScored) -> bool:
    return isinstance(one, NotScored) and one.code == PayloadTooLarge.code


def _exchanges(chat: Chat) -> list[tuple[int, int]]:
    """Return the places of a user's message and its answer, wherever both are there."""
    roles = [message.role for message in chat.messages]
    return [(i, i + 1) for i in range(len(roles) - 1) if roles[i : i + 2] == ["user", "assistant"]]
