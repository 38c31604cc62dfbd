"""In which order prompts are sent, so that a prefix cache saves what they share.

Prompts that are computed at the same time share nothing. So one that is the first to hold a block of tokens
leads, and those that hold the same block follow in a later wave.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TypeVar

from kshot.clients.scorers.base import Tokens

T = TypeVar("T")
_MAX_WAVES = 8


def waves(prompts: Sequence[Tokens], block_tokens: int | None) -> list[list[int]]:
    """Divide prompts into waves, each to be sent when the one before is answered; returns indices.

    Within a wave prompts are in the order of their tokens, which puts those that share most side by side.
    Eight waves at most: from there on what is shared may be computed twice. One wave where ``block_tokens``
    is None, as there is no cache to wait for.
    """
    in_order = sorted(range(len(prompts)), key=lambda i: prompts[i])
    if block_tokens is None:
        return [in_order] if in_order else []
    block_to_wave: dict[int, int] = {}
    numbered: list[list[int]] = []
    for i in in_order:
        keys = list(_block_keys(prompts[i], block_tokens))
        claimed = [key for key in keys if key in block_to_wave]
        wave = min(block_to_wave[claimed[-1]] + 1, _MAX_WAVES - 1) if claimed else 0
        for key in keys[len(claimed) :]:
            block_to_wave[key] = wave
        while len(numbered) <= wave:
            numbered.append([])
        numbered[wave].append(i)
    return numbered


def calls(
    indices: Sequence[int],
    *,
    tokens: Callable[[int], int],
    fits: Callable[[list[int], int], bool],
    max_tokens: int,
    max_prompts: int,
) -> Iterator[list[int]]:
    """Pack prompts into calls, in their order: a new call starts where one more would not fit."""
    call: list[int] = []
    held = 0
    for i in indices:
        if call and (held + tokens(i) > max_tokens or len(call) == max_prompts or not fits(call, i)):
            yield call
            call, held = [], 0
        call.append(i)
        held += tokens(i)
    if call:
        yield call


def _block_keys(prompt: Tokens, block_tokens: int) -> Iterator[int]:
    key = 0
    for start, end in pairwise(range(0, len(prompt) + 1, block_tokens)):
        key = hash((key, prompt[start:end]))
        yield key
