"""The OpenAPI document: real bodies, real problems.

Routes read their bodies themselves (`kshot.server.bodies`), so each declares here what FastAPI cannot see.
"""

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from kshot.errors import InvalidInput, KshotError, PayloadTooLarge, Unauthorized, UnsupportedMediaType
from kshot.schemas.annotations import AnnotationRequest, AnswerIn
from kshot.schemas.base import Problem
from kshot.schemas.decisions import DecideRequest, DecisionDeletion, EvaluateRequest, ServedRequest
from kshot.schemas.difficulty import DifficultyRequest, DifficultyResult
from kshot.schemas.examples import DeleteRequest, ExampleIn, ExamplePatch, UpsertReply, UpsertRequest
from kshot.schemas.feedback import Feedback, FeedbackBatch, MetricCreate
from kshot.schemas.plans import PlanRequest
from kshot.schemas.policies import PolicyCreate, PolicyPatch, VariantCreate, VariantPatch
from kshot.schemas.pools import PoolCreate, PoolPatch
from kshot.schemas.prompts import LabelMove, PromptCreate, PromptRender, PromptVersionCreate
from kshot.schemas.scoring import PairIn, ScoreRequest
from kshot.schemas.selections import BatchRequest, RenderRequest, SearchRequest, SelectRequest
from kshot.schemas.tuning import TuneRequest, TuneResult
from kshot.server.bodies import JSON
from kshot.server.problems import PROBLEM_MEDIA_TYPE, status_of

_REFERENCE = "#/components/schemas/{model}"
_BODIES: tuple[type[BaseModel], ...] = (
    PoolCreate,
    PoolPatch,
    ExampleIn,
    ExamplePatch,
    UpsertRequest,
    UpsertReply,
    DeleteRequest,
    AnswerIn,
    AnnotationRequest,
    SelectRequest,
    BatchRequest,
    SearchRequest,
    RenderRequest,
    PlanRequest,
    PolicyCreate,
    PolicyPatch,
    VariantCreate,
    VariantPatch,
    DecideRequest,
    EvaluateRequest,
    ServedRequest,
    DecisionDeletion,
    TuneRequest,
    TuneResult,
    DifficultyRequest,
    DifficultyResult,
    PairIn,
    ScoreRequest,
    PromptCreate,
    PromptVersionCreate,
    LabelMove,
    PromptRender,
    MetricCreate,
    Feedback,
    FeedbackBatch,
    Problem,
)
_SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "api-key": {"type": "apiKey", "in": "header", "name": "api-key"},
}


def reference(model: type[BaseModel]) -> dict[str, str]:
    """Refer to a model's schema."""
    return {"$ref": _REFERENCE.format(model=model.__name__)}


def contract(
    *,
    body: type[BaseModel] | None = None,
    content: dict[str, Any] | None = None,
    problems: Iterable[type[KshotError]] = (),
    is_open: bool = False,
) -> dict[str, Any]:
    """Return what a route's decorator needs to document it.

    Parameters
    ----------
    body : type, optional
        Model of the JSON body.
    content : dict, optional
        OpenAPI ``content`` of the body, where there is more to say than ``body``.
    problems : iterable of exception classes
        What may go wrong, besides a missing key and a refused request or body.
    is_open : bool
        True if no key is asked for.
    """
    classes: list[type[KshotError]] = [*problems] if is_open else [Unauthorized, InvalidInput, *problems]
    if body is not None or content is not None:
        classes += [PayloadTooLarge, UnsupportedMediaType]
    status_to_codes: dict[int, list[str]] = {}
    for cls in classes:
        status_to_codes.setdefault(status_of(cls), []).append(f"`{cls.code}`")
    problem = {"schema": reference(Problem)}
    extra: dict[str, Any] = {} if is_open else {"security": [{name: []} for name in _SECURITY_SCHEMES]}
    if body is not None:
        content = {JSON: {"schema": reference(body)}}
    if content is not None:
        extra["requestBody"] = {"required": True, "content": content}
    return {
        "responses": {
            status: {"description": ", ".join(codes), "content": {PROBLEM_MEDIA_TYPE: problem}}
            for status, codes in sorted(status_to_codes.items())
        },
        "openapi_extra": extra,
    }


def document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document of ``app``, with every model that a route refers to; computed once."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            separate_input_output_schemas=False,
        )
        _, definitions = models_json_schema(
            [(model, "validation") for model in _BODIES], ref_template=_REFERENCE
        )
        components = schema.setdefault("components", {})
        present = components.setdefault("schemas", {})
        components["schemas"] = dict(sorted({**definitions["$defs"], **present}.items()))
        components["securitySchemes"] = _SECURITY_SCHEMES
        app.openapi_schema = schema
    return app.openapi_schema
