"""`apply`: the one place where an event changes a job. Folding a history with it gives the job's row."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeAlias
from uuid import UUID

from attrs import fields_dict

from heimdex.domain.errors import shown
from heimdex.domain.events import NOTHING, JobEvent
from heimdex.domain.job import Job, as_kept
from heimdex.domain.json_text import JsonValue, digest
from heimdex.domain.rules import from_milliseconds, from_text
from heimdex.domain.transitions import END_STATUSES, TRANSITIONS, Status, Trigger

# Columns that no event carries. Payload and result are compared with the digests that the events do carry.
BESIDE_EVENTS = frozenset({"payload_json", "result_json"})
# A renewal moves lease_until and is no event.
RENEWED = frozenset({"lease_until"})

_Read: TypeAlias = Callable[[JsonValue], object]


def _text(value: JsonValue) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _text_or_none(value: JsonValue) -> str | None:
    return None if value is None else _text(value)


def _whole(value: JsonValue) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("not a whole number")
    return value


def _number(value: JsonValue) -> float:
    return value if isinstance(value, float) else float(_whole(value))


def _length(value: JsonValue) -> timedelta:
    return from_milliseconds(_whole(value))


def _time(value: JsonValue) -> datetime:
    return from_text(_text(value))


def _uuid(value: JsonValue) -> UUID:
    return UUID(_text(value))


def _uuid_or_none(value: JsonValue) -> UUID | None:
    return None if value is None else _uuid(value)


# What a detail may carry for a column: its key there -> the job's attribute and how to read it.
_CARRIED: Mapping[str, tuple[str, _Read]] = {
    "type": ("type", _text),
    "queue": ("queue", _text),
    "priority": ("priority", _whole),
    "max_attempts": ("max_attempts", _whole),
    "backoff_policy": ("backoff_policy", _text),
    "backoff_base_ms": ("backoff_base", _length),
    "backoff_factor": ("backoff_factor", _number),
    "backoff_cap_ms": ("backoff_cap", _length),
    "backoff_jitter": ("backoff_jitter", _number),
    "timeout_ms": ("timeout", _length),
    "scheduled_at": ("scheduled_at", _time),
    "idempotency_key": ("idempotency_key", _text_or_none),
    "fingerprint": ("fingerprint", _text),
    "requested_by": ("requested_by", _text),
    "parent_id": ("parent_id", _uuid_or_none),
    "attempt": ("attempt", _whole),
    "crashes": ("crashes", _whole),
    "claimed_by": ("claimed_by", _uuid),
    "lease_until": ("lease_until", _time),
    "stage": ("stage", _text_or_none),
    "progress": ("progress", _whole),
    "last_error_code": ("last_error_code", _text),
    "last_error_message": ("last_error_message", _text),
}


def apply(job: Job | None, event: JobEvent, detail: Mapping[str, JsonValue] | None = None) -> Job:
    """Change `job` in place as `event` says, or make the job that a create event describes, and return it.

    Args:
        detail: the event's, where the caller has it and its text need not be read again.
    """
    status, ts, trigger = event.next_status, event.ts, event.trigger
    columns: dict[str, object] = {
        "status": status,
        "version": event.seq,
        "updated_at": ts,
        "finished_at": ts if status in END_STATUSES else None,
    }
    if status is not Status.RUNNING:
        columns["claimed_by"] = columns["lease_seq"] = columns["lease_until"] = None
    # The detail of a log event is the caller's own and carries no columns.
    if trigger is not Trigger.LOG:
        _read_detail(columns, event, event.detail if detail is None else detail)
    match trigger:
        case Trigger.CLAIM:
            columns["lease_seq"] = event.seq
            columns["started_at"] = ts if job is None else job.started_at or ts
            columns["stage"], columns["progress"] = None, 0
        case Trigger.SUCCEED:
            columns["progress"] = 100
        case Trigger.REQUEST_CANCEL:
            columns["cancel_requested_at"] = ts
        case Trigger.RETRY_BY_HAND:
            columns["cancel_requested_at"] = None
    if job is None:
        born = {"id": event.job_id, "org_id": event.org_id, "created_at": ts, "scheduled_at": ts}
        return as_kept({**_BLANK, **born, **columns})
    # At once: where the class is mapped, each assignment is SQLAlchemy's.
    vars(job).update(columns)
    return job


def fold(events: Iterable[JobEvent]) -> Job | None:
    """Return the job that a history, in the order of `seq`, leads to; None for an empty one.

    Raises:
        ValueError, TypeError: it is no history: an event does not follow the one before, or cannot be read.
    """
    job = None
    for event in events:
        _check_follows(job, event)
        job = apply(job, event)
    return job


def explains(job: Job, events: Sequence[JobEvent]) -> tuple[str, ...]:
    """Return the columns of `job` that its history does not lead to; empty when the history explains the row.

    Payload and result are compared with the digests that the events carry; a renewed lease_until is left out.

    Raises:
        ValueError, TypeError: as for `fold`.
    """
    folded = fold(events)
    if folded is None:
        return tuple(fields_dict(Job))
    compared = fields_dict(Job).keys() - BESIDE_EVENTS - RENEWED
    different = {name for name in compared if getattr(job, name) != getattr(folded, name)}
    if not _has_digest(job.payload_json, events[0].detail, "payload"):
        different.add("payload_json")
    # A job that has succeeded moves no more, so that its last event carries the result.
    last = events[-1].detail if events[-1].trigger is Trigger.SUCCEED else NOTHING
    if not _has_digest(job.result_json, last, "result"):
        different.add("result_json")
    return tuple(name for name in fields_dict(Job) if name in different)


def _has_digest(text: str | None, detail: Mapping[str, JsonValue], name: str) -> bool:
    carried = detail.get(f"{name}_sha256"), detail.get(f"{name}_bytes")
    return carried == ((None, None) if text is None else (digest(text), len(text.encode())))


def _check_follows(job: Job | None, event: JobEvent) -> None:
    status, seq = (None, 1) if job is None else (job.status, job.version + 1)
    same_job = job is None or (event.job_id, event.org_id) == (job.id, job.org_id)
    legal = (event.trigger, event.next_status) in TRANSITIONS[status].items()
    if not (same_job and legal and event.prev_status == status and event.seq == seq):
        raise ValueError(
            f"event {event.seq} ({event.prev_status} -> {event.next_status} by {event.trigger}) does not follow:"
            f" the job is {status or 'new'} and its next event is {seq}"
        )


def _read_detail(columns: dict[str, object], event: JobEvent, detail: Mapping[str, JsonValue]) -> None:
    for key, value in detail.items():
        carried = _CARRIED.get(key)
        if carried is not None:
            attribute, read = carried
            try:
                columns[attribute] = read(value)
            except (ValueError, TypeError, OverflowError) as error:
                raise ValueError(f"event {event.seq}: {key} cannot be {shown(value)}") from error


# What the columns of a job are that its create event does not name.
_BLANK: Mapping[str, object] = {
    "parent_id": None,
    "type": "",
    "queue": "",
    "priority": 0,
    "payload_json": "{}",
    "result_json": None,
    "attempt": 0,
    "max_attempts": 1,
    "backoff_policy": "none",
    "backoff_base": timedelta(0),
    "backoff_factor": 1.0,
    "backoff_cap": timedelta(0),
    "backoff_jitter": 0.0,
    "timeout": timedelta(0),
    "idempotency_key": None,
    "fingerprint": "",
    "requested_by": "",
    "stage": None,
    "progress": 0,
    "claimed_by": None,
    "lease_seq": None,
    "lease_until": None,
    "crashes": 0,
    "cancel_requested_at": None,
    "last_error_code": None,
    "last_error_message": None,
    "started_at": None,
}
