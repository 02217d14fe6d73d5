"""The application: routes, errors and layers put together around given dependencies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any, Final

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api import logs
from api.auth import PasswordGate
from api.dependencies import Dependencies
from api.figures import SwitchFigures
from api.front import VERSION, Figures, Front
from api.models import ProblemDocument
from api.problems import Problem, from_http, from_validation
from api.routes import (
    api_keys,
    caller_numbers,
    calls,
    events,
    inline,
    merchant,
    numbers,
    operation,
    payment_changes,
    payment_sessions,
    payments,
    refuse_unknown_parameters,
)

RETIRE_EVERY_S: Final = 30.0

_logger = logging.getLogger("api")

_DESCRIPTION: Final = (
    "Payments by telephone. Register a payment session, let the customer's call dial the number and key the "
    "identification number, and watch the events. Card numbers never pass through this API."
)


def create_app(deps: Dependencies) -> FastAPI:
    """The ASGI application.

    Args:
        deps: made and closed by the caller; the application starts and stops what runs on them.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tasks = [
            asyncio.create_task(deps.live.follow(), name="events"),
            asyncio.create_task(deps.switch.listen(deps.live.notice), name="notices"),
            asyncio.create_task(_retire(deps), name="retire"),
        ]
        for task in tasks:
            task.add_done_callback(_say_if_it_failed)
        try:
            yield
        finally:
            deps.live.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await deps.switch.close()

    app = FastAPI(
        title="sipivr",
        version=VERSION,
        description=_DESCRIPTION,
        lifespan=lifespan,
        # FastAPI's own pages load scripts from elsewhere; ours is `operation.docs`.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(refuse_unknown_parameters)],
    )
    app.state.dependencies = deps
    app.state.password_gate = PasswordGate()
    app.state.switch_figures = SwitchFigures(deps.registry)
    # Routers carry their whole path, so that the route's own `path` is what log and figures should say.
    for routes in (
        payment_sessions,
        calls,
        inline,
        payments,
        payment_changes,
        events,
        merchant,
        numbers,
        caller_numbers,
        api_keys,
        operation,
    ):
        app.include_router(routes.router)
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_middleware(Front, figures=Figures(deps.registry))
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]
    return app


def _say_if_it_failed(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logs.say(
            _logger,
            logging.CRITICAL,
            "background_task_failed",
            task=task.get_name(),
            exception=type(error).__name__,
            where=logs.where(error.__traceback__),
        )


async def _retire(deps: Dependencies) -> None:
    """Revocations that the switch could not hear are told again."""
    while True:
        await asyncio.sleep(RETIRE_EVERY_S)
        try:
            await api_keys.retire_principals(deps)
        except Exception as error:
            logs.say(_logger, logging.ERROR, "retire_failed", exception=type(error).__name__)


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response(request.scope)


async def _on_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return from_validation(request, error).response(request.scope)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return from_http(error).response(request.scope)


def _document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the problem's schema and the headers that every answer has."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        schemas = document["components"]["schemas"]
        problem = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(problem.pop("$defs", {}))
        schemas[ProblemDocument.__name__] = problem
        # FastAPI documents its own shape of validation errors; ours is the problem.
        schemas.pop("HTTPValidationError", None)
        schemas.pop("ValidationError", None)
        app.openapi_schema = document
    return app.openapi_schema
