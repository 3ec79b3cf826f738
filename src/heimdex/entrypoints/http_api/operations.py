"""Routes for whoever runs the server: is it alive, can it work. They need no token and show nothing of a job."""

from typing import cast

from fastapi import APIRouter, Request, Response

from heimdex.bootstrap import Application
from heimdex.domain.errors import DatabaseError
from heimdex.entrypoints.http_api.answers import HealthAnswer, ReadyAnswer, answer
from heimdex.entrypoints.http_api.calls import Api
from heimdex.entrypoints.http_api.problems import UNAVAILABLE
from heimdex.entrypoints.http_api.routing import one_problem

routes = APIRouter()


@routes.get("/healthz", response_model=HealthAnswer, summary="Whether this process answers")
async def health() -> Response:
    return answer({"status": "ok"})


@routes.get(
    "/readyz",
    response_model=ReadyAnswer,
    responses=one_problem(UNAVAILABLE),
    summary="Whether the ledger can be reached and has the schema that this version needs",
)
def readiness(request: Request) -> Response:
    api = cast("Api", request.app.state.api)
    return answer({"status": "ready", "schema_revision": _check(api.application)})


def _check(application: Application) -> str:
    """Return the revision of the schema.

    Raises:
        DatabaseError: there is no ledger to work on.
    """
    state = application.schema.check()
    if state.current is None:
        raise DatabaseError("no schema")
    return state.current
