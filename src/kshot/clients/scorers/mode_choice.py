"""Which of the three ways to score the completions of one context costs the fewest prompt tokens."""

from collections.abc import Collection, Sequence

from kshot.clients.scorers.base import ScoringMode, Tokens
from kshot.clients.scorers.tries import inner_nodes

BLOCK_TOKENS = 16
"""A prefix cache keeps whole blocks; of a cached prompt at most one block is computed again."""
_TRIE_BELOW = 0.7
"""Many small requests must save more than their overhead."""


def echo_tokens(context_tokens: int, completions: Sequence[Tokens]) -> int:
    """Estimate what echo mode computes: everything, for every completion."""
    return sum(context_tokens + len(completion) for completion in completions)


def trie_tokens(context_tokens: int, completions: Sequence[Tokens], *, forced: bool = False) -> int:
    """Estimate what trie mode computes: the context once, and a block per question.

    Parameters
    ----------
    forced : bool
        Whether each edge is a question of its own, as without ``logprob_token_ids``.
    """
    nodes = inner_nodes(completions)
    questions = sum(len(node.children) for node in nodes) if forced else len(nodes)
    depth = max(map(len, completions), default=0)
    return questions * (BLOCK_TOKENS + depth) + context_tokens


def choose_mode(
    context_tokens: int,
    completions: Sequence[Tokens],
    *,
    allowed: Collection[ScoringMode],
    forced: bool = False,
    max_echo_tokens: int | None = None,
) -> ScoringMode | None:
    """Return the mode that costs least among those allowed, or None if none can do it.

    Label mode where every completion is a single token; trie mode where it computes less than 0.7 of what
    echo mode does; else echo mode. Prompts longer than ``max_echo_tokens`` are not read in echo mode.
    """
    single = all(len(completion) == 1 for completion in completions)
    usable = set(allowed) - (set() if single else {ScoringMode.LABEL})
    longest = context_tokens + max(map(len, completions), default=0)
    if max_echo_tokens is not None and longest > max_echo_tokens:
        usable.discard(ScoringMode.ECHO)
    if single and not forced and ScoringMode.LABEL in usable:
        return ScoringMode.LABEL
    if not usable:
        return None
    if ScoringMode.ECHO not in usable:
        return ScoringMode.LABEL if ScoringMode.LABEL in usable else ScoringMode.TRIE
    branched = {ScoringMode.LABEL, ScoringMode.TRIE} & usable
    if not branched:
        return ScoringMode.ECHO
    trie = trie_tokens(context_tokens, completions, forced=forced)
    if trie < _TRIE_BELOW * echo_tokens(context_tokens, completions):
        return ScoringMode.LABEL if ScoringMode.LABEL in branched else ScoringMode.TRIE
    return ScoringMode.ECHO
