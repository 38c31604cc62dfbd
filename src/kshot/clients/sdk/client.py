"""The synchronous client."""

import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar, cast

import httpx

from kshot.clients.sdk import annotation_steps, plan_steps, steps
from kshot.clients.sdk.calls import (
    examples,
    operations,
    outcomes,
    plans,
    policies,
    pools,
    prompts,
    scoring,
    selections,
)
from kshot.clients.sdk.calls.base import Call, Pages
from kshot.clients.sdk.config import Target
from kshot.clients.sdk.fallback import Fallback, checked
from kshot.clients.sdk.feedback_queue import FeedbackQueue, reporting_to
from kshot.clients.sdk.flow import Conduct, Flow, Send, Sleep, Steps, flatten, perform
from kshot.clients.sdk.methods import presented_as
from kshot.clients.sdk.problems import unreachable
from kshot.errors import ServerUnreachable

P = ParamSpec("P")
T = TypeVar("T")


def _call(operation: Callable[P, Call[T]]) -> Callable[Concatenate["Client", P], T]:
    @presented_as(operation)
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        result = self._drive(perform(operation(*args, **kwargs), self._conduct))
        return reporting_to(self._feedback_queue, result)

    return method


def _steps(operation: Callable[P, Steps[T]]) -> Callable[Concatenate["Client", P], T]:
    @presented_as(operation)
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._drive(flatten(operation(*args, **kwargs), self._conduct))

    return method


def _pages(operation: Callable[P, Pages[T]]) -> Callable[Concatenate["Client", P], Iterator[T]]:
    @presented_as(operation, several=Iterator)
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return self._iterate(operation(*args, **kwargs))

    return method


class Client:
    """A kshot server as seen from synchronous code; safe to share between threads.

    Parameters
    ----------
    base_url : str, optional
        Default: ``KSHOT_BASE_URL``, else ``http://127.0.0.1:8080``.
    api_key : str, optional
        Default: ``KSHOT_API_KEY``.
    timeout_s : float
        Limit of each attempt, for connecting and for every pause in between the bytes of an answer.
    max_retries : int
        Further attempts after a failure that may pass: no answer, 408, 429, 500 and above.
    fallback : list of dict, or callable, optional
        Demonstrations for ``select`` and ``select_batch`` to answer with when the server fails.
    transport : httpx.BaseTransport, optional
        Carries the requests; for tests and unusual networks.

    Raises
    ------
    InvalidParameter
        ``base_url`` is no http(s) URL, ``api_key`` cannot stand in a header, or ``max_retries`` is negative.

    Notes
    -----
    Every method raises `ServerUnreachable` when nobody answers, `Unauthorized` without the right key, and
    otherwise the classes of `kshot.errors` that its docstring names, each with ``errors`` (the refused
    fields) and ``request_id``.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = 30.0,
        max_retries: int = 2,
        fallback: Fallback | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._target = Target.of(base_url, api_key)
        self._conduct = Conduct(max_retries=max_retries, fallback=checked(fallback))
        self._http = httpx.Client(
            base_url=self._target.base_url,
            headers=self._target.headers(),
            timeout=timeout_s,
            transport=transport,
            trust_env=self._target.may_use_proxy,
        )
        self._feedback_queue = FeedbackQueue(
            lambda items: self._drive(perform(outcomes.feedback_batch(items), self._conduct))
        )

    create_pool = _steps(steps.create_pool)
    get_pool = _call(pools.get_pool)
    list_pools = _pages(pools.list_pools)
    update_pool = _call(pools.update_pool)
    delete_pool = _call(pools.delete_pool)
    pool_stats = _call(pools.pool_stats)
    gaps = _pages(pools.gaps)
    tune_pool = _call(pools.tune_pool)
    measure_difficulty = _call(pools.measure_difficulty)

    upsert = _steps(steps.upsert)
    upsert_ndjson = _steps(steps.upsert_ndjson)
    wait_indexed = _steps(steps.wait_indexed)
    get_example = _call(examples.get_example)
    list_examples = _pages(examples.list_examples)
    patch_example = _call(examples.patch_example)
    delete_example = _call(examples.delete_example)
    delete_examples = _call(examples.delete_examples)

    select = _call(selections.select)
    select_batch = _call(selections.select_batch)
    search = _call(selections.search)
    render = _call(selections.render)
    get_selection = _call(selections.get_selection)
    selectors = _call(selections.selectors)

    plan = _steps(plan_steps.plan)
    wait_plan = _steps(plan_steps.wait_plan)
    get_plan = _call(plans.get_plan)
    list_plans = _pages(plans.list_plans)
    plan_items = _pages(plans.plan_items)
    export_plan = _call(plans.export_plan)
    cancel_plan = _call(plans.cancel_plan)
    planners = _call(plans.planners)
    import_answers = _steps(annotation_steps.import_answers)

    create_prompt = _call(prompts.create_prompt)
    add_prompt_version = _call(prompts.add_prompt_version)
    get_prompt = _call(prompts.get_prompt)
    list_prompts = _pages(prompts.list_prompts)
    list_prompt_versions = _pages(prompts.list_prompt_versions)
    label_prompt = _call(prompts.label_prompt)
    delete_prompt = _call(prompts.delete_prompt)
    render_prompt = _call(prompts.render_prompt)

    algorithms = _call(policies.algorithms)
    create_policy = _call(policies.create_policy)
    get_policy = _call(policies.get_policy)
    list_policies = _pages(policies.list_policies)
    update_policy = _call(policies.update_policy)
    delete_policy = _call(policies.delete_policy)
    add_variant = _call(policies.add_variant)
    update_variant = _call(policies.update_variant)
    decide = _call(policies.decide)
    get_decision = _call(policies.get_decision)
    activate = _call(policies.activate)
    cancel_decision = _call(policies.cancel_decision)
    report_served = _call(policies.report_served)
    delete_decisions = _call(policies.delete_decisions)
    policy_report = _call(policies.policy_report)
    evaluate_policy = _call(policies.evaluate_policy)

    feedback = _call(outcomes.feedback)
    feedback_batch = _call(outcomes.feedback_batch)
    declare_metric = _call(outcomes.declare_metric)
    list_metrics = _pages(outcomes.list_metrics)
    utilities = _pages(outcomes.utilities)

    score = _call(scoring.score)
    scorer = _call(scoring.scorer)

    get_job = _call(operations.get_job)
    list_jobs = _pages(operations.list_jobs)
    cancel_job = _call(operations.cancel_job)
    wait_job = _steps(steps.wait_job)
    version = _call(operations.version)
    ready = _call(operations.ready)

    def flush_feedback(self, timeout_s: float | None = None) -> bool:
        """Wait until feedback given in the background is delivered or refused; False if it takes longer."""
        return self._feedback_queue.flush(timeout_s)

    def close(self) -> None:
        """Deliver feedback that waits, for a few seconds, and give back the connections.

        A closed client cannot be used again.
        """
        self._feedback_queue.close()
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        key = None if self._target.api_key is None else "***"
        return f"{type(self).__name__}(base_url={self._target.base_url!r}, api_key={key!r})"

    def _iterate(self, pages: Pages[T]) -> Iterator[T]:
        cursor: str | None = None
        while True:
            items, cursor = self._drive(perform(pages.page(cursor), self._conduct))
            yield from items
            if cursor is None:
                return

    def _drive(self, flow: Flow[T]) -> T:
        try:
            step = next(flow)
            while True:
                if isinstance(step, Sleep):
                    time.sleep(step.seconds)
                    step = flow.send(None)
                    continue
                try:
                    response = self._send(step)
                except ServerUnreachable as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(response)
        except StopIteration as stop:
            return cast("T", stop.value)

    def _send(self, step: Send) -> httpx.Response:
        try:
            return self._http.request(**step.arguments())
        except httpx.RequestError as error:
            raise unreachable(error, self._target.base_url) from error
