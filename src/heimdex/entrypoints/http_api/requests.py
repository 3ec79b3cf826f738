"""What the API takes: the form of each body and each parameter. Whatever is not named here is refused."""

from datetime import UTC, datetime
from typing import Annotated, TypeAlias
from uuid import UUID

from attrs import evolve
from fastapi import Path, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from heimdex.domain.errors import InvalidInput
from heimdex.domain.job_filter import JobFilter, PayloadMatch
from heimdex.domain.json_text import decode
from heimdex.domain.new_job import DEFAULT_QUEUE, JobLimits, NewJob
from heimdex.domain.rules import MAX_ATTEMPTS, MAX_KEY, MAX_NAME, MAX_PRIORITY, MAX_REASON, MIN_PRIORITY
from heimdex.domain.transitions import Status
from heimdex.service_layer.job_registry import JobRegistry

MOST_IN_A_BATCH = 1_000
MOST_IN_A_PAGE = 200
MOST_EVENTS = 1_000
LAST_SEQ = 2**31 - 1

_PATH = r"^[A-Za-z_][A-Za-z0-9_-]{0,63}(\.[A-Za-z_][A-Za-z0-9_-]{0,63}){0,31}$"
_EXAMPLE_ID = "018f3c6e-0000-7000-8000-000000000001"


def _time(value: object) -> datetime:
    if not isinstance(value, str):
        raise ValueError("give a time as text")  # noqa: TRY004 - of which pydantic makes its own error
    time = datetime.fromisoformat(value)
    if time.utcoffset() is None:
        raise ValueError("give a time with its offset, such as 2030-01-31T08:00:00Z")
    return time.astimezone(UTC)


def _id(value: object) -> UUID:
    # Only the usual form: others would be other texts of the same id.
    if not isinstance(value, str) or len(value) != len(_EXAMPLE_ID):
        raise ValueError(f"give a UUID, such as {_EXAMPLE_ID}")
    return UUID(value)


_TIME_SCHEMA = {"type": "string", "format": "date-time", "examples": ["2030-01-31T08:00:00Z"]}
_ID_SCHEMA = {"type": "string", "format": "uuid", "examples": [_EXAMPLE_ID]}

Time: TypeAlias = Annotated[datetime, BeforeValidator(_time), WithJsonSchema(_TIME_SCHEMA)]
Id: TypeAlias = Annotated[UUID, BeforeValidator(_id), WithJsonSchema(_ID_SCHEMA)]
# "printable": no control characters and nothing that does not show, which JSON Schema cannot say.
Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=MAX_NAME, json_schema_extra={"format": "printable"})]
Key: TypeAlias = Annotated[str, Field(min_length=1, max_length=MAX_KEY, json_schema_extra={"format": "printable"})]
Reason: TypeAlias = Annotated[
    str, Field(min_length=1, max_length=MAX_REASON, json_schema_extra={"format": "printable"})
]

JobId: TypeAlias = Annotated[Id, Path(description="The job's id.")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class JobRequest(_Strict):
    """A job to create."""

    type: Name = Field(description="What it runs.", examples=["mail.welcome"])
    payload: object = Field(
        default_factory=dict,
        description="Its input: JSON of at most 256 KiB and 32 levels, integers within ±(2^53 - 1), no NUL in strings.",
        examples=[{"to": "a@example.com"}],
    )
    queue: Name = DEFAULT_QUEUE
    priority: int = Field(default=0, ge=MIN_PRIORITY, le=MAX_PRIORITY, description="Higher ones run first.")
    scheduled_at: Time | None = Field(default=None, description="Not before this time.")
    idempotency_key: Key | None = Field(
        default=None, description="A second create with it answers with the first job.", examples=["welcome-1"]
    )
    max_attempts: int | None = Field(default=None, ge=1, le=MAX_ATTEMPTS)

    def new_job(self, jobs: JobRegistry | None, idempotency_key: str | None = None) -> NewJob:
        """Return the job that this asks for, checked by the domain's rules.

        Raises:
            InvalidInput, UnknownJobType.
        """
        return NewJob(
            self.type,
            self.payload,
            queue=self.queue,
            priority=self.priority,
            scheduled_at=self.scheduled_at,
            idempotency_key=idempotency_key or self.idempotency_key,
            limits=None if self.max_attempts is None else _limits(self.type, self.max_attempts, jobs),
        )


class NewJobRequest(JobRequest):
    """A job to create, possibly below another one."""

    parent_id: Id | None = Field(default=None, description="A job of the same organisation.")


class BatchRequest(_Strict):
    """Jobs to create together: all of them or none."""

    jobs: list[JobRequest] = Field(min_length=1, max_length=MOST_IN_A_BATCH)
    parent_id: Id | None = Field(default=None, description="A job of the same organisation.")


class ReasonRequest(_Strict):
    """Why something is done; it is kept in the history."""

    reason: Reason = Field(examples=["asked for by the customer"])


class _Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class JobQuery(_Parameters):
    """Which jobs a page shows."""

    status: Status | None = None
    type: Name | None = None
    queue: Name | None = None
    requested_by: Name | None = None
    parent_id: Id | None = None
    created_from: Time | None = Field(default=None, description="Created at this time or later.")
    created_before: Time | None = Field(default=None, description="Created before this time.")
    payload_path: Annotated[str, Field(pattern=_PATH)] | None = Field(
        default=None,
        description=(
            "Names with dots between. Payloads are searched within one type and at most 31 days: give `type`, "
            "`created_from`, `created_before` and `payload_value`, too."
        ),
        examples=["customer.id"],
    )
    payload_value: str | None = Field(
        default=None,
        max_length=MAX_NAME,
        description="The value at that path, as JSON: a string in quotes, a number, true, false or null.",
        examples=["42", '"a@example.com"'],
    )
    after: Id | None = Field(default=None, description="`next_after` of the page before.")
    limit: int = Field(default=50, ge=1, le=MOST_IN_A_PAGE)

    @property
    def which(self) -> JobFilter:
        return JobFilter(
            status=self.status,
            type=self.type,
            queue=self.queue,
            requested_by=self.requested_by,
            parent_id=self.parent_id,
            created_from=self.created_from,
            created_before=self.created_before,
            payload=self._payload,
        )

    @property
    def _payload(self) -> PayloadMatch | None:
        if self.payload_path is None and self.payload_value is None:
            return None
        if self.payload_path is None or self.payload_value is None:
            raise InvalidInput("payload_path", self.payload_path, "give payload_path and payload_value together")
        try:
            value = decode(self.payload_value)
        except ValueError:
            raise InvalidInput(
                "payload_value", self.payload_value, "give JSON, such as 42 or a text in quotes"
            ) from None
        return PayloadMatch(tuple(self.payload_path.split(".")), value)


class HistoryQuery(_Parameters):
    """Which part of a history a page shows."""

    after: int = Field(default=0, ge=0, le=LAST_SEQ, description="`next_after` of the page before.")
    limit: int = Field(default=MOST_EVENTS, ge=1, le=MOST_EVENTS)


HistoryQueryParameters: TypeAlias = Annotated[HistoryQuery, Query()]
JobQueryParameters: TypeAlias = Annotated[JobQuery, Query()]


def _limits(type: str, max_attempts: int, jobs: JobRegistry | None) -> JobLimits:
    return evolve(JobLimits() if jobs is None else jobs.get(type).limits, max_attempts=max_attempts)
