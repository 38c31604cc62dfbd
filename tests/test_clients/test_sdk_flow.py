"""Retries, waiting and giving up, told as a dialogue with the flow: no client, no clock."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from kshot.clients.sdk.calls import operations, pools, selections
from kshot.clients.sdk.calls.base import Call
from kshot.clients.sdk.flow import (
    Conduct,
    Flow,
    Send,
    Sleep,
    flatten,
    is_worth_a_retry,
    perform,
    retry_after_s,
)
from kshot.clients.sdk.steps import wait_job
from kshot.errors import (
    Conflict,
    EmbedderUnavailable,
    IdempotencyConflict,
    InvalidInput,
    KshotError,
    MissingDependency,
    Overloaded,
    PoolExists,
    PoolNotFound,
    ServerUnreachable,
    Unavailable,
)
from tests.test_clients import replies

Answer = httpx.Response | Exception
EARLIEST = Conduct(jitter=lambda: 0.0)
LATEST = Conduct(jitter=lambda: 1.0)


def converse(flow: Flow[Any], answers: list[Answer]) -> tuple[Any, list[Send], list[float]]:
    """Answer a flow's requests in turn; return its result or exception, the requests, and the pauses."""
    waiting, requests, pauses = list(answers), [], []
    try:
        step = next(flow)
        while True:
            if isinstance(step, Sleep):
                pauses.append(step.seconds)
                step = flow.send(None)
                continue
            requests.append(step)
            answer = waiting.pop(0)
            if isinstance(answer, Exception):
                step = flow.throw(answer)
            else:
                answer.request = httpx.Request(step.call.method, f"http://localhost{step.call.path}")
                step = flow.send(answer)
    except StopIteration as stop:
        result = stop.value
    except KshotError as error:
        result = error
    assert not waiting, f"{len(waiting)} answers were not asked for"
    return result, requests, pauses


def good_pool() -> httpx.Response:
    return httpx.Response(200, json=replies.pool())


def test_a_good_answer_ends_the_flow_at_once():
    result, requests, pauses = converse(perform(pools.get_pool("tickets"), EARLIEST), [good_pool()])
    assert (result.name, len(requests), pauses) == ("tickets", 1, [])


@pytest.mark.parametrize(
    "failure",
    [
        lambda: ServerUnreachable("nobody"),
        lambda: replies.problem(408, "unavailable"),
        lambda: replies.problem(429, "overloaded"),
        lambda: replies.problem(500, "internal"),
        lambda: replies.problem(503, "embedder_unavailable"),
        lambda: httpx.Response(502, text="<html>bad gateway</html>"),
        lambda: replies.problem(409, "idempotency_conflict"),
    ],
)
def test_failures_that_may_pass_are_tried_again(failure: Callable[[], Answer]):
    result, requests, pauses = converse(
        perform(pools.get_pool("tickets"), EARLIEST), [failure(), failure(), good_pool()]
    )
    assert result.name == "tickets"
    assert len(requests) == 3
    assert pauses == [0.125, 0.25]


@pytest.mark.parametrize(
    ("status", "code", "cls"),
    [
        (409, "pool_exists", PoolExists),
        (409, "conflict", Conflict),
        (422, "invalid_input", InvalidInput),
        (404, "pool_not_found", PoolNotFound),
        (501, "missing_dependency", MissingDependency),
    ],
)
def test_failures_that_stay_are_raised_at_once(status: int, code: str, cls: type[KshotError]):
    result, requests, pauses = converse(
        perform(pools.get_pool("tickets"), EARLIEST), [replies.problem(status, code)]
    )
    assert type(result) is cls
    assert (len(requests), pauses) == (1, [])


def test_the_last_failure_is_raised_when_the_retries_are_used_up():
    answers: list[Answer] = [
        ServerUnreachable("nobody"),
        replies.problem(429, "overloaded"),
        replies.problem(503, "embedder_unavailable", detail="endpoint silent"),
    ]
    result, requests, pauses = converse(perform(pools.get_pool("tickets"), EARLIEST), answers)
    assert type(result) is EmbedderUnavailable
    assert result.message == "endpoint silent"
    assert (len(requests), len(pauses)) == (3, 2)


def test_without_retries_the_first_failure_is_raised():
    conduct = Conduct(max_retries=0)
    result, requests, pauses = converse(
        perform(pools.get_pool("tickets"), conduct), [ServerUnreachable("nobody")]
    )
    assert type(result) is ServerUnreachable
    assert (len(requests), pauses) == (1, [])


def test_pauses_double_up_to_a_limit_and_jitter_takes_at_most_half():
    answers: list[Answer] = [ServerUnreachable("nobody") for _ in range(8)]
    latest = Conduct(max_retries=7, jitter=lambda: 1.0)
    _, _, pauses = converse(perform(pools.get_pool("tickets"), latest), answers)
    assert pauses == [0.25, 0.5, 1, 2, 4, 8, 8]
    earliest = Conduct(max_retries=7, jitter=lambda: 0.0)
    _, _, halves = converse(perform(pools.get_pool("tickets"), earliest), answers)
    assert halves == [pause / 2 for pause in pauses]


def test_retry_after_is_a_lower_bound_of_the_pause():
    busy = replies.problem(429, "overloaded")
    busy.headers["Retry-After"] = "5"
    _, _, pauses = converse(perform(pools.get_pool("tickets"), EARLIEST), [busy, good_pool()])
    assert pauses == [5.0]
    at_once = replies.problem(429, "overloaded")
    at_once.headers["Retry-After"] = "0"
    _, _, pauses = converse(perform(pools.get_pool("tickets"), LATEST), [at_once, good_pool()])
    assert pauses == [0.25]


def test_a_server_that_asks_for_a_long_pause_is_not_asked_again():
    busy = replies.problem(429, "overloaded")
    busy.headers["Retry-After"] = "3600"
    result, _, pauses = converse(perform(pools.get_pool("tickets"), EARLIEST), [busy])
    assert type(result) is Overloaded
    assert pauses == []


def test_retry_after_is_read_as_seconds_or_as_a_date():
    soon = datetime.now(UTC) + timedelta(seconds=30)
    assert retry_after_s("7") == 7.0
    assert retry_after_s(None) is None
    assert retry_after_s("soon") is None
    assert retry_after_s(format_datetime(soon - timedelta(hours=1), usegmt=True)) == 0.0
    seconds = retry_after_s(format_datetime(soon, usegmt=True))
    assert seconds is not None
    assert 0 < seconds <= 30


def test_only_a_conflict_of_a_running_twin_is_worth_a_retry():
    assert is_worth_a_retry(409, IdempotencyConflict())
    assert not is_worth_a_retry(409, PoolExists())
    assert not is_worth_a_retry(400, InvalidInput())
    assert is_worth_a_retry(500, KshotError())
    assert not is_worth_a_retry(501, MissingDependency())


def test_every_attempt_of_a_creating_call_carries_one_key():
    call = pools.create_pool("tickets", embedder="hashing", settings={})
    _, requests, _ = converse(perform(call, EARLIEST), [ServerUnreachable("lost"), good_pool()])
    first, second = (request.headers["Idempotency-Key"] for request in requests)
    assert first == second
    _, requests, _ = converse(perform(call, EARLIEST), [good_pool()])
    assert requests[0].headers["Idempotency-Key"] != first


def test_a_reading_call_carries_no_key():
    _, requests, _ = converse(perform(pools.get_pool("tickets"), EARLIEST), [good_pool()])
    assert "Idempotency-Key" not in requests[0].headers


def test_an_answer_that_is_no_answer_of_kshot_is_an_error_without_its_text():
    page = httpx.Response(200, text="<html>login</html>", headers={"X-Request-ID": "r7"})
    result, _, _ = converse(perform(pools.get_pool("tickets"), EARLIEST), [page])
    assert type(result) is KshotError
    assert "GET /v1/pools/tickets" in result.message
    assert "login" not in result.message
    assert result.request_id == "r7"


def test_a_server_that_is_not_ready_is_an_answer():
    body = {"ready": False, "checks": {"store": "locked"}}
    result, _, pauses = converse(perform(operations.ready(), EARLIEST), [httpx.Response(503, json=body)])
    assert (result.ready, result.checks, pauses) == (False, {"store": "locked"}, [])


def test_a_fallback_answers_only_after_the_retries():
    call = selections.select("tickets", "q", fallback=[{"inputs": "a", "outputs": "b"}])
    answers: list[Answer] = [ServerUnreachable("nobody") for _ in range(3)]
    result, requests, pauses = converse(perform(call, EARLIEST), answers)
    assert result.is_fallback
    assert (len(requests), len(pauses)) == (3, 2)


def test_an_operation_goes_on_with_the_result_of_each_call():
    states = [httpx.Response(200, json=replies.job(state)) for state in ("queued", "running", "succeeded")]
    result, requests, pauses = converse(flatten(wait_job("j1"), EARLIEST), list(states))
    assert result.state == "succeeded"
    assert [request.call.path for request in requests] == ["/v1/jobs/j1"] * 3
    assert pauses == [0.05, pytest.approx(0.075)]


def test_a_failed_job_raises_the_class_of_its_error():
    error = {"code": "embedder_unavailable", "detail": "endpoint silent"}
    failed = httpx.Response(200, json=replies.job("failed", error=error))
    result, _, _ = converse(flatten(wait_job("j1"), EARLIEST), [failed])
    assert type(result) is EmbedderUnavailable
    assert result.message == "job j1 failed: endpoint silent"


def test_waiting_ends_with_the_time_given():
    running = httpx.Response(200, json=replies.job("running"))
    result, _, _ = converse(flatten(wait_job("j1", timeout_s=0.0), EARLIEST), [running])
    assert type(result) is Unavailable
    assert "still running after 0.0 s (1 of 2)" in result.message


def test_an_operation_is_thrown_the_errors_of_its_calls():
    def careless():
        try:
            yield pools.get_pool("absent")
        except PoolNotFound:
            return "handled"

    answer = replies.problem(404, "pool_not_found")
    result, _, _ = converse(flatten(careless(), EARLIEST), [answer])
    assert result == "handled"


def test_a_call_may_have_a_longer_limit_than_the_client():
    patient: Call[Any] = Call(method="GET", path="/version", read=bytes, timeout_s=120.0)
    assert Send(patient, {}).arguments()["timeout"] == 120.0
    assert "timeout" not in Send(operations.version(), {}).arguments()
