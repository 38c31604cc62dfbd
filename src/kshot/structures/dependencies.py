"""Subtrees of dependency trees: which words belong together, whatever stands between them."""

import re
from collections.abc import Callable, Sequence
from functools import cache
from threading import Lock
from typing import Any, TypeAlias

from kshot.errors import InvalidParameter, InvalidShape, MissingDependency

MODEL = "en_core_web_sm"
"""spaCy's small English pipeline."""
MAX_NODES = 4
MAX_DEPENDENTS = 10
"""Of a word's dependents, those that subtrees are made with. Real sentences rarely have more at one word; a
list of thousands of words under one head would have 10^10 subtrees."""

_LONG_CHUNK = re.compile(r"\S{64}(?=\S)")

Subtree: TypeAlias = tuple[str, tuple[Any, ...]]
"""A word and the subtrees below it, sorted."""


def dependency_subtrees(
    labels: Sequence[str], heads: Sequence[int], max_nodes: int = MAX_NODES
) -> list[Subtree]:
    """List every connected part of a dependency tree that has 1 to ``max_nodes`` words.

    Parameters
    ----------
    labels : sequence of str, n of them
        What a word counts as, such as its lemma.
    heads : sequence of int, n of them
        Position of the word that each word depends on; a root's own position, or -1.
    max_nodes : int
        At least 1.

    Returns
    -------
    list of Subtree
        Smaller ones first, then in the order of their topmost words. Dependents are sorted, so that word
        order does not matter; a subtree that occurs twice is listed twice.

    Raises
    ------
    InvalidShape
        The lengths differ, or a head is no position.
    InvalidParameter
        ``max_nodes`` is below 1.

    Notes
    -----
    Only the first `MAX_DEPENDENTS` dependents of a word take part, which bounds the subtrees of one topmost
    word. No recursion: a chain of any length is fine.

    Examples
    --------
    >>> dependency_subtrees(["old", "dog", "bark"], [1, 2, 2], max_nodes=2)  # doctest: +NORMALIZE_WHITESPACE
    [('old', ()), ('dog', ()), ('bark', ()),
     ('dog', (('old', ()),)), ('bark', (('dog', ()),))]
    """
    if max_nodes < 1:
        raise InvalidParameter(f"max_nodes is {max_nodes}, allowed >= 1")
    if len(labels) != len(heads):
        raise InvalidShape(f"{len(labels)} labels and {len(heads)} heads, wanted as many")
    below: list[list[int]] = [[] for _ in labels]
    for word, head in enumerate(heads):
        if not -1 <= head < len(labels):
            raise InvalidShape(f"heads[{word}] is {head}, allowed -1 to {len(labels) - 1}")
        if head not in {word, -1} and len(below[head]) < MAX_DEPENDENTS:
            below[head].append(word)

    # by_size[s][v]: the subtrees of s + 1 words with word v at the top.
    by_size: list[list[list[Subtree]]] = [[[(label, ())] for label in labels]]
    for _ in range(1, max_nodes):
        by_size.append([[] for _ in labels])
        for word, dependents in enumerate(below):
            for forest in _forests(dependents, by_size[:-1]):
                by_size[-1][word].append((labels[word], tuple(sorted(forest))))
    return [subtree for of_size in by_size for of_word in of_size for subtree in of_word]


def _forests(dependents: list[int], by_size: list[list[list[Subtree]]]) -> list[tuple[Subtree, ...]]:
    """Choose subtrees of different dependents with ``len(by_size)`` words in all, in every way."""
    total = len(by_size)
    by_total: list[list[tuple[Subtree, ...]]] = [[()], *([] for _ in range(total))]
    for word in dependents:
        for wanted in range(total, 0, -1):
            by_total[wanted] = by_total[wanted] + [
                (*forest, subtree)
                for size in range(1, wanted + 1)
                for forest in by_total[wanted - size]
                for subtree in by_size[size - 1][word]
            ]
    return by_total[total]


def spacy_reader() -> Callable[[Sequence[str]], list[list[Subtree]]]:
    """Return what reads the dependency subtrees of texts with spaCy's `MODEL`.

    Words count by their lemma in lower case; punctuation and spaces do not count. What is longer than 64
    characters without a space is read in pieces. The reader may be called from several threads, one of which
    parses at a time. About 2.5 ms for a short text on one core.

    Raises
    ------
    MissingDependency
        spaCy or its model is not installed; the message holds the line that installs it.
    """
    pipeline = _pipeline()

    def read(texts: Sequence[str]) -> list[list[Subtree]]:
        # Its tokenizer takes quadratic time over what no space divides: 20 s for 9,000 brackets.
        divided = [_LONG_CHUNK.sub(r"\g<0> ", text) for text in texts]
        # A pipeline shares one vocabulary and is not documented to be safe in several threads.
        with _PARSING:
            return [_subtrees_of(document) for document in pipeline.pipe(divided, batch_size=256)]

    return read


_PARSING = Lock()


@cache
def _pipeline() -> Any:
    try:
        import spacy  # noqa: PLC0415  an extra
    except ImportError as error:
        raise MissingDependency.of("spacy", extra="spacy", purpose="`dependencies`") from error
    try:
        return spacy.load(MODEL, exclude=["ner"])
    except OSError as error:
        raise MissingDependency(
            f"`dependencies` needs spaCy's {MODEL}, which is not installed: python -m spacy download {MODEL}"
        ) from error


def _subtrees_of(document: Any) -> list[Subtree]:
    kept = [token for token in document if not token.is_punct and not token.is_space]
    position = {token.i: place for place, token in enumerate(kept)}
    # A word below a punctuation mark starts a tree of its own.
    heads = [position.get(token.head.i, -1) for token in kept]
    return dependency_subtrees([token.lemma_.lower() for token in kept], heads)
