"""Services in, ASGI app out: routers, middleware, problems, lifespan."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

import kshot
from kshot.errors import KshotError
from kshot.server import problems
from kshot.server.metrics import Metrics
from kshot.server.middleware import Authenticate, LimitBody, Observe
from kshot.server.openapi import document
from kshot.server.ports import Services
from kshot.server.routes import (
    annotations,
    decisions,
    examples,
    feedback,
    health,
    jobs,
    plans,
    policies,
    policy_reports,
    pools,
    prompts,
    scoring,
    selections,
    selectors,
)
from kshot.server.settings import Settings

_DESCRIPTION = (
    "Stores pools of labelled examples and returns, per query, the demonstrations that make a prompt work."
)


def create_app(
    services: Services,
    settings: Settings,
    metrics: Metrics | None = None,
    *,
    on_close: Callable[[], None] = lambda: None,
) -> FastAPI:
    """Return the app over ``services``; its lifespan starts and closes them.

    Parameters
    ----------
    services : Services
        Not started yet.
    settings : Settings
        Key and limits are read here.
    metrics : Metrics, optional
        The same that the services write to.
    on_close : callable
        Called after the services are closed, also if they could not start.

    Notes
    -----
    If the services cannot start, the exception is kept as ``app.state.start_error``: an ASGI server only says
    that the lifespan failed.
    """
    metrics = metrics or Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            await services.start()
            try:
                yield
            finally:
                await services.close()
        except BaseException as error:
            app.state.start_error = error
            raise
        finally:
            on_close()

    app = FastAPI(
        title="kshot",
        version=kshot.__version__,
        description=_DESCRIPTION,
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,
        redirect_slashes=False,
        # The interactive pages load their scripts from a public network.
        docs_url=None,
        redoc_url=None,
    )
    app.state.services = services
    app.state.settings = settings
    app.state.metrics = metrics
    app.state.start_error = None
    # A method, but FastAPI's documented way to extend the document is to replace it on the instance.
    app.openapi = lambda: document(app)  # type: ignore[method-assign]

    app.add_exception_handler(KshotError, problems.on_kshot_error)
    app.add_exception_handler(RequestValidationError, problems.on_refused_parameters)
    app.add_exception_handler(HTTPException, problems.on_router_error)

    # The last one added is the outermost.
    app.add_middleware(LimitBody, max_bytes=settings.max_body_bytes)
    app.add_middleware(Authenticate, key=settings.api_key)
    app.add_middleware(Observe, metrics=metrics)

    # The hot path comes first: routes are tried in order.
    for module in (
        selections,
        policies,
        policy_reports,
        feedback,
        decisions,
        pools,
        examples,
        annotations,
        plans,
        scoring,
        prompts,
        jobs,
        selectors,
        health,
    ):
        app.include_router(module.router)
    return app
