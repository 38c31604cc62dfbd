"""A small Jinja2 for templates that come from outside: text, conditions, one level of loops, a few filters.

A template can neither reach the process nor hold it for long. What it may say is a list of syntax nodes,
filters and methods; everything that makes much out of little is bounded: loops, ranges, joined and replaced
texts, the output as a whole, and the time.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from functools import wraps
from itertools import islice
from typing import Any, ClassVar, TypeVar

from jinja2 import (
    StrictUndefined,
    Template,
    TemplateAssertionError,
    TemplateSyntaxError,
    Undefined,
    meta,
    nodes,
)
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from kshot.errors import FieldError, InvalidTemplate

T = TypeVar("T")
MAX_CHARS = 1_000_000
"""Longest text that a template, or one step inside it, may produce."""
MAX_STEPS = 1_000
"""Steps of one loop or range."""
MAX_RENDER_S = 2.0
MAX_DIGITS = 15

_SYNTAX = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.If,
    nodes.For,
    nodes.Name,
    nodes.Const,
    nodes.Tuple,
    nodes.List,
    nodes.Getattr,
    nodes.Getitem,
    nodes.Slice,
    nodes.Call,
    nodes.Keyword,
    nodes.Filter,
    nodes.Test,
    nodes.CondExpr,
    nodes.Compare,
    nodes.Operand,
    nodes.UnaryExpr,
    nodes.BinExpr,
    nodes.Concat,
)
_METHODS = frozenset(
    {
        *("capitalize", "lower", "title", "upper", "lstrip", "rstrip", "strip", "split"),
        *("endswith", "startswith", "get", "items", "keys", "values", "cycle"),
    }
)
# No name that a template could write.
_STEPS, _CONCATENATED = "(steps)", "(concatenated)"

_deadline: ContextVar[float] = ContextVar("deadline", default=float("inf"))


class SandboxedTemplate:
    """One compiled template, and the JSON pointer of where it stands.

    Parameters
    ----------
    pointer : str
        Named in every refusal.
    source : str
    names : iterable of str, optional
        The variables that it may use; any by default.

    Attributes
    ----------
    variables : frozenset of str
        Those that it uses.

    Raises
    ------
    InvalidTemplate
        The source does not compile, or uses a variable, a filter or a construct that is not allowed.
    """

    def __init__(self, pointer: str, source: str, names: Iterable[str] | None = None) -> None:
        self._pointer = pointer
        allowed = None if names is None else frozenset(names)
        self._template, self.variables = self._said(lambda: _compiled(source, allowed))

    def render(self, values: Mapping[str, Any]) -> str:
        """Render.

        Raises
        ------
        InvalidTemplate
            The values lack something that the template names, or it takes too long or makes too much.
        """
        return self._said(lambda: _rendered(self._template, values))

    def _said(self, work: Callable[[], T]) -> T:
        """Do ``work``; whatever it raises becomes a refusal that names the template."""
        try:
            return work()
        except Exception as error:  # noqa: BLE001  (hostile source raises anything: RecursionError, OverflowError)
            reason = _reason(error)
            raise InvalidTemplate(
                f"{self._pointer}: {reason}", errors=[FieldError(self._pointer, reason)]
            ) from None


def _reason(error: Exception) -> str:
    match error:
        case InvalidTemplate():
            return error.message
        case TemplateAssertionError():
            return f"{error.message} Allowed filters: {', '.join(sorted(FILTERS))}"
        case TemplateSyntaxError():
            # Its text would quote the source.
            return f"line {error.lineno}: {error.message}"
        case _:
            return f"{type(error).__name__}: {error}"


def _compiled(source: str, names: frozenset[str] | None) -> tuple[Template, frozenset[str]]:
    tree = _ENVIRONMENT.parse(source)
    _check_syntax(tree)
    used = frozenset(meta.find_undeclared_variables(tree) - _ENVIRONMENT.globals.keys())
    if names is not None and (unknown := used - names):
        raise InvalidTemplate(f"{min(unknown)!r} is unknown, allowed {', '.join(sorted(names))}")
    tree = _Bounded().visit(tree)
    tree.set_environment(_ENVIRONMENT)
    return _ENVIRONMENT.from_string(tree), used


def _check_syntax(tree: nodes.Node) -> None:
    waiting: list[tuple[nodes.Node, bool]] = [(tree, False)]
    while waiting:
        node, inside_loop = waiting.pop()
        if not isinstance(node, _SYNTAX) or isinstance(node, nodes.Pow):
            raise InvalidTemplate(f"{type(node).__name__.lower()} is not allowed")
        if isinstance(node, nodes.Name) and node.name in {"self", "super"}:
            # Always there, so never found among the unknown variables.
            raise InvalidTemplate(f"{node.name!r} is not allowed")
        if isinstance(node, nodes.For):
            if inside_loop:
                raise InvalidTemplate("a loop inside a loop is not allowed")
            if node.recursive:
                raise InvalidTemplate("a recursive loop is not allowed")
            inside_loop = True
        waiting.extend((child, inside_loop) for child in node.iter_child_nodes())


class _Bounded(NodeTransformer):
    """Sends loops and concatenations through filters that count."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802  (jinja2 finds it by this name)
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, _STEPS, [], [], None, None, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802  (jinja2 finds it by this name)
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Filter(parts, _CONCATENATED, [], [], None, None, lineno=node.lineno)


def _rendered(template: Template, values: Mapping[str, Any]) -> str:
    token = _deadline.set(time.monotonic() + MAX_RENDER_S)
    try:
        pieces: list[str] = []
        size = 0
        for piece in template.generate(values):
            pieces.append(piece)
            size += len(piece)
            _check_time()
            if size > MAX_CHARS:
                raise InvalidTemplate(f"gives more than {MAX_CHARS} characters")
        return "".join(pieces)
    finally:
        _deadline.reset(token)


def _check_time() -> None:
    if time.monotonic() > _deadline.get():
        raise InvalidTemplate(f"takes longer than {MAX_RENDER_S:g} s")


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops: ClassVar[frozenset[str]] = frozenset({"+", "*", "%"})  # type: ignore[misc]  # narrowed

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Calculate with numbers only: of texts and lists these operators make much out of little."""
        if not all(isinstance(side, int | float) for side in (left, right)):
            raise InvalidTemplate(f"{operator!r} is allowed between numbers only; '~' joins texts")
        return super().call_binop(context, operator, left, right)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Prefer a field to a method of the same name: ``inputs.items`` may be a field."""
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def wrap_str_format(self, value: Any) -> None:
        """Make ``str.format`` a method like any other, that is none of the allowed: it pads to any width."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Allow data, and a few methods."""
        return super().is_safe_attribute(obj, attr, value) and (not callable(value) or attr in _METHODS)


def _printable(value: Any) -> Any:
    if callable(value) and not isinstance(value, Undefined):
        raise InvalidTemplate("a method without its parentheses has no text")
    return value


def _guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        _check_time()
        result = function(*args, **kwargs)
        if isinstance(result, str):
            _check_length(len(result))
        return result

    return guarded


def _check_length(characters: int) -> None:
    if characters > MAX_CHARS:
        raise InvalidTemplate(f"makes a text of more than {MAX_CHARS} characters")


def _range(*bounds: int) -> range:
    numbers = range(*bounds)
    if len(numbers) > MAX_STEPS:
        raise InvalidTemplate(f"range has {len(numbers)} steps, allowed {MAX_STEPS}")
    return numbers


def _steps(values: Iterable[Any]) -> Iterator[Any]:
    iterator = iter(values)
    for value in islice(iterator, MAX_STEPS):
        _check_time()
        yield value
    if next(iterator, iterator) is not iterator:
        raise InvalidTemplate(f"a loop has more than {MAX_STEPS} steps")


def _join(values: Iterable[Any], separator: str = "") -> str:
    parts = [str(value) for value in values]
    _check_length(sum(map(len, parts)) + len(separator) * (len(parts) - 1))
    return separator.join(parts)


def _replace(text: str, old: str, new: str) -> str:
    _check_length(len(text) + text.count(old) * (len(new) - len(old)))
    return text.replace(old, new)


def _round(number: float, digits: int = 0) -> float:
    if not (isinstance(digits, int) and 0 <= digits <= MAX_DIGITS):
        raise InvalidTemplate(f"round received {digits!r} digits, allowed 0 to {MAX_DIGITS}")
    return round(number, digits)


def _tojson(value: Any) -> str:
    # jinja2's own writes "It\\u0027s", for HTML.
    return json.dumps(value, ensure_ascii=False)


_STANDARD_FILTERS = (
    *(
        "abs",
        "capitalize",
        "count",
        "default",
        "dictsort",
        "first",
        "float",
        "int",
        "items",
        "last",
        "length",
    ),
    *("list", "lower", "map", "reject", "rejectattr", "reverse", "select", "selectattr", "sort", "string"),
    *("title", "trim", "truncate", "unique", "upper"),
)
_OWN_FILTERS: Mapping[str, Callable[..., Any]] = {
    "join": _join,
    "replace": _replace,
    "round": _round,
    "tojson": _tojson,
}
FILTERS = frozenset({*_STANDARD_FILTERS, *_OWN_FILTERS})
"""Names that a template may write behind ``|``."""


def _environment() -> _Environment:
    environment = _Environment(
        undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True, finalize=_printable
    )
    environment.globals = {"range": _range}
    filters = {name: environment.filters[name] for name in _STANDARD_FILTERS}
    filters |= {**_OWN_FILTERS, _CONCATENATED: _join}
    environment.filters = {name: _guarded(function) for name, function in filters.items()} | {_STEPS: _steps}
    return environment


_ENVIRONMENT = _environment()
