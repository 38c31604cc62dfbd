"""Exceptions as RFC 9457 problem details; the one table from error families to statuses."""

import inspect
from collections.abc import Mapping

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from kshot.errors import (
    Conflict,
    FieldError,
    InvalidInput,
    KshotError,
    MethodNotAllowed,
    MissingDependency,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    Unauthorized,
    Unavailable,
    UnsupportedMediaType,
)
from kshot.schemas.base import Problem, ProblemError
from kshot.server.validation import describe, pointer, refusal

PROBLEM_MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1
INTERNAL_DETAIL = "the server failed; its log says more under this request_id"

FAMILY_TO_STATUS: Mapping[type[KshotError], int] = {
    KshotError: 500,
    InvalidInput: 422,
    PayloadTooLarge: 413,
    UnsupportedMediaType: 415,
    MethodNotAllowed: 405,
    Unauthorized: 401,
    NotFound: 404,
    Conflict: 409,
    MissingDependency: 501,
    Unavailable: 503,
    Overloaded: 429,
}
"""The nearest ancestor of an exception's class decides."""


def status_of(cls: type[KshotError]) -> int:
    """Return the HTTP status of an exception class."""
    return next(FAMILY_TO_STATUS[base] for base in cls.__mro__ if base in FAMILY_TO_STATUS)


def headers_of(cls: type[KshotError]) -> dict[str, str]:
    """Return the header fields that go with an exception class."""
    if issubclass(cls, Unauthorized):
        return {"WWW-Authenticate": 'Bearer realm="kshot"'}
    return {"Retry-After": str(RETRY_AFTER_S)} if issubclass(cls, Unavailable) else {}


def title_of(cls: type[KshotError]) -> str:
    """Return the words of a code, for people."""
    return cls.code.replace("_", " ").capitalize()


def problem(error: BaseException, request_id: str | None = None) -> Problem:
    """Describe an exception for the caller.

    What is no `KshotError`, or one that no narrower class describes, is reported without its message: that
    may quote anything.
    """
    known = error if isinstance(error, KshotError) else KshotError(INTERNAL_DETAIL)
    cls = type(known)
    return Problem(
        type=f"/problems/{cls.code}",
        title=title_of(cls),
        status=status_of(cls),
        code=cls.code,
        detail=INTERNAL_DETAIL if cls is KshotError else known.message,
        request_id=request_id,
        errors=[
            ProblemError(pointer=item.pointer, message=item.message, code=item.code, line=item.line)
            for item in known.errors
        ],
    )


def problem_json(error: BaseException, request_id: str | None = None) -> str:
    """Serialise `problem` without its nulls."""
    return problem(error, request_id).model_dump_json(exclude_none=True)


def problem_response(error: BaseException, request_id: str | None = None) -> Response:
    """Answer with the problem that ``error`` is."""
    cls = type(error) if isinstance(error, KshotError) else KshotError
    return Response(
        problem_json(error, request_id),
        status_code=status_of(cls),
        headers=headers_of(cls),
        media_type=PROBLEM_MEDIA_TYPE,
    )


def explanation(cls: type[KshotError]) -> dict[str, object]:
    """Say what a code means: the page that ``type`` of a problem points to."""
    return {
        "type": f"/problems/{cls.code}",
        "code": cls.code,
        "title": title_of(cls),
        "status": status_of(cls),
        "description": inspect.cleandoc(cls.__doc__ or ""),
        "retryable": issubclass(cls, Unavailable),
    }


def request_id_of(request: Request) -> str | None:
    """Return the id that `kshot.server.middleware.Observe` gave the request."""
    request_id = request.scope.get("state", {}).get("request_id")
    return request_id if isinstance(request_id, str) else None


async def on_kshot_error(request: Request, error: Exception) -> Response:
    """Answer an exception that was raised on purpose."""
    return problem_response(error, request_id_of(request))


async def on_refused_parameters(request: Request, error: Exception) -> Response:
    """Answer a refused query or path parameter; bodies are validated by `kshot.server.bodies`."""
    assert isinstance(error, RequestValidationError)
    refused = []
    for item in error.errors():
        name = pointer(item["loc"][1:])
        received = "" if item["type"] in {"missing", "extra_forbidden"} else describe(item["input"]) + ": "
        refused.append(FieldError(name, received + item["msg"][:1].lower() + item["msg"][1:]))
    return problem_response(refusal(refused), request_id_of(request))


async def on_router_error(request: Request, error: Exception) -> Response:
    """Answer a path or method that no route has."""
    assert isinstance(error, HTTPException)
    path, method = describe(request.url.path), request.method
    translated: KshotError
    if error.status_code == 404:
        translated = NotFound(f"no resource at {path}; /openapi.json lists the paths")
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another")
        translated = MethodNotAllowed(f"{path} received {method}, allowed {allowed}")
    else:
        translated = KshotError() if error.status_code >= 500 else InvalidInput(str(error.detail))
    response = problem_response(translated, request_id_of(request))
    response.headers.update(error.headers or {})
    return response
