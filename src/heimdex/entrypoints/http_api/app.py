"""The API put together: routes behind the guard, and what becomes of errors."""

from collections.abc import Awaitable, Callable
from time import monotonic
from typing import cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from heimdex.bootstrap import Application
from heimdex.config import Settings
from heimdex.domain.errors import HeimdexError
from heimdex.entrypoints.http_api import events, job_changes, job_questions, jobs, operations, queues
from heimdex.entrypoints.http_api.authentication import open_verifier
from heimdex.entrypoints.http_api.calls import Allowed, Api
from heimdex.entrypoints.http_api.feed import Feed
from heimdex.entrypoints.http_api.guard import OPEN_PATHS, Guard
from heimdex.entrypoints.http_api.limits import QueuedQuota, RequestRate
from heimdex.entrypoints.http_api.openapi import describe
from heimdex.entrypoints.http_api.problems import invalid, problem, refused
from heimdex.entrypoints.http_api.strict_json import Unreadable

_PARTS = (jobs, job_changes, job_questions, events, queues, operations)
# Whoever waits for an answer is told so early that they can try again.
_LONGEST_WAIT_SECONDS = 2
_BETWEEN_TRIES_SECONDS = 0.05


def api_settings(settings: Settings) -> Settings:
    """Return the settings with which a server opens its application: nobody waits long for a connection or a try."""
    return settings.changed(
        pool_timeout_seconds=min(settings.pool_timeout_seconds, _LONGEST_WAIT_SECONDS),
        connect_timeout_seconds=min(settings.connect_timeout_seconds, _LONGEST_WAIT_SECONDS),
        lock_timeout_seconds=min(settings.lock_timeout_seconds, _LONGEST_WAIT_SECONDS),
        retry_shortest_seconds=min(settings.retry_shortest_seconds, _BETWEEN_TRIES_SECONDS),
        retry_longest_seconds=min(settings.retry_longest_seconds, 4 * _BETWEEN_TRIES_SECONDS),
    )


def create_app(application: Application, *, now: Callable[[], float] = monotonic) -> ASGIApp:
    """Return the API of an application, which stays the caller's to close.

    Raises:
        InvalidSetting: what authentication needs is not set.
    """
    settings = application.settings
    verifier, keys = open_verifier(settings, now)
    api = Api(
        application=application,
        verifier=verifier,
        keys=keys,
        rate=RequestRate(settings.api_requests_per_second, now),
        quota=QueuedQuota(settings.api_queued_jobs, now),
        feed=Feed(application),
    )
    guarded: ASGIApp = Guard(_routes(api), api=api, body_seconds=settings.api_body_seconds, draw_id=application.ids)
    if settings.api_cors_origins:
        guarded = CORSMiddleware(
            guarded,
            allow_origins=settings.api_cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "X-Request-Id"],
            expose_headers=["Idempotency-Replayed", "Location", "Retry-After", "X-Request-Id"],
        )
    return guarded


def _routes(api: Api) -> FastAPI:
    shown = "/openapi.json" if api.application.settings.env == "local" else None
    app = FastAPI(openapi_url=shown, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.api = api
    for part in _PARTS:
        app.include_router(part.routes)
    _check_rights(app)
    handlers: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
        HeimdexError: _failed,
        HTTPException: _refused,
        RequestValidationError: _invalid,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
    describe(app)
    return app


def _check_rights(app: FastAPI) -> None:
    """Refuse to start with a route that says nothing about who may use it."""
    for route in app.routes:
        if isinstance(route, APIRoute) and route.path not in OPEN_PATHS:
            found = [one for one in route.dependant.dependencies if isinstance(one.call, Allowed)]
            if len(found) != 1:
                raise TypeError(f"{route.path} does not say which right it takes")


async def _failed(_: Request, error: Exception) -> Response:
    return problem(error)


async def _refused(_: Request, error: Exception) -> Response:
    return problem(error.error) if isinstance(error, Unreadable) else refused(cast("HTTPException", error))


async def _invalid(_: Request, error: Exception) -> Response:
    return invalid(cast("RequestValidationError", error))
