"""What the API answers when something fails: RFC 9457 documents from one table. A test walks the tree of errors."""

from collections.abc import Mapping, Sequence
from math import ceil
from types import MappingProxyType
from typing import cast

import attrs
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from heimdex.domain.errors import (
    CancelRequested,
    CapabilityMissing,
    CommitOutcomeUnknown,
    DatabaseError,
    DataRejected,
    FileProblem,
    HeimdexError,
    IdempotencyConflict,
    IllegalTransition,
    InvalidInput,
    InvalidPayload,
    InvalidSetting,
    JobNotFound,
    KeysUnavailable,
    LeaseLost,
    LimitReached,
    NotAuthenticated,
    NotPermitted,
    UniqueViolation,
    UnitOfWorkMisuse,
    UnknownJobType,
    WorkerHung,
    shown,
)
from heimdex.service_layer.documents import text_of

INTERNAL = 500
UNAVAILABLE = 503
RETRY_AFTER_SECONDS = 1

# An error is looked up by its own class, then by those that it inherits from.
STATUSES: Mapping[type[Exception], int] = MappingProxyType(
    {
        NotAuthenticated: 401,
        NotPermitted: 403,
        JobNotFound: 404,
        IllegalTransition: 409,
        UniqueViolation: 409,
        LeaseLost: 409,
        CancelRequested: 409,
        IdempotencyConflict: 422,
        InvalidInput: 422,
        InvalidPayload: 422,
        UnknownJobType: 422,
        FileProblem: 422,
        CapabilityMissing: 422,
        DataRejected: 422,
        LimitReached: 429,
        DatabaseError: UNAVAILABLE,
        KeysUnavailable: UNAVAILABLE,
        InvalidSetting: INTERNAL,
        WorkerHung: INTERNAL,
        UnitOfWorkMisuse: INTERNAL,
        HeimdexError: INTERNAL,
        Exception: INTERNAL,
    }
)

# Of an error's fields, those that go into its document.
_MEMBERS = frozenset(
    {
        "allowed",
        "field",
        "given_fingerprint",
        "idempotency_key",
        "job_id",
        "known",
        "limit",
        "path",
        "problem",
        "remedy",
        "right",
        "status",
        "stored_fingerprint",
        "trigger",
        "type",
    }
)
# A document's own members are not to be written over.
_RENAMED = MappingProxyType({"status": "job_status", "type": "job_type"})
_UNKNOWN_OUTCOME = (
    "it is not known whether this was done; look, or send the same request again with the same idempotency key"
)
_NO_DATABASE = "the ledger cannot be reached or is busy; try again"
_BUG = "an error of Heimdex; its log has the traceback under this request's id"


def status_of(error: Exception) -> int:
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def problem(error: Exception) -> Response:
    """Return the answer to a request that failed with an error of Heimdex."""
    status = status_of(error)
    members = _members(error) if status not in {INTERNAL, UNAVAILABLE} else {}
    return _answer(_name(type(error), status), status, _detail(error, status), members, _headers(error, status))


def refused(error: HTTPException) -> Response:
    """Return the answer to a request that no route takes as it is."""
    names = {404: "no_such_route", 405: "method_not_allowed", 408: "request_timeout", 413: "body_too_large"}
    details = {
        404: "there is nothing at this path",
        405: "this path does not take this method; the Allow header names those that it takes",
    }
    name = names.get(error.status_code, "bad_request")
    return _answer(name, error.status_code, details.get(error.status_code, error.detail), {}, error.headers or {})


def invalid(error: RequestValidationError) -> Response:
    """Return the answer to a request whose parameters or body are not of the form that the route takes."""
    found = [
        {"field": _place(cast("Sequence[object]", one["loc"])), "problem": _said(one)}
        for one in cast("Sequence[Mapping[str, object]]", error.errors())
    ]
    detail = f"{found[0]['field']}: {found[0]['problem']}"
    return _answer("invalid_request", 422, detail, {"errors": found}, {})


def _answer(name: str, status: int, detail: str, members: Mapping[str, object], headers: Mapping[str, str]) -> Response:
    document = {
        "type": f"urn:heimdex:problem:{name}",
        "title": name.replace("_", " ").capitalize(),
        "status": status,
        "detail": detail,
        **members,
    }
    return Response(text_of(document), status, dict(headers), "application/problem+json")


def _name(kind: type[Exception], status: int) -> str:
    """Return an error's name in words: of those that are none of the caller's business, what they have in common."""
    if status == INTERNAL:
        return "internal_error"
    if status == UNAVAILABLE:
        return "commit_outcome_unknown" if issubclass(kind, CommitOutcomeUnknown) else "unavailable"
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in kind.__name__).lstrip("_")


def _detail(error: Exception, status: int) -> str:
    if status == INTERNAL:
        return _BUG
    if isinstance(error, DatabaseError) and status == UNAVAILABLE:
        return _UNKNOWN_OUTCOME if isinstance(error, CommitOutcomeUnknown) else _NO_DATABASE
    return str(error)


def _members(error: Exception) -> dict[str, object]:
    kind = type(error)
    if not attrs.has(kind):
        return {}
    names = [field.name for field in attrs.fields(kind) if field.name in _MEMBERS]
    members = {_RENAMED.get(name, name): getattr(error, name) for name in names}
    return members | {"value": shown(error.value)} if isinstance(error, InvalidInput) else members


def _headers(error: Exception, status: int) -> dict[str, str]:
    match error:
        case NotAuthenticated():
            return {"WWW-Authenticate": "Bearer"}
        case LimitReached(retry_in=seconds):
            return {"Retry-After": str(max(1, ceil(seconds)))}
        case _:
            return {"Retry-After": str(RETRY_AFTER_SECONDS)} if status == UNAVAILABLE else {}


def _place(steps: Sequence[object]) -> str:
    """Return where in a request something is wrong: `jobs[0].type`, or the name of a parameter."""
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps[1:])
    return path.removeprefix(".") or str(steps[0])


def _said(one: Mapping[str, object]) -> str:
    said, value = str(one["msg"]), one.get("input")
    return f"{said}; found {shown(value)}" if isinstance(value, str | int | float) else said
