"""From the problem documents of the HTTP API back to the errors that they were made of."""

from collections.abc import Callable, Mapping
from typing import cast
from uuid import UUID

import httpx

from heimdex.domain.errors import (
    CapabilityMissing,
    CommitOutcomeUnknown,
    DatabaseUnavailable,
    DataRejected,
    HeimdexError,
    IdempotencyConflict,
    IllegalTransition,
    InvalidInput,
    InvalidPayload,
    JobNotFound,
    LimitReached,
    NotAuthenticated,
    NotPermitted,
    Shown,
    UnknownJobType,
)

_PREFIX = "urn:heimdex:problem:"


def _text(document: Mapping[str, object], name: str) -> str:
    return str(document[name])


def _texts(document: Mapping[str, object], name: str) -> tuple[str, ...]:
    return tuple(map(str, cast("list[object]", document[name])))


def _invalid(first: Mapping[str, object]) -> InvalidInput:
    return InvalidInput(_text(first, "field"), Shown("the value"), _text(first, "problem"))


_ERRORS: Mapping[str, Callable[[Mapping[str, object]], HeimdexError]] = {
    "not_authenticated": lambda _: NotAuthenticated(),
    "not_permitted": lambda said: NotPermitted(_text(said, "right")),
    "job_not_found": lambda said: JobNotFound(UUID(_text(said, "job_id"))),
    "illegal_transition": lambda said: IllegalTransition(
        UUID(_text(said, "job_id")), _text(said, "job_status"), _text(said, "trigger"), _texts(said, "allowed")
    ),
    "idempotency_conflict": lambda said: IdempotencyConflict(
        _text(said, "idempotency_key"),
        UUID(_text(said, "job_id")),
        _text(said, "stored_fingerprint"),
        _text(said, "given_fingerprint"),
    ),
    "invalid_input": lambda said: InvalidInput(
        _text(said, "field"), Shown(_text(said, "value")), _text(said, "remedy")
    ),
    "invalid_payload": lambda said: InvalidPayload(_text(said, "field"), _text(said, "path"), _text(said, "problem")),
    "invalid_request": lambda said: _invalid(cast("list[Mapping[str, object]]", said["errors"])[0]),
    "capability_missing": lambda said: CapabilityMissing(_text(said, "detail")),
    "data_rejected": lambda said: DataRejected(_text(said, "detail")),
    "unknown_job_type": lambda said: UnknownJobType(_text(said, "job_type"), _texts(said, "known")),
    "commit_outcome_unknown": lambda said: CommitOutcomeUnknown(_text(said, "detail")),
    "unavailable": lambda said: DatabaseUnavailable(_text(said, "detail")),
}


def error_of(response: httpx.Response) -> HeimdexError:
    """Return the error that an answer stands for; where it is none of ours, one that says what came."""
    document = _document(response)
    name = str(document.get("type"))
    if not name.startswith(_PREFIX):
        return DatabaseUnavailable(
            f"{response.url} answered with status {response.status_code}; is this an API of Heimdex?"
        )
    try:
        return _known(name.removeprefix(_PREFIX), document, response)
    except (LookupError, TypeError, ValueError):  # another version's document
        return _other(document, response)


def _document(response: httpx.Response) -> Mapping[str, object]:
    try:
        document = cast("object", response.json())
    except ValueError:
        return {}
    return cast("Mapping[str, object]", document) if isinstance(document, dict) else {}


def _known(name: str, document: Mapping[str, object], response: httpx.Response) -> HeimdexError:
    if name == "limit_reached":
        return LimitReached(_text(document, "limit"), float(response.headers["Retry-After"]))
    return _ERRORS[name](document)


def _other(document: Mapping[str, object], response: httpx.Response) -> HeimdexError:
    detail = str(document.get("detail"))
    if response.is_server_error:
        return HeimdexError(detail)
    return InvalidInput("request", Shown(response.request.url.path), detail)
