"""One run of a job function, from the payload to the outcome."""

import traceback
from asyncio import CancelledError
from collections.abc import Awaitable
from typing import cast

from heimdex.domain.errors import CancelRequested, HeimdexError
from heimdex.domain.json_text import canonical, decode
from heimdex.domain.outcomes import Cancel, Fail, Outcome, Snooze, Succeed
from heimdex.service_layer.job_context import JobContext
from heimdex.service_layer.job_registry import RegisteredJob
from heimdex.service_layer.payloads import result_document
from heimdex.service_layer.run import AS_REQUESTED


class _BadPayload(Exception):
    """The stored payload does not fit the function. Its text holds no value of the payload."""


def run_function(registered: RegisteredJob, payload_json: str, context: JobContext) -> Outcome:
    """Run a job function and return how it ended. Never raises."""
    try:
        result = registered.function(_payload(registered, payload_json), context)
    except BaseException as error:  # noqa: BLE001 - whatever a job function raises, and be it SystemExit, is its failure
        return _failure(error, context)
    return _outcome(result)


async def run_async_function(registered: RegisteredJob, payload_json: str, context: JobContext) -> Outcome:
    """Run an async job function and return how it ended. Never raises, not even when its task is cancelled."""
    try:
        result = await cast("Awaitable[object]", registered.function(_payload(registered, payload_json), context))
    except BaseException as error:  # noqa: BLE001 - as in run_function
        return _failure(error, context)
    return _outcome(result)


def _payload(registered: RegisteredJob, payload_json: str) -> object:
    try:
        return registered.form.rebuild(decode(payload_json))
    except Exception as error:  # also a row that was written past Heimdex fails alone
        raise _BadPayload(_without_value(error)) from error


def _failure(error: BaseException, context: JobContext) -> Outcome:
    match error:
        case _BadPayload():
            # Another try would read the same payload.
            return Fail("bad_payload", str(error), permanent=True)
        case CancelRequested():
            return AS_REQUESTED
        case CancelledError() if context.cancel_requested:
            return AS_REQUESTED
        case _:
            return Fail(type(error).__name__, _message(error), traceback=_traceback(error))


def _outcome(result: object) -> Outcome:
    if isinstance(result, Snooze | Cancel | Fail):
        return result
    if result is None:
        return Succeed()
    try:
        return Succeed(canonical(result_document(result), "result"))
    except Exception as error:  # noqa: BLE001 - a class may raise what it likes when it is converted
        return Fail("bad_result", _without_value(error), permanent=True)


def _message(error: BaseException) -> str:
    try:
        return str(error) or type(error).__name__
    except Exception:  # noqa: BLE001 - an error whose text cannot be had is still that error
        return type(error).__name__


def _without_value(error: Exception) -> str:
    """Return the text of an error of ours, which holds no value, or only the name of another's."""
    return str(error) if isinstance(error, HeimdexError) else type(error).__name__


def _traceback(error: BaseException) -> str | None:
    """Return the traceback without values of variables, and without our own frame at its head."""
    below = error.__traceback__ and error.__traceback__.tb_next
    try:
        return "".join(traceback.format_exception(type(error), error, below))
    except Exception:  # noqa: BLE001 - as in _message
        return None
