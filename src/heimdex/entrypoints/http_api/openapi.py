"""The OpenAPI description: what the framework finds in the routes, and what it cannot find there."""

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from heimdex.entrypoints.http_api.answers import ProblemAnswer

_ABOUT = """\
Jobs of one organisation: created, watched, canceled and retried, with everything that happened to each.

The organisation is the token's. A job of another organisation does not exist here. Every problem is a document of
RFC 9457. Whatever a request names that is not described here is refused.
"""


def describe(app: FastAPI) -> None:
    """Let an application describe itself in full; the description is made once, when it is first asked for."""

    def description() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _description(app)
        return app.openapi_schema

    app.openapi = description  # type: ignore[method-assign]  # how the framework's documentation says it


def _description(app: FastAPI) -> dict[str, Any]:
    made = get_openapi(title="Heimdex", version=version("heimdex"), description=_ABOUT, routes=app.routes)
    schemas = made["components"]["schemas"]
    schemas[ProblemAnswer.__name__] = ProblemAnswer.model_json_schema()
    # The framework describes an error of its own, which nobody gets here.
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    return made
