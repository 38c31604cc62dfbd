"""The kinds of structure that a text may be read for."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Literal, TypeAlias, get_args

from kshot.errors import InvalidParameter
from kshot.structures.dependencies import spacy_reader
from kshot.structures.syntax_trees import python_bigrams, sql_reader
from kshot.structures.word_sequences import ngrams, words

StructureKind: TypeAlias = Literal["ngrams", "dependencies", "ast_python", "ast_sql"]
"""Word sequences; subtrees of English sentences; bigrams of the syntax trees of Python, of SQL."""

MAX_CHARS = 50_000
"""Longest text that is parsed, some 10,000 words: a hostile one of this length takes a parser seconds."""

Reader: TypeAlias = Callable[[Sequence[str]], list[list[Hashable]]]


def structures_of(texts: Sequence[str], kind: StructureKind, *, max_words: int = 4) -> list[list[Hashable]]:
    """Read the structures of texts.

    Parameters
    ----------
    texts : sequence of str
    kind : StructureKind
        ``ngrams``: runs of 1 to ``max_words`` lower-case words, see `ngrams`. ``dependencies``: subtrees of
        1 to 4 words, see `dependency_subtrees`; needs spaCy. ``ast_python`` and ``ast_sql``: bigrams of the
        syntax tree, see `python_bigrams`; SQL needs sqlglot.
    max_words : int
        At least 1; read for ``ngrams`` only.

    Returns
    -------
    list of lists, one per text
        Structures that can be compared and hashed, as often as they occur. Empty for a text that cannot be
        parsed, is longer than `MAX_CHARS` characters, or is not valid Unicode. There is no falling back to
        words: they would match nothing in a pool of parsed texts, and matching words is what ``ngrams`` does.

    Raises
    ------
    InvalidParameter
        ``kind`` is unknown, or ``max_words`` below 1.
    MissingDependency
        The parser is not installed; the message holds the line that installs it.

    Examples
    --------
    >>> structures_of(["To be?"], "ngrams", max_words=2)
    [[('to',), ('be',), ('to', 'be')]]
    """
    parts = reader_of(kind)(texts)
    return [list(ngrams(one, max_words)) for one in parts] if kind == "ngrams" else parts


def reader_of(kind: StructureKind) -> Reader:
    """Return what reads a kind of structure, the single words for ``ngrams``; raises as `structures_of`."""
    if kind not in get_args(StructureKind):
        raise InvalidParameter(f"structures are {kind!r}, allowed {', '.join(get_args(StructureKind))}")
    if kind == "ngrams":
        return lambda texts: [list(words(text)) for text in texts]
    read: Callable[[Sequence[str]], Iterable[Sequence[Hashable]]]
    if kind == "dependencies":
        read = spacy_reader()
    elif kind == "ast_sql":
        read = sql_reader()
    else:
        read = _read_python
    return lambda texts: [list(one) for one in read([text if _is_readable(text) else "" for text in texts])]


def _read_python(texts: Sequence[str]) -> list[list[tuple[str, str, str]]]:
    return [python_bigrams(text) for text in texts]


def _is_readable(text: str) -> bool:
    if len(text) > MAX_CHARS:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
