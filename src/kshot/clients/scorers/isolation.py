"""Find the item that breaks a batch by asking for its halves, so that it breaks only itself."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from kshot.clients.scorers.base import NotScored
from kshot.clients.scorers.endpoint import Broke, NotAnswered, Rejected
from kshot.clients.scorers.wire import Malformed
from kshot.errors import InvalidInput, KshotError, ScorerUnavailable

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswered(NotScored):
    """Nothing is known of this item, as the server does not answer anybody."""


async def isolated(
    items: Sequence[T], ask: Callable[[Sequence[T]], Awaitable[list[R | Malformed]]]
) -> list[R | NotScored]:
    """Ask for all items at once; where that fails because of one of them, ask for the halves.

    One poisoned item of n costs about 2 log2 n further requests.
    """
    try:
        answers = await ask(items)
    except (NotAnswered, ScorerUnavailable) as error:
        lost = Unanswered(code=ScorerUnavailable.code, message=f"the scorer does not answer: {reason(error)}")
        return [lost] * len(items)
    except (Broke, Rejected, Malformed) as error:
        if len(items) > 1:
            half = len(items) // 2
            parts = await asyncio.gather(isolated(items[:half], ask), isolated(items[half:], ask))
            return [answer for part in parts for answer in part]
        return [_not_scored(error)]
    return [_not_scored(answer) if isinstance(answer, Malformed) else answer for answer in answers]


def reason(error: Exception) -> str:
    """Say in a few words what happened; never what was asked."""
    return error.message if isinstance(error, KshotError) else str(error)


def _not_scored(error: Exception) -> NotScored:
    if isinstance(error, Rejected):
        return NotScored(code=InvalidInput.code, message=f"the scorer refuses it: {error}")
    return NotScored(code=ScorerUnavailable.code, message=f"the scorer fails on it: {error}")
