"""How a run of a job function ends. A function returns a result or one of Snooze, Cancel and Fail, or raises."""

from datetime import timedelta
from typing import TypeAlias

from attrs import Attribute, field, frozen

from heimdex.domain.errors import InvalidInput
from heimdex.domain.json_text import JsonValue, printable
from heimdex.domain.rules import MAX_REASON, MAX_STAGE, check_length, check_optional_text, check_text, check_whole

MAX_ERROR_CODE = 64
MAX_ERROR_MESSAGE = 2_048
MAX_TRACEBACK = 16_384


def _length(_: object, attribute: "Attribute[timedelta]", value: timedelta) -> None:
    check_length(attribute.name, value)


def _reason(_: object, attribute: "Attribute[str]", value: str) -> None:
    check_text(attribute.name, value, MAX_REASON)


def _code(value: str) -> str:
    return _shortened("code", value, MAX_ERROR_CODE)


def _message(value: str) -> str:
    return _shortened("message", value, MAX_ERROR_MESSAGE)


def _traceback(value: str | None) -> str | None:
    # The end of a traceback says most.
    return None if value is None else printable(value[-MAX_TRACEBACK:], MAX_TRACEBACK)


def _shortened(field: str, value: object, limit: int) -> str:
    if not isinstance(value, str):
        raise InvalidInput(field, value, "give a string")
    return printable(value, limit)


def _stage(value: str | None) -> str | None:
    return check_optional_text("stage", value, MAX_STAGE)


def _percent(value: int) -> int:
    return check_whole("progress", value, 0, 100)


@frozen
class Succeed:
    """The run is done. `result_json` is the canonical text of what the function returned, None for nothing."""

    result_json: str | None = field(default=None, repr=False)


@frozen
class Snooze:
    """Run again after `for_`; no attempt is spent."""

    for_: timedelta = field(validator=_length)


@frozen
class Cancel:
    """The function found that the job is not wanted."""

    reason: str = field(validator=_reason)


@frozen
class Release:
    """The run was not started or not finished, through no fault of the job: give it back, no attempt is spent."""

    reason: str = field(validator=_reason)


@frozen
class Fail:
    """The run failed; it is retried by the job's backoff policy unless `permanent`.

    Args:
        code: at most 64 characters, such as "timeout" or an exception's name; longer ones are cut.
        message: at most 2,048 characters; longer ones are cut.
        traceback: without values of local variables; kept in the history only.
    """

    code: str = field(converter=_code)
    message: str = field(converter=_message)
    permanent: bool = False
    traceback: str | None = field(default=None, repr=False, converter=_traceback)


@frozen
class Progress:
    """How far a run has come. `stage` is at most 64 characters, `percent` 0 to 100."""

    stage: str | None = field(converter=_stage)
    percent: int = field(converter=_percent)

    @property
    def detail(self) -> dict[str, JsonValue]:
        return {"stage": self.stage, "progress": self.percent}


Outcome: TypeAlias = Succeed | Snooze | Cancel | Release | Fail
