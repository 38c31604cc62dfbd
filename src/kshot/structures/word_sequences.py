"""Words, and the sequences that they form."""

import re
from collections.abc import Hashable, Sequence
from typing import TypeVar

from kshot.errors import InvalidParameter

T = TypeVar("T", bound=Hashable)
_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Split a text into lower-case words; everything but letters, digits and '_' separates."""
    return _WORD.findall(text.lower())


def ngrams(tokens: Sequence[T], max_words: int = 4) -> list[tuple[T, ...]]:
    """List every run of 1 to ``max_words`` neighbouring tokens.

    Parameters
    ----------
    tokens : sequence
        As `words` gives them, or split in any other way: ``text.split()`` keeps case and punctuation.
    max_words : int
        At least 1.

    Returns
    -------
    list of tuples of tokens
        Shorter runs first, then in reading order; a run that occurs twice is listed twice.

    Raises
    ------
    InvalidParameter
        ``max_words`` is below 1.

    Examples
    --------
    >>> ngrams(["to", "be", "or"], max_words=2)
    [('to',), ('be',), ('or',), ('to', 'be'), ('be', 'or')]
    """
    if max_words < 1:
        raise InvalidParameter(f"max_words is {max_words}, allowed >= 1")
    return [
        tuple(tokens[start : start + length])
        for length in range(1, max_words + 1)
        for start in range(len(tokens) - length + 1)
    ]
