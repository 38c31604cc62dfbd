"""Which variants a request may get."""

from collections.abc import Sequence
from typing import NamedTuple

from kshot.errors import Conflict, FieldError, VariantNotFound
from kshot.schemas.base import Notice
from kshot.schemas.decisions import DecideRequest
from kshot.server.services.learning.definitions import Definition

ON_REQUEST = ("active", "candidate")
"""What takes part where a request names it; of the others only what is active."""


class Eligible(NamedTuple):
    """The arms of a decision, sorted; ``forced`` where there is nothing to choose."""

    arms: tuple[str, ...]
    forced: bool
    notices: tuple[Notice, ...]


def eligible(definition: Definition, request: DecideRequest) -> Eligible:
    """Return the variants that may be served.

    Raises
    ------
    VariantNotFound
        The request names one that there is not.
    Conflict
        None is left, and the policy has no fallback.
    """
    _check(definition, "eligible", request.eligible or ())
    _check(definition, "exclude", request.exclude)
    notices = []
    if request.eligible is None:
        named = [name for name, variant in definition.variants.items() if variant.is_active]
    else:
        named = []
        for name in dict.fromkeys(request.eligible):
            status = definition.variants[name].stored.status
            if status in ON_REQUEST:
                named.append(name)
            else:
                notices.append(
                    Notice(code="variant_not_active", message=f"variant {name!r} is {status}: left out")
                )
    left = sorted(set(named) - set(request.exclude))
    if left:
        return Eligible(tuple(left), forced=False, notices=tuple(notices))
    fallback = definition.settings.fallback
    if fallback is None:
        raise Conflict(
            f"policy {definition.name!r} has no variant that this request may get: "
            f"{_standing(definition, request)}; a policy with a fallback serves that"
        )
    message = f"no variant may be chosen, so the fallback {fallback!r} is served"
    notices.append(Notice(code="fallback_served", message=message))
    return Eligible((fallback,), forced=True, notices=tuple(notices))


def known_variant(definition: Definition, pointer: str, name: str) -> str:
    """Return a variant's name; `VariantNotFound` if the policy has none of that name."""
    if name not in definition.variants:
        message = f"received {name!r}, allowed {', '.join(definition.variants)}"
        raise VariantNotFound(f"{pointer} {message}", errors=[FieldError(pointer, message, "choice")])
    return name


def _check(definition: Definition, field: str, names: Sequence[str]) -> None:
    for index, name in enumerate(names):
        known_variant(definition, f"/{field}/{index}", name)


def _standing(definition: Definition, request: DecideRequest) -> str:
    """Say of the first variants why they may not be served."""
    reasons = []
    for name, variant in definition.variants.items():
        if name in request.exclude:
            reasons.append(f"{name} is excluded")
        elif request.eligible is not None and name not in request.eligible:
            reasons.append(f"{name} is not in eligible")
        else:
            reasons.append(f"{name} is {variant.stored.status}")
    return ", ".join(reasons[:10]) + (", ..." if len(reasons) > 10 else "")
