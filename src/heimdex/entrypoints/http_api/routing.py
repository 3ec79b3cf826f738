"""How a route is declared: which answers it has beside its own, and that it reads requests strictly."""

from typing import Any

from fastapi import APIRouter

from heimdex.entrypoints.http_api.answers import ProblemAnswer
from heimdex.entrypoints.http_api.strict_json import StrictRoute

_DESCRIPTIONS = {
    401: "No token, or one that does not count.",
    403: "No role of the caller gives the right.",
    404: "There is no such job in the caller's organisation.",
    405: "This path does not take this method.",
    408: "The request did not arrive in time.",
    409: "The state machine does not allow it.",
    413: "The body is too long.",
    422: "Something in the request is not accepted; `detail` says what, and what is.",
    429: "The organisation asks for more than it may; see Retry-After.",
    500: "An error of Heimdex.",
    503: "The ledger cannot be reached; see Retry-After.",
}
_OF_EVERY_ROUTE = (401, 403, 422, 429, 500, 503)
_PROBLEM = "application/problem+json"


def router() -> APIRouter:
    return APIRouter(prefix="/v1", route_class=StrictRoute)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the description of the problems that a route answers with, beside those of every route."""
    return {
        status: one for number in sorted({*statuses, *_OF_EVERY_ROUTE}) for status, one in one_problem(number).items()
    }


def one_problem(status: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"description": _DESCRIPTIONS[status], "content": {_PROBLEM: {"schema": _SCHEMA}}}}


_SCHEMA = {"$ref": f"#/components/schemas/{ProblemAnswer.__name__}"}
