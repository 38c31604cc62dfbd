"""From an answer that is no success to the exception that the server meant."""

from http import HTTPStatus

import httpx
from pydantic import ValidationError

from kshot.errors import (
    Conflict,
    FieldError,
    InvalidInput,
    KshotError,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    ServerUnreachable,
    Unauthorized,
    Unavailable,
    code_to_error,
)
from kshot.schemas.base import Problem

_STATUS_TO_ERROR: dict[int, type[KshotError]] = {
    HTTPStatus.UNAUTHORIZED: Unauthorized,
    HTTPStatus.FORBIDDEN: Unauthorized,
    HTTPStatus.NOT_FOUND: NotFound,
    HTTPStatus.REQUEST_TIMEOUT: Unavailable,
    HTTPStatus.CONFLICT: Conflict,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: PayloadTooLarge,
    HTTPStatus.TOO_MANY_REQUESTS: Overloaded,
    HTTPStatus.BAD_GATEWAY: Unavailable,
    HTTPStatus.SERVICE_UNAVAILABLE: Unavailable,
    HTTPStatus.GATEWAY_TIMEOUT: Unavailable,
}


def error_from(response: httpx.Response) -> KshotError:
    """Turn an answer into the class of its ``code``; without a problem body, into one that fits its status.

    A proxy's error page has no code: its text is not repeated, only its status.
    """
    request_id = response.headers.get("x-request-id")
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        cls = _class_for(response.status_code)
        message = f"{response.request.method} {response.url.path} was answered with {_status(response)}"
        return cls(message, request_id=request_id)
    return error_of(problem, request_id)


def error_of(problem: Problem, request_id: str | None = None) -> KshotError:
    """Turn a problem into the exception it was made from; an unknown code is read by its status."""
    cls = code_to_error().get(problem.code) or _class_for(problem.status)
    return cls(
        problem.detail or problem.title,
        errors=[FieldError(error.pointer, error.message, error.code, error.line) for error in problem.errors],
        request_id=problem.request_id or request_id,
    )


def unreachable(error: httpx.RequestError, base_url: str) -> ServerUnreachable:
    """Say that a request got no answer, and why."""
    reason = str(error) or type(error).__name__
    return ServerUnreachable(f"the kshot server at {base_url} does not answer: {reason}")


def _class_for(status: int) -> type[KshotError]:
    if status in _STATUS_TO_ERROR:
        return _STATUS_TO_ERROR[status]
    return InvalidInput if 400 <= status < 500 else KshotError


def _status(response: httpx.Response) -> str:
    return f"{response.status_code} {response.reason_phrase}".rstrip()
