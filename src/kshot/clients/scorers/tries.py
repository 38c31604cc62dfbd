"""The tree of all completions of a context: one question per inner node scores every one of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kshot.clients.scorers.base import Tokens


@dataclass(frozen=True, slots=True)
class Node:
    """An inner node: ask for the next token after ``prefix``, which follows the context."""

    prefix: Tokens
    children: Tokens


def inner_nodes(completions: Iterable[Tokens]) -> list[Node]:
    """Return the nodes that have children, a parent before its children."""
    prefix_to_children: dict[Tokens, set[int]] = {}
    for completion in completions:
        for end, token in enumerate(completion):
            prefix_to_children.setdefault(completion[:end], set()).add(token)
    ordered = sorted(prefix_to_children, key=lambda prefix: (len(prefix), prefix))
    return [Node(prefix, tuple(sorted(prefix_to_children[prefix]))) for prefix in ordered]


def path_nats(completion: Tokens, prefix_to_nats: Mapping[Tokens, Mapping[int, float]]) -> tuple[float, ...]:
    """Return ln p of each token of a completion, by the chain rule, out of what the nodes answered."""
    return tuple(prefix_to_nats[completion[:end]][token] for end, token in enumerate(completion))
