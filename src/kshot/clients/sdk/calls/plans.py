"""Calls about annotation plans."""

from collections.abc import Iterable, Mapping
from typing import Any

from kshot.clients.sdk.calls.base import (
    Call,
    Pages,
    encode,
    listed,
    listing,
    path_of,
    present,
    reader,
)
from kshot.schemas.plans import PlanInfo, PlanList, PlannedExample, PlannedList, PlannerList


def create_plan(
    pool: str,
    *,
    budget: int | None,
    max_cost: float | None,
    method: str | Mapping[str, Any] | None,
    examples: Iterable[Any] | None,
    exclude_splits: Iterable[str] | None,
    options: Mapping[str, Any],
) -> Call[PlanInfo]:
    """Start a job that plans; see ``Client.plan``."""
    body = present(
        **options,
        pool=pool,
        budget=budget,
        max_cost=max_cost,
        method=method,
        examples=None if examples is None else list(examples),
        exclude_splits=listed(exclude_splits),
    )
    return Call(method="POST", path=path_of("plans"), body=encode(body), creates=True, read=reader(PlanInfo))


def get_plan(plan_id: str) -> Call[PlanInfo]:
    """Return how far a plan is, or what it comes to; `PlanNotFound` if there is none of that id."""
    return Call(method="GET", path=path_of("plans", plan_id), read=reader(PlanInfo))


def list_plans(pool: str | None = None) -> Pages[PlanInfo]:
    """Iterate over plans, newest first, fetching pages as they are needed.

    Parameters
    ----------
    pool : str, optional
        Only the plans of this pool.

    Raises
    ------
    PoolNotFound
        On the first step of the iteration.
    """
    return listing(PlanList, path_of("plans"), pool=pool)


def plan_items(plan_id: str) -> Pages[PlannedExample]:
    """Iterate over what a plan proposes, the first to label first, fetching pages as they are needed.

    Each item says what became of its example since: still ``unlabelled``, ``labelled``, ``retired`` or
    ``deleted``.

    Parameters
    ----------
    plan_id : str

    Raises
    ------
    PlanNotFound, Conflict
        On the first step of the iteration: there is no such plan, or it is not made yet.
    """
    return listing(PlannedList, path_of("plans", plan_id, "items"))


def cancel_plan(plan_id: str) -> Call[PlanInfo]:
    """Ask a plan to stop; one that is made already stays as it is.

    Raises
    ------
    PlanNotFound
    """
    return Call(method="DELETE", path=path_of("plans", plan_id), read=reader(PlanInfo))


def export_plan(plan_id: str, format: str = "jsonl", *, everything: bool = False) -> Call[bytes]:  # noqa: A002
    """Return what a plan proposes as a file that a labelling tool imports, the first to label first.

    Parameters
    ----------
    plan_id : str
    format : str
        ``label-studio``, ``argilla``, ``prodigy``, ``csv`` or ``jsonl``.
    everything : bool
        Also what is labelled or retired since.

    Raises
    ------
    PlanNotFound, Conflict
        There is no such plan, or it is not made yet.
    InvalidInput
        There is no such format.
    """
    params = {"format": format, **({"all": "true"} if everything else {})}
    return Call(method="GET", path=path_of("plans", plan_id, "export"), params=params, read=lambda body: body)


def planners() -> Call[PlannerList]:
    """List the methods of planning: what each does, its parameters, what it needs."""
    return Call(method="GET", path=path_of("planners"), read=reader(PlannerList))
