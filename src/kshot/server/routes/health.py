"""Whether the server lives, is ready, what it runs and counts, and what its errors mean."""

import json
import platform

from fastapi import APIRouter, Request, Response

import kshot
from kshot.errors import InvalidInput, NotFound, code_to_error
from kshot.schemas.operations import Readiness, Version
from kshot.selectors import SELECTORS
from kshot.server.bodies import JSON, reply
from kshot.server.openapi import contract
from kshot.server.problems import explanation
from kshot.server.routes.common import services

router = APIRouter(tags=["operations"])


@router.get("/livez", **contract(is_open=True))
async def livez() -> Response:
    """Tell that the process answers; asks nothing of anything else."""
    return Response('{"status":"ok"}', media_type=JSON)


@router.get("/readyz", response_model=Readiness, **contract(is_open=True))
async def readyz(request: Request) -> Response:
    """Tell whether requests can be served: 200, or 503 with the failed checks."""
    readiness = await services(request).readiness()
    return reply(readiness, status=200 if readiness.ready else 503)


@router.get("/version", response_model=Version, **contract(is_open=True))
async def version() -> Response:
    """Tell what is running."""
    return reply(
        Version(
            version=kshot.__version__, python=platform.python_version(), selectors=list(SELECTORS.names())
        )
    )


@router.get("/metrics", response_class=Response, **contract())
async def metrics(request: Request) -> Response:
    """Return every metric in the text format of Prometheus."""
    collected = request.app.state.metrics
    return Response(collected.render(), media_type=collected.media_type)


@router.get("/problems/{code}", **contract(is_open=True, problems=(NotFound, InvalidInput)))
async def explain_problem(code: str) -> Response:
    """Say what an error code means: the page behind the `type` of every problem."""
    classes = code_to_error()
    if code not in classes:
        raise NotFound(f"no error has the code {code[:100]!r}, allowed {', '.join(classes)}")
    return Response(json.dumps(explanation(classes[code])), media_type=JSON)
