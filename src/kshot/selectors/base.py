"""The selector contract, and how hyper-parameters are declared."""

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import Field, field, fields
from functools import cache
from typing import (
    Any,
    ClassVar,
    Literal,
    Protocol,
    TypeAlias,
    TypeVar,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import numpy as np

from kshot.arrays import Candidates, Feature, Floats, Int64s, Picks
from kshot.errors import FieldError, InvalidInput, InvalidParameter

T = TypeVar("T")
ScoreExactly: TypeAlias = Callable[[Int64s], Floats]
"""Return the exact partial scores, shape (m, L), of m distinct candidates, whose indices ascend."""


class Selector(Protocol):
    """Chooses k of n candidates for one query.

    A selector is a frozen dataclass: its fields are hyper-parameters (declare them with `parameter`), it
    holds no state between calls, and one instance may serve any number of threads. Callers may rely on
    this:

    - ``indices`` are distinct and in pick order; fewer than ``k`` only if fewer candidates exist;
    - the same candidates, k and generator state give the same picks; deterministic methods ignore ``rng``;
    - ties go to the lowest index; inputs are never changed in place;
    - one candidate, identical candidates and all-zero scores are valid input.
    """

    pool_wide: ClassVar[bool]
    """True if a shortlist would change the result: the index then passes every eligible row."""

    @property
    def needs(self) -> frozenset[Feature]:
        """Features without which ``select`` cannot run; the index computes no others.

        A class constant for most selectors; a property where it follows from the hyper-parameters. Ask the
        instance, not the class.
        """
        ...

    def select(self, candidates: Candidates, k: int, rng: np.random.Generator) -> Picks:
        """Return at most ``k`` picks, ``k >= 1``."""
        ...


class RefiningSelector(Selector, Protocol):
    """A selector that finds out from estimated token scores which rows of a large pool it may choose.

    Only those are then scored exactly, so that a pool-wide method need not read the whole pool.
    """

    def refine(self, estimated: Candidates, k: int, score: ScoreExactly) -> tuple[Int64s, Floats]:
        """Return the candidates that `select` may choose ``k`` from, and their exact partial scores.

        Parameters
        ----------
        estimated : Candidates
            Complete but for their ``partial_scores``, which are estimates.
        k : int
            At least 1.
        score : callable
            Gives exact partial scores, at a price.

        Returns
        -------
        indices : int64 array, shape (m,)
            Ascending; at least ``min(k, n)``.
        partial_scores : float array, shape (m, L)
        """
        ...


def as_refining(selector: Selector) -> RefiningSelector | None:
    """Return the selector if it can refine estimates."""
    return cast("RefiningSelector", selector) if hasattr(selector, "refine") else None


class CoveringSelector(Selector, Protocol):
    """A selector that covers the parts of the query, so that lengths can be weighed against coverage."""

    def covered(self, candidates: Candidates) -> Floats:
        """Return the partial scores that are covered with, shape (n, L); L is 0 where there is nothing."""
        ...


def as_covering(selector: Selector) -> CoveringSelector | None:
    """Return the selector if it covers the query's parts."""
    return cast("CoveringSelector", selector) if hasattr(selector, "covered") else None


def parameter(
    default: T,
    *,
    description: str,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
) -> T:
    """Declare a hyper-parameter: its default, its meaning and its range, once for library and HTTP alike."""
    metadata = {"description": description, "ge": ge, "gt": gt, "le": le}
    return field(default=default, metadata=metadata)


def require_part(part: T | None, feature: Feature) -> T:
    """Return a part of `Candidates` that a selector cannot do without.

    Raises
    ------
    InvalidInput
        The part is None: the pool lacks the feature, or the caller did not ask for what `Selector.needs`
        says.
    """
    if part is None:
        raise InvalidInput(f"the method needs the candidates' {feature}, and they come without")
    return part


def require_count(k: int) -> None:
    """Refuse to choose fewer than one demonstration.

    Raises
    ------
    InvalidParameter
        ``k`` is below 1.
    """
    if k < 1:
        raise InvalidParameter(
            f"k is {k}, allowed >= 1", errors=[FieldError("/k", f"received {k}, allowed >= 1")]
        )


def _violation(item: Field[Any], value: object) -> str | None:
    bounds = item.metadata
    if value is None or isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Integers are as large as they like, and none is infinite.
    if isinstance(value, float) and not math.isfinite(value):
        return "a finite number"
    for key, holds, sign in (("ge", operator.ge, ">="), ("gt", operator.gt, ">"), ("le", operator.le, "<=")):
        bound = bounds.get(key)
        if bound is not None and not holds(value, bound):
            return f"{sign} {bound:g}"
    return None


@cache
def _name_to_choices(cls: type[Any]) -> Mapping[str, tuple[Any, ...]]:
    """Return the allowed values of the fields that are declared as a ``Literal``."""
    hints = get_type_hints(cls)
    return {
        item.name: get_args(hints[item.name])
        for item in fields(cls)
        if get_origin(hints[item.name]) is Literal
    }


def check_parameters(selector: Any) -> None:
    """Refuse hyper-parameters outside their declared range or choices; call it in ``__post_init__``.

    Raises
    ------
    InvalidParameter
        Names every refused field with the value received and the bound, or the values allowed.
    """
    refused = []
    cls: Any = type(selector)
    name_to_choices = _name_to_choices(cls)
    for item in fields(selector):
        value = getattr(selector, item.name)
        choices = name_to_choices.get(item.name)
        if choices is None:
            wanted = _violation(item, value)
        else:
            wanted = None if value in choices else ", ".join(map(repr, choices))
        if wanted is not None:
            refused.append(FieldError(f"/method/{item.name}", f"received {value!r}, allowed {wanted}"))
    if refused:
        raise InvalidParameter(
            "; ".join(f"{error.pointer.rsplit('/', 1)[1]}: {error.message}" for error in refused),
            errors=refused,
        )


def require_any_weight(selector: Any, *names: str) -> None:
    """Refuse a weighted sum whose weights are all 0, as it would rank nothing.

    Raises
    ------
    InvalidParameter
        Every named field is 0.
    """
    if not any(getattr(selector, name) for name in names):
        message = f"{', '.join(names)} are all 0, allowed at least one above 0"
        raise InvalidParameter(message, errors=[FieldError(f"/method/{names[0]}", message)])
