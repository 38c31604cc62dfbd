"""Planners over the wire: their description, and building one from JSON."""

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

from kshot.schemas.plans import PlannerInfo
from kshot.selectors.annotation import PLANNERS, Planner
from kshot.server.selectors_schema import built, parameter_model


def build_planner(name: str, params: Mapping[str, Any]) -> Planner:
    """Return the planner ``name`` with these hyper-parameters; the others keep their defaults.

    Raises
    ------
    UnknownSelector
        The message lists the names that exist.
    InvalidParameter
        Names each refused parameter, ``/method/<name>``, with what was received and what is allowed.
    """
    planner: Planner = built(name, PLANNERS.get(name), params)
    return planner


def planner_infos() -> list[PlannerInfo]:
    """Describe every registered planner, in the order of their names."""
    return [_info(name) for name in PLANNERS.names()]


@cache
def _info(name: str) -> PlannerInfo:
    cls: Any = PLANNERS.get(name)
    planner: Planner = cls()
    return PlannerInfo(
        name=name,
        summary=(inspect.getdoc(cls) or "").partition("\n")[0],
        parameters=parameter_model(cls).model_json_schema(),
        needs=sorted(planner.needs),
        wants=sorted(planner.wants),
        nested=planner.nested,
    )
