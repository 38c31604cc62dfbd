"""Algorithms of policies over the wire: their description, and building one from JSON."""

import inspect
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from typing import Any

from kshot.errors import FieldError, InvalidParameter, UnknownSelector
from kshot.schemas.policies import AlgorithmInfo
from kshot.schemas.selections import MethodSpec
from kshot.selectors.bandits import POLICIES, Policy
from kshot.server.selectors_schema import POINTER as METHOD
from kshot.server.selectors_schema import built, parameter_model

POINTER = "/algorithm"
HALF_LIFE = "half_life_s"


def build_policy(algorithm: str | MethodSpec, *, half_life_s: float | None = None) -> Policy[Any]:
    """Return the algorithm with these hyper-parameters; the others keep their defaults.

    Parameters
    ----------
    algorithm : str or MethodSpec
        A name of `kshot.selectors.bandits.POLICIES`, alone or with parameters.
    half_life_s : float, optional
        The policy's own setting, which is the same as the algorithm's parameter of that name.

    Raises
    ------
    UnknownSelector
        The message lists the names that exist.
    InvalidParameter
        Names each refused parameter with what was received and what is allowed.
    """
    name, given = (
        (algorithm, {}) if isinstance(algorithm, str) else (algorithm.type, algorithm.model_extra or {})
    )
    if name not in POLICIES.names():
        allowed = ", ".join(POLICIES.names())
        at = POINTER if isinstance(algorithm, str) else f"{POINTER}/type"
        message = f"received {name!r}, allowed {allowed}"
        raise UnknownSelector(f"{at} {message}", errors=[FieldError(at, message, "choice")])
    cls = POLICIES.get(name)
    params = dict(given)
    if half_life_s is not None:
        params = _forgetting(name, cls, params, half_life_s)
    try:
        policy: Policy[Any] = built(name, cls, params)
    except InvalidParameter as error:
        refused = [replace(one, pointer=one.pointer.replace(METHOD, POINTER, 1)) for one in error.errors]
        raise InvalidParameter(error.message.replace("method", "algorithm", 1), errors=refused) from None
    return policy


def _forgetting(name: str, cls: type[Any], params: Mapping[str, Any], half_life_s: float) -> dict[str, Any]:
    if not any(item.name == HALF_LIFE and item.init for item in fields(cls)):
        message = f"received {half_life_s:g}, allowed null: algorithm {name!r} forgets nothing"
        raise InvalidParameter(f"/{HALF_LIFE} {message}", errors=[FieldError(f"/{HALF_LIFE}", message)])
    if params.get(HALF_LIFE, half_life_s) != half_life_s:
        message = f"received {half_life_s:g}, and the algorithm has {params[HALF_LIFE]!r}; give one of them"
        raise InvalidParameter(f"/{HALF_LIFE} {message}", errors=[FieldError(f"/{HALF_LIFE}", message)])
    return {**params, HALF_LIFE: float(half_life_s)}


def algorithm_infos() -> list[AlgorithmInfo]:
    """Describe every registered algorithm, in the order of their names."""
    return [_info(name) for name in POLICIES.names()]


@cache
def _info(name: str) -> AlgorithmInfo:
    cls: Any = POLICIES.get(name)
    return AlgorithmInfo(
        name=name,
        description=(inspect.getdoc(cls) or "").partition("\n")[0],
        contextual=cls().contextual,
        parameters=parameter_model(cls).model_json_schema(),
    )
