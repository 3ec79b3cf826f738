"""Which jobs a page shows or a bulk verb reaches."""

import re
from datetime import datetime, timedelta
from uuid import UUID

from attrs import Attribute, field, frozen

from heimdex.domain.errors import InvalidInput
from heimdex.domain.job import Job
from heimdex.domain.json_text import MAX_DEPTH, JsonValue, canonical, decode
from heimdex.domain.rules import check_time
from heimdex.domain.transitions import Status

LONGEST_SEARCH = timedelta(days=31)
"""The longest window in which payloads can be looked into: nothing but reading them finds what is in them."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


def _path(value: tuple[str, ...]) -> tuple[str, ...]:
    if not 1 <= len(value) <= MAX_DEPTH or not all(_NAME.fullmatch(name) for name in value):
        raise InvalidInput("payload path", ".".join(value), "give names with dots between, such as customer.id")
    return tuple(value)


def _value_json(value: JsonValue) -> str:
    if isinstance(value, dict | list):
        raise InvalidInput("payload value", value, "give a string, a number, true, false or null")
    return canonical(value, "payload value")


@frozen
class PayloadMatch:
    """Payloads that have this value at this path of member names. A number with a point equals none without."""

    path: tuple[str, ...] = field(converter=_path)
    value_json: str = field(converter=_value_json)

    def accepts(self, payload_json: str) -> bool:
        return value_at(payload_json, self.path) == self.value_json


def value_at(payload_json: str, path: tuple[str, ...]) -> str | None:
    """Return the canonical text of a payload's value at a path; None where it has none, or cannot be read."""
    try:
        value = decode(payload_json)
        for name in path:
            if not isinstance(value, dict) or name not in value:
                return None
            value = value[name]
        return canonical(value, "payload")
    except ValueError:
        return None


def _time(_: object, attribute: "Attribute[datetime | None]", value: datetime | None) -> None:
    if value is not None:
        check_time(attribute.name, value)


@frozen(kw_only=True)
class JobFilter:
    """None is any. Jobs created at `created_from` are among them, those created at `created_before` are not.

    Args:
        payload: only with a type, and with both times, at most LONGEST_SEARCH apart.
    """

    status: Status | None = None
    type: str | None = None
    queue: str | None = None
    requested_by: str | None = None
    parent_id: UUID | None = None
    created_from: datetime | None = field(default=None, validator=_time)
    created_before: datetime | None = field(default=None, validator=_time)
    payload: PayloadMatch | None = field(default=None)

    @payload.validator
    def _is_bounded(self, _: "Attribute[PayloadMatch | None]", value: PayloadMatch | None) -> None:
        if value is None:
            return
        if self.type is None:
            raise InvalidInput("type", None, "name the type whose payloads are searched")
        if self.created_from is None or self.created_before is None:
            raise InvalidInput("created_from", None, "give created_from and created_before to search payloads")
        if self.created_before - self.created_from > LONGEST_SEARCH:
            remedy = f"give one at most {LONGEST_SEARCH.days} days after created_from to search payloads"
            raise InvalidInput("created_before", str(self.created_before), remedy)

    def accepts(self, job: Job) -> bool:
        return (
            self.status in {None, job.status}
            and self.type in {None, job.type}
            and self.queue in {None, job.queue}
            and self.requested_by in {None, job.requested_by}
            and self.parent_id in {None, job.parent_id}
            and (self.created_from is None or job.created_at >= self.created_from)
            and (self.created_before is None or job.created_at < self.created_before)
            and (self.payload is None or self.payload.accepts(job.payload_json))
        )
