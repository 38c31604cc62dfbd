"""Asking for an annotation plan and waiting for it; see `kshot.clients.sdk.steps`."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kshot.clients.sdk.calls import plans
from kshot.clients.sdk.flow import Steps
from kshot.clients.sdk.steps import await_end
from kshot.schemas.plans import PlanInfo


def plan(
    pool: str,
    *,
    budget: int | None = None,
    max_cost: float | None = None,
    method: str | Mapping[str, Any] | None = None,
    examples: Iterable[Any] | None = None,
    exclude_splits: Iterable[str] | None = None,
    wait: bool = True,
    timeout_s: float | None = None,
    on_progress: Callable[[PlanInfo], object] | None = None,
    **options: Any,
) -> Steps[PlanInfo]:
    """Plan which unlabelled examples of a pool to label, under a budget.

    Examples that have outputs count as covered and stay fixed, so the next plan goes on where the labels that
    came back from the last one end. ``plan_items`` of the result's id lists what to label, in order.

    Parameters
    ----------
    pool : str
    budget : int, optional
        Examples to label; more than there are means all. Give this or ``max_cost``.
    max_cost : float, optional
        What labelling may cost; needs the option ``cost_field``.
    method : str or dict, optional
        A planner's name, or ``{"type": name, ...parameters}``; default ``facility_location``. ``planners``
        lists them.
    examples : iterable of dict, optional
        Unlabelled examples to store first, as drafts; at most 10,000. Those whose ids are stored already
        stay as they are. Upload more with ``upsert(..., existing="keep")`` before.
    exclude_splits : iterable of str, optional
        Splits whose examples take no part; default: ``["test"]``.
    wait : bool
        Return when the plan is made; otherwise at once.
    timeout_s : float, optional
        Longest wait; default: no limit.
    on_progress : callable, optional
        Called with the plan as often as it is looked at.
    **options
        Other fields of `kshot.schemas.plans.PlanRequest`: ``cost_field``, ``default_cost``, ``filter``,
        ``strata``, ``gaps``, ``confidence_field``, ``confidence``, ``quality_field``, ``tag_field``,
        ``structures``, ``curve``, ``seed``. ``confidence="scorer"`` asks the server's language model.

    Raises
    ------
    PoolNotFound, UnknownSelector
    ScorerUnavailable
        Confidences are asked for, and there is no scorer that can be trusted.
    InvalidInput
        ``errors`` names the refused fields; or nothing is left to label.
    KshotError
        The job failed: the class that its error's code names.
    Unavailable
        The time is over; the job goes on.
    """
    started: PlanInfo = yield plans.create_plan(
        pool,
        budget=budget,
        max_cost=max_cost,
        method=method,
        examples=examples,
        exclude_splits=exclude_splits,
        options=options,
    )
    if not wait:
        return started
    return (yield from wait_plan(started.id, timeout_s=timeout_s, on_progress=on_progress))


def wait_plan(
    plan_id: str,
    *,
    timeout_s: float | None = None,
    on_progress: Callable[[PlanInfo], object] | None = None,
) -> Steps[PlanInfo]:
    """Wait until a plan is made or was cancelled.

    Parameters
    ----------
    plan_id : str
    timeout_s : float, optional
        Default: no limit.
    on_progress : callable, optional
        Called with the plan as often as it is looked at.

    Raises
    ------
    PlanNotFound
    KshotError
        The job failed: the class that its error's code names.
    Unavailable
        The time is over; the job goes on.
    """
    ended: PlanInfo = yield from await_end(
        lambda: plans.get_plan(plan_id), f"plan {plan_id}", timeout_s=timeout_s, on_progress=on_progress
    )
    return ended
