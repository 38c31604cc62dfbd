"""Operations as methods: what the sync and the async client share in building them.

An operation is written once, as a function that returns a `Call`, `Pages` or `Steps`. A client turns it into
a method with the same parameters and docstring, whose result is what the operation stands for.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, get_args

F = TypeVar("F", bound=Callable[..., Any])


def presented_as(operation: Callable[..., Any], several: Any = None) -> Callable[[F], F]:
    """Give a method the name, docstring and parameters of the operation that it carries out.

    The method returns what the operation stands for (the last type argument of its return annotation), or
    ``several`` of them: a generic type such as ``Iterator``.
    """

    def dress(method: F) -> F:
        functools.update_wrapper(method, operation)
        del method.__dict__["__wrapped__"]  # or `inspect` would show the operation's signature
        signature = inspect.signature(operation)
        itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        result = get_args(signature.return_annotation)[-1]
        returns = result if several is None else several[result]
        method.__signature__ = signature.replace(  # type: ignore[attr-defined]  # read by `inspect`
            parameters=[itself, *signature.parameters.values()], return_annotation=returns
        )
        return method

    return dress
