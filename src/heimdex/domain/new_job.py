"""A job that somebody asks for, and the decision to create it."""

from datetime import datetime, timedelta
from uuid import UUID

from attrs import Attribute, field, frozen

from heimdex.domain.backoff import Backoff, Exponential, Fixed, NoRetry
from heimdex.domain.errors import InvalidInput
from heimdex.domain.events import Decision, decided
from heimdex.domain.json_text import JsonValue, canonical, digest, fingerprint
from heimdex.domain.rules import (
    MAX_ATTEMPTS,
    MAX_KEY,
    MAX_PRIORITY,
    MIN_PRIORITY,
    check_length,
    check_text,
    check_time,
    check_uuid,
    check_whole,
    to_milliseconds,
    to_text,
)
from heimdex.domain.transitions import Trigger

DEFAULT_QUEUE = "default"
_UUID_VERSION = 7
_SHORTEST_TIMEOUT = timedelta(milliseconds=1)


def _max_attempts(value: int) -> int:
    return check_whole("max_attempts", value, 1, MAX_ATTEMPTS)


def _backoff(value: object) -> Backoff:
    if not isinstance(value, NoRetry | Fixed | Exponential):
        raise InvalidInput("backoff", value, "give NoRetry(), Fixed(base=...) or Exponential(...)")
    return value


def _timeout(value: timedelta) -> timedelta:
    return check_length("timeout", value, shortest=_SHORTEST_TIMEOUT)


@frozen(kw_only=True, cache_hash=True)
class JobLimits:
    """How often and how long a job may run. The defaults are those of every job that asks for nothing else."""

    max_attempts: int = field(default=5, converter=_max_attempts)
    backoff: Backoff = field(factory=Exponential, converter=_backoff)
    timeout: timedelta = field(default=timedelta(minutes=15), converter=_timeout)


_DEFAULTS = JobLimits()


def _type(value: str) -> str:
    return check_text("type", value)


def _queue(value: str) -> str:
    return check_text("queue", value)


def _priority(value: int) -> int:
    return check_whole("priority", value, MIN_PRIORITY, MAX_PRIORITY)


def _scheduled_at(value: datetime | None) -> datetime | None:
    return None if value is None else check_time("scheduled_at", value)


def _key(value: str | None) -> str | None:
    return None if value is None else check_text("idempotency_key", value, MAX_KEY)


def _requested_by(value: str | None) -> str | None:
    return None if value is None else check_text("requested_by", value)


def _id(value: UUID | str | None) -> UUID | None:
    """Return the id; pages and claims go by its order, which only version 7 makes that of time."""
    if value is None:
        return None
    checked = check_uuid("id", value)
    if checked.version != _UUID_VERSION:
        raise InvalidInput("id", str(value), f"give a UUID of version {_UUID_VERSION}, or leave it out")
    return checked


def _limits(_: object, attribute: "Attribute[JobLimits | None]", value: JobLimits | None) -> None:
    if value is not None and not isinstance(value, JobLimits):
        raise InvalidInput(attribute.name, value, "give JobLimits(...)")


# With a __dict__, into which a frozen class is filled faster than into slots.
@frozen(slots=False)
class NewJob:
    """What a caller asks for. `payload` may also be an instance of the registered payload class.

    Args:
        priority: -32,768 to 32,767, higher first.
        scheduled_at: earliest start; None is at once.
        idempotency_key: at most 255 characters, unique per organisation for the life of the job.
        requested_by: None is the actor of the unit of work.
        limits: None is what the registry says of the type, or else the defaults of JobLimits.
        id: a UUIDv7, drawn by the caller before its first try, so that a try after a commit of unknown outcome cannot
            create twice; None lets the store draw it.
    """

    type: str = field(converter=_type)
    payload: object = field(factory=dict, repr=False)
    queue: str = field(default=DEFAULT_QUEUE, kw_only=True, converter=_queue)
    priority: int = field(default=0, kw_only=True, converter=_priority)
    scheduled_at: datetime | None = field(default=None, kw_only=True, converter=_scheduled_at)
    idempotency_key: str | None = field(default=None, kw_only=True, converter=_key)
    requested_by: str | None = field(default=None, kw_only=True, converter=_requested_by)
    limits: JobLimits | None = field(default=None, kw_only=True, validator=_limits)
    id: UUID | None = field(default=None, kw_only=True, converter=_id)


def with_id(new: NewJob, job_id: UUID) -> NewJob:
    """Return the same request under an id that was drawn for it."""
    copy = NewJob.__new__(NewJob)
    # Past __init__, which would check everything again.
    values = vars(new).copy()
    values["id"] = job_id
    object.__setattr__(copy, "__dict__", values)
    return copy


@frozen(kw_only=True, slots=False)
class JobSpec:
    """A checked job: what a store writes. `fingerprint` covers the payload as given, `payload_json` as stored."""

    new: NewJob
    payload_json: str = field(repr=False)
    fingerprint: str
    limits: JobLimits
    parent_id: UUID | None = None


def specify(new: NewJob) -> JobSpec:
    """Check a job whose type nobody has registered: any payload in the JSON subset."""
    payload_json = canonical(new.payload, "payload")
    return JobSpec(
        new=new,
        payload_json=payload_json,
        fingerprint=fingerprint(new.type, payload_json),
        limits=new.limits or _DEFAULTS,
    )


def create(spec: JobSpec, *, job_id: UUID, requested_by: str) -> Decision:
    """Decide the first event of a job. It carries every column but the payload, and of that digest and length."""
    new, limits = spec.new, spec.limits
    detail: dict[str, JsonValue] = {
        "type": new.type,
        "queue": new.queue,
        "priority": new.priority,
        "max_attempts": limits.max_attempts,
        "backoff_policy": limits.backoff.policy,
        "backoff_base_ms": to_milliseconds(limits.backoff.base),
        "backoff_factor": limits.backoff.factor,
        "backoff_cap_ms": to_milliseconds(limits.backoff.cap),
        "backoff_jitter": limits.backoff.jitter,
        "timeout_ms": to_milliseconds(limits.timeout),
        "idempotency_key": new.idempotency_key,
        "fingerprint": spec.fingerprint,
        "requested_by": new.requested_by or requested_by,
        "parent_id": None if spec.parent_id is None else str(spec.parent_id),
        "payload_sha256": digest(spec.payload_json),
        "payload_bytes": len(spec.payload_json.encode()),
    }
    lengths = {}
    if new.scheduled_at is None:
        lengths["scheduled_at"] = timedelta(0)
    else:
        detail["scheduled_at"] = to_text(new.scheduled_at)
    return decided(job_id, None, Trigger.CREATE, detail, lengths=lengths)
