"""What the API answers with: how each document looks in the OpenAPI description, and who sees how much of it."""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, TypeAlias
from uuid import UUID

import attrs
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from heimdex.domain.access import Caller, Right
from heimdex.domain.asset import Asset
from heimdex.domain.events import JobEvent
from heimdex.domain.job import Job
from heimdex.domain.results import Created
from heimdex.domain.transitions import Status, Trigger
from heimdex.domain.waiting import BlockerKind
from heimdex.service_layer.documents import document, text_of

# What users put in and job functions made. Whoever may not read it gets null.
_CONTENT = ("payload", "result", "last_error_message", "detail", "metadata", "uri")

Milliseconds: TypeAlias = Annotated[int, Field(ge=0, description="In milliseconds.")]
Content: TypeAlias = Annotated[object, Field(description="null for callers who may not read content.")]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class JobAnswer(_Answer):
    """A job."""

    id: UUID
    org_id: UUID
    parent_id: UUID | None
    type: str
    queue: str
    priority: int
    payload: Content
    result: Content
    status: Status
    attempt: int
    max_attempts: int
    backoff_policy: str
    backoff_base_ms: Milliseconds
    backoff_factor: float
    backoff_cap_ms: Milliseconds
    backoff_jitter: float
    timeout_ms: Milliseconds
    scheduled_at: datetime
    idempotency_key: str | None
    fingerprint: str
    requested_by: str
    stage: str | None
    progress: int
    claimed_by: UUID | None
    lease_seq: int | None
    lease_until: datetime | None
    crashes: int
    cancel_requested_at: datetime | None
    last_error_code: str | None
    last_error_message: str | None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    version: int


class CreatedAnswer(_Answer):
    """A job, and whether its idempotency key had made it before."""

    job: JobAnswer
    replayed: bool


class BatchAnswer(_Answer):
    """The jobs in the order in which they were asked for."""

    jobs: list[CreatedAnswer]


class PageAnswer(_Answer):
    """Jobs, newest first. `next_after` is the `after` of the next page; null on the last."""

    jobs: list[JobAnswer]
    next_after: UUID | None


class EventAnswer(_Answer):
    """One line of a job's history."""

    job_id: UUID
    seq: int
    org_id: UUID
    ts: datetime
    prev_status: Status | None
    next_status: Status
    trigger: Trigger
    actor: str
    source: str | None
    reason: str | None
    detail: Content


class HistoryAnswer(_Answer):
    """A job's events in the order of `seq`; they outlive the job. `next_after`: as of a page of jobs."""

    job_id: UUID
    events: list[EventAnswer]
    refusals: int = Field(description="How many writes by workers that had lost the job were refused.")
    next_after: int | None


class AssetAnswer(_Answer):
    """Something that a job found or made. `size` is in bytes."""

    id: UUID
    org_id: UUID
    job_id: UUID
    uri: str | None
    media_type: str
    size: int
    sha256: str
    metadata: Content
    created_at: datetime


class AssetsAnswer(_Answer):
    assets: list[AssetAnswer]


class BlockerAnswer(_Answer):
    """One reason why a job is not running, and until when, where that is known."""

    kind: BlockerKind
    text: str
    until: datetime | None


class WhyAnswer(_Answer):
    """Everything that a job waits for; nothing means that the next free slot takes it."""

    job_id: UUID
    blockers: list[BlockerAnswer]


class StatisticsAnswer(_Answer):
    by_status: dict[Status, int]
    by_type: dict[str, dict[Status, int]]
    unserved_types: list[str] = Field(description="Queued types that no living worker claims.")


class PauseAnswer(_Answer):
    """Who paused a queue; `org_id` null: for every organisation."""

    queue: str
    org_id: UUID | None
    actor: str
    reason: str
    paused_at: datetime


class QueueAnswer(_Answer):
    queue: str
    queued: int
    running: int
    paused: list[PauseAnswer]


class QueuesAnswer(_Answer):
    queues: list[QueueAnswer]


class PausedAnswer(_Answer):
    queue: str
    paused: bool


class ResumedAnswer(_Answer):
    queue: str
    was_paused: bool


class TypeAnswer(_Answer):
    """A registered type: the limits of its jobs and the JSON schema of its payload."""

    type: str
    max_attempts: int
    timeout_ms: Milliseconds
    payload: dict[str, object]


class TypesAnswer(_Answer):
    types: list[TypeAnswer]


class HealthAnswer(_Answer):
    status: str


class ReadyAnswer(_Answer):
    status: str
    schema_revision: str


class ProblemAnswer(BaseModel):
    """What failed, as RFC 9457 has it. Some problems have members of their own, such as `field`, `path` or `remedy`."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:heimdex:problem:job_not_found"])
    title: str
    status: int
    detail: str


def answer(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(text_of(content), status, headers, "application/json")


def shown_to(caller: Caller, thing: attrs.AttrsInstance) -> dict[str, object]:
    """Return a job, an event or an asset as this caller may see it."""
    shown = document(thing)
    if not caller.may(Right.READ_CONTENT):
        shown.update((name, None) for name in _CONTENT if name in shown)
    return shown


def all_shown_to(caller: Caller, things: Iterable[Job | JobEvent | Asset]) -> list[dict[str, object]]:
    return [shown_to(caller, thing) for thing in things]


def created_for(caller: Caller, created: Created) -> dict[str, object]:
    return {"job": shown_to(caller, created.job), "replayed": created.replayed}
