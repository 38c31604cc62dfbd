"""Bigrams of syntax trees: which constructs of a program stand below and beside each other."""

import ast
import logging
import warnings
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import pairwise
from typing import Any, TypeAlias, TypeVar

from kshot.errors import MissingDependency

N = TypeVar("N", bound=Hashable)
Bigram: TypeAlias = tuple[str, str, str]
"""``("child", parent type, child type)`` or ``("next", left sibling's type, right sibling's type)``."""

_PYTHON = "<kshot example>"
# Python warns of invalid escapes while it parses, on stderr and with a line of the text. Whoever stored the
# text need not hear of it each time; the filter is for this pretended file alone.
warnings.filterwarnings("ignore", module=_PYTHON)


def python_bigrams(text: str) -> list[Bigram]:
    """List the bigrams of a Python program's syntax tree.

    Parameters
    ----------
    text : str
        Statements or an expression, for the version of Python that runs this.

    Returns
    -------
    list of Bigram
        One per pair of parent and child and one per pair of neighbouring siblings, by the names of `ast`'s
        classes; repeated pairs are repeated. Load, Store and Del are left out: they follow from the place.
        Empty for a text that is no program, or one nested too deeply for Python's own parser.

    Notes
    -----
    The text is parsed, never run. O(nodes); the tree is walked without recursion.

    Examples
    --------
    >>> python_bigrams("x = f()")  # doctest: +NORMALIZE_WHITESPACE
    [('child', 'Module', 'Assign'), ('child', 'Assign', 'Name'), ('child', 'Assign', 'Call'),
     ('next', 'Name', 'Call'), ('child', 'Call', 'Name')]
    """
    try:
        tree = ast.parse(text, _PYTHON)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # MemoryError is how the parser says that its own stack is full.
        return []
    roots: list[ast.AST] = [tree]
    return _bigrams(roots, _python_children, lambda node: type(node).__name__)


def _python_children(node: ast.AST) -> list[ast.AST]:
    return [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.expr_context)]


def sql_reader() -> Callable[[Sequence[str]], list[list[Bigram]]]:
    """Return what reads the bigrams of SQL texts' syntax trees with sqlglot, in its general dialect.

    Bigrams are as in `python_bigrams`, by sqlglot's names of its expressions in lower case. A text of several
    statements has those of all. A text that sqlglot cannot parse, or only stores as an opaque command, has
    none. About a millisecond for a short query.

    Raises
    ------
    MissingDependency
        sqlglot is not installed; the message holds the line that installs it.
    """
    try:
        import sqlglot  # noqa: PLC0415  an extra
    except ImportError as error:
        raise MissingDependency.of("sqlglot", extra="sql", purpose="`ast_sql`") from error
    # It logs the beginning of a text that it does not understand, and examples do not belong in a log.
    logging.getLogger("sqlglot").setLevel(logging.ERROR)

    def read(text: str) -> list[Bigram]:
        try:
            statements = [one for one in sqlglot.parse(text) if one is not None]
        except (sqlglot.errors.SqlglotError, ValueError, RecursionError):
            return []
        if any(isinstance(one, sqlglot.exp.Command) for one in statements):
            return []
        return _bigrams(statements, _sql_children, lambda node: str(node.key))

    return lambda texts: [read(text) for text in texts]


def _sql_children(node: Any) -> list[Any]:
    return list(node.iter_expressions())


def _bigrams(
    roots: Iterable[N], children_of: Callable[[N], list[N]], name: Callable[[N], str]
) -> list[Bigram]:
    found: list[Bigram] = []
    # Grows while it is walked: breadth first, at any depth.
    waiting = list(roots)
    for node in waiting:
        children = children_of(node)
        names = [name(child) for child in children]
        found += [("child", name(node), child) for child in names]
        found += [("next", left, right) for left, right in pairwise(names)]
        waiting += children
    return found
