"""What a model in this process computes for a batch: one row of tokens for all that share it."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from kshot.clients.scorers.base import Tokens

_SHORTEST_SHARED = 32
"""Tokens in front that must be equal for a computation of their own to pay."""


@dataclass(frozen=True, slots=True)
class Row:
    """Tokens to run through a model, and what is read of its next-token distributions.

    Attributes
    ----------
    ids : tuple of int
        A context and all but the last token of one or more of its completions.
    first : int
        Length of the context, >= 1.
    wanted : tuple of tuple of int
        ``wanted[i]`` are the tokens asked for after the first ``first + i`` tokens.
    """

    ids: Tokens
    first: int
    wanted: tuple[Tokens, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the numbers of one completion are: by row, one step per token."""

    row: int
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class Group:
    """Rows (by number) whose first ``shared`` tokens are equal and computed once."""

    shared: int
    rows: tuple[int, ...]


def plan_rows(pairs: Sequence[tuple[Tokens, Tokens]]) -> tuple[list[Row], dict[tuple[Tokens, Tokens], Place]]:
    """Return the fewest rows that score every (context, completion), and where each one's numbers are.

    The last token of a completion is never fed, so single-token completions of a context share one row, and
    so do a completion and any that starts with it. Rows come in the order of their tokens, whatever the order
    of the pairs.
    """
    context_to_completions: dict[Tokens, set[Tokens]] = {}
    for context, completion in pairs:
        context_to_completions.setdefault(context, set()).add(completion)
    drafts: list[tuple[Tokens, Tokens, list[Tokens]]] = []
    for context, completions in context_to_completions.items():
        stems = sorted({completion[:-1] for completion in completions})
        # Sorted, what starts with a stem follows it directly.
        longest = [
            stem
            for stem, following in zip(stems, [*stems[1:], None], strict=True)
            if following is None or following[: len(stem)] != stem
        ]
        read: list[list[Tokens]] = [[] for _ in longest]
        for completion in sorted(completions):
            read[bisect_left(longest, completion[:-1])].append(completion)
        drafts += [(context, stem, found) for stem, found in zip(longest, read, strict=True)]
    drafts.sort(key=lambda draft: (draft[0] + draft[1], len(draft[0])))
    rows: list[Row] = []
    places: dict[tuple[Tokens, Tokens], Place] = {}
    for number, (context, stem, completions_read) in enumerate(drafts):
        wanted: list[set[int]] = [set() for _ in range(len(stem) + 1)]
        for completion in completions_read:
            places[context, completion] = Place(number, completion)
            for step, token in enumerate(completion):
                wanted[step].add(token)
        rows.append(Row(context + stem, len(context), tuple(tuple(sorted(ids)) for ids in wanted)))
    return rows, places


def group_rows(rows: Sequence[Row]) -> list[Group]:
    """Join neighbouring rows that start alike, as long as what that saves grows.

    The last token of a context is not shared: the distribution after it is read in each row.
    """
    groups: list[Group] = []
    members: list[int] = []
    shared = 0
    for number, row in enumerate(rows):
        alike = min(_common(rows[members[-1]].ids, row.ids, shared), row.first - 1) if members else 0
        if members and alike >= _SHORTEST_SHARED and len(members) * alike >= (len(members) - 1) * shared:
            members.append(number)
            shared = alike
            continue
        if members:
            groups.append(Group(shared if len(members) > 1 else 0, tuple(members)))
        members, shared = [number], row.first - 1
    if members:
        groups.append(Group(shared if len(members) > 1 else 0, tuple(members)))
    return groups


def pack(
    numbers: Sequence[int], lengths: Sequence[int], *, max_tokens: int, max_rows: int
) -> list[tuple[int, ...]]:
    """Divide rows into batches by length, the longest first, of at most ``max_tokens`` with their padding.

    A row that is longer by itself is a batch of its own.
    """
    batches: list[tuple[int, ...]] = []
    batch: list[int] = []
    for number in sorted(numbers, key=lambda number: (-lengths[number], number)):
        if batch and ((len(batch) + 1) * lengths[batch[0]] > max_tokens or len(batch) == max_rows):
            batches.append(tuple(batch))
            batch = []
        batch.append(number)
    return [*batches, tuple(batch)] if batch else batches


def _common(left: Tokens, right: Tokens, at_most: int) -> int:
    end = min(len(left), len(right), at_most)
    if left[:end] == right[:end]:
        return end
    return next(i for i in range(end) if left[i] != right[i])
