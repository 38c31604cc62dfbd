"""One course of action per call, without any I/O: what to send, when to wait, when to give up.

A flow is a generator. It yields `Send` and is sent the response (or thrown the `ServerUnreachable` that took
its place), it yields `Sleep` and is sent None, and it returns the result or raises. Each client drives the
same flows in its own way, so that retries cannot differ between them.
"""

import random
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, TypeAlias, TypeVar, cast
from uuid import uuid4

import httpx
from pydantic import ValidationError

from kshot.clients.sdk.calls.base import JSON, Call
from kshot.clients.sdk.fallback import Fallback
from kshot.clients.sdk.problems import error_from
from kshot.errors import (
    IdempotencyConflict,
    InvalidParameter,
    KshotError,
    MissingDependency,
    ServerUnreachable,
)

T = TypeVar("T")

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 8.0
LONGEST_RETRY_AFTER_S = 60.0
"""A server that asks for a longer pause is not asked again: the caller is told at once."""


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait before going on."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Send:
    """Send the request of ``call`` with these headers besides the client's own."""

    call: Call[Any]
    headers: Mapping[str, str]

    def arguments(self) -> dict[str, Any]:
        """Arguments of httpx's ``request``, the same for both of its clients."""
        call = self.call
        headers = {**self.headers, "Accept": JSON}
        if call.body is not None:
            headers["Content-Type"] = call.content_type
        arguments: dict[str, Any] = {
            "method": call.method,
            "url": call.path,
            "params": call.params or None,
            "content": call.body,
            "headers": headers,
        }
        if call.timeout_s is not None:
            arguments["timeout"] = call.timeout_s
        return arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class Conduct:
    """How a client behaves when things go wrong.

    Attributes
    ----------
    max_retries : int
        Further attempts after the first one.
    fallback : list of dict, callable or None
        Demonstrations to show when the server fails.
    jitter : callable
        Draws from [0, 1).
    """

    max_retries: int = 2
    fallback: Fallback | None = None
    jitter: Callable[[], float] = field(default=random.random, repr=False)

    def __post_init__(self) -> None:
        if self.max_retries < 0:
            raise InvalidParameter(f"max_retries is {self.max_retries}, allowed: 0 and above")


Flow: TypeAlias = Generator[Send | Sleep, Any, T]
Steps: TypeAlias = Generator[Call[Any] | Sleep, Any, T]
"""An operation of several calls: yields a `Call` and is sent its result, or thrown its error."""


def perform(call: Call[T], conduct: Conduct) -> Flow[T]:
    """Carry out one call: repeat it while that may help, then fall back or raise.

    Repeated are requests that got no answer, and the statuses 408, 429 and 500 and above, as well as a 409
    that says that the first attempt is still at work. A request that creates something carries the same
    idempotency key in every attempt, so that a repetition does no harm.
    """
    try:
        return (yield from _attempts(call, conduct))
    except KshotError as failure:
        answer = None if call.recover is None else call.recover(conduct.fallback, failure)
        if answer is None:
            raise
        return answer


def _attempts(call: Call[T], conduct: Conduct) -> Flow[T]:
    headers = {"Idempotency-Key": uuid4().hex} if call.creates else {}
    for attempt in range(conduct.max_retries + 1):
        asked_pause_s: float | None = None
        try:
            response: httpx.Response = yield Send(call, headers)
        except ServerUnreachable as error:
            failure: KshotError = error
        else:
            if response.is_success or response.status_code in call.accepts:
                return _read(call, response)
            failure = error_from(response)
            if not is_worth_a_retry(response.status_code, failure):
                raise failure
            asked_pause_s = retry_after_s(response.headers.get("retry-after"))
        if attempt == conduct.max_retries or (asked_pause_s or 0) > LONGEST_RETRY_AFTER_S:
            raise failure
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**attempt) * (0.5 + conduct.jitter() / 2)
        yield Sleep(max(pause_s, asked_pause_s or 0))
    raise AssertionError("the last attempt returns or raises")


def _read(call: Call[T], response: httpx.Response) -> T:
    try:
        return call.read(response.content)
    except ValidationError as error:
        raise KshotError(
            f"{call.method} {call.path} was answered with something that is no answer of a kshot server "
            f"({error.error_count()} errors as {error.title})",
            request_id=response.headers.get("x-request-id"),
        ) from error


def is_worth_a_retry(status: int, failure: KshotError) -> bool:
    """Tell whether the same request may succeed a little later."""
    if status == HTTPStatus.CONFLICT:
        return isinstance(failure, IdempotencyConflict)
    if status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}:
        return True
    return status >= 500 and not isinstance(failure, MissingDependency)


def retry_after_s(header: str | None) -> float | None:
    """Read ``Retry-After``, given in seconds or as a date; None if absent or unreadable."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def flatten(steps: Steps[T], conduct: Conduct) -> Flow[T]:
    """Carry out an operation of several calls, each one as `perform` does."""
    try:
        step = next(steps)
        while True:
            if isinstance(step, Sleep):
                yield step
                step = steps.send(None)
                continue
            try:
                result = yield from perform(step, conduct)
            except KshotError as error:
                step = steps.throw(error)
            else:
                step = steps.send(result)
    except StopIteration as stop:
        return cast("T", stop.value)
