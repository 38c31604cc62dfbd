"""Which of the three ways to score the completions of one context costs the fewest prompt tokens."""

from collections.abc import Collection, Sequence

from kshot.clients.scorers.base import ScoringMode, Tokens
from kshot.clients.scorers.cache_blocks import DEFAULT_BLOCK_TOKENS, computed_tokens
from kshot.clients.scorers.tries import inner_nodes

_QUESTION_TOKENS = 4
"""What a small request costs beside the tokens it computes, in tokens."""


def echo_tokens(context_tokens: int, completions: Sequence[Tokens]) -> int:
    """Count what echo mode computes: everything, for every completion."""
    return sum(context_tokens + len(completion) for completion in completions)


def trie_tokens(
    context_tokens: int,
    completions: Sequence[Tokens],
    *,
    forced: bool = False,
    block_tokens: int | None = DEFAULT_BLOCK_TOKENS,
) -> int:
    """Count what trie mode computes of a context that is not in the prefix cache.

    The first question computes the context, and what is in whole blocks then is kept. Every other one
    computes what its prompt has after the last whole block of all but its last token.

    Parameters
    ----------
    forced : bool
        Whether each edge is a question of its own, as without ``logprob_token_ids``.
    block_tokens : int or None
        Of the prefix cache; None without one: every question computes its whole prompt.
    """
    total = 0
    for i, node in enumerate(inner_nodes(completions)):
        prompt = context_tokens + len(node.prefix)
        again = computed_tokens(prompt, prompt - 1, block_tokens)
        total += (again if i else prompt) + (again * (len(node.children) - 1) if forced else 0)
    return total


def choose_mode(
    context_tokens: int,
    completions: Sequence[Tokens],
    *,
    allowed: Collection[ScoringMode],
    forced: bool = False,
    max_echo_tokens: int | None = None,
    block_tokens: int | None = DEFAULT_BLOCK_TOKENS,
) -> ScoringMode | None:
    """Return the mode that costs least among those allowed, or None if none can do it.

    Label mode where every completion is a single token; trie mode where it computes less than echo mode,
    four tokens added for each of its questions; else echo mode. Prompts longer than ``max_echo_tokens`` are
    not read in echo mode.
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
    nodes = inner_nodes(completions)
    questions = sum(len(node.children) for node in nodes) if forced else len(nodes)
    stepwise = trie_tokens(context_tokens, completions, forced=forced, block_tokens=block_tokens)
    if stepwise + _QUESTION_TOKENS * questions < echo_tokens(context_tokens, completions):
        return ScoringMode.LABEL if ScoringMode.LABEL in branched else ScoringMode.TRIE
    return ScoringMode.ECHO
