"""What a history says a job is, event by event: the model that a ledger is verified against.

Written from the design a second time, on purpose: it shares no code with TRANSITIONS, `Job` or `apply`, so that a
mistake there shows as a difference. Statuses and triggers are plain words here, since a stored one may be no word of
ours.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple, Protocol, TypeAlias, cast
from uuid import UUID

from attrs import define, field

from heimdex.domain.errors import shown
from heimdex.domain.json_text import JsonValue

Detail: TypeAlias = Mapping[str, JsonValue]

# From where an event leads by which trigger, and where to.
MOVES: Mapping[tuple[str | None, str], str] = MappingProxyType(
    {
        (None, "create"): "queued",
        ("queued", "claim"): "running",
        ("queued", "cancel"): "canceled",
        ("running", "succeed"): "succeeded",
        ("running", "fail"): "failed",
        ("running", "expire"): "failed",
        ("running", "cancel"): "canceled",
        ("running", "snooze"): "queued",
        ("running", "release"): "queued",
        ("running", "request_cancel"): "running",
        ("running", "progress"): "running",
        ("running", "log"): "running",
        ("failed", "retry"): "queued",
        ("failed", "bury"): "dead_letter",
        ("failed", "retry_by_hand"): "queued",
        ("canceled", "retry_by_hand"): "queued",
        ("dead_letter", "retry_by_hand"): "queued",
    }
)
ENDS = frozenset({"succeeded", "failed", "canceled", "dead_letter"})
MAX_CRASHES = 3


class Event(Protocol):
    """One line of a history: a JobEvent, or a HistoryLine as a store reads it."""

    @property
    def job_id(self) -> UUID: ...
    @property
    def seq(self) -> int: ...
    @property
    def org_id(self) -> UUID: ...
    @property
    def ts(self) -> datetime: ...
    @property
    def prev_status(self) -> str | None: ...
    @property
    def next_status(self) -> str: ...
    @property
    def trigger(self) -> str: ...
    @property
    def source(self) -> str | None: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def detail_json(self) -> str: ...


class HistoryLine(NamedTuple):
    """One line of a history, read for verification only: statuses and trigger are whatever text is stored."""

    job_id: UUID
    seq: int
    org_id: UUID
    ts: datetime
    prev_status: str | None
    next_status: str
    trigger: str
    source: str | None
    reason: str | None
    detail_json: str


@define
class Life:
    """A job as its history leads to it so far. None stands for what is not known, as after a gap.

    `columns` are a row's, as events carry them: lengths in milliseconds under their names there, ids and times as text.
    """

    seq: int = 0
    status: str | None = None
    trigger: str | None = None
    ts: datetime | None = None
    org_id: UUID | None = None
    attempt: int | None = None
    crashes: int | None = None
    lease_seq: int | None = None
    worker: str | None = None
    canceling: bool | None = False
    whole: bool = True
    columns: dict[str, object] = field(factory=lambda: {"progress": 0})

    def forget(self) -> None:
        """Take in that something is missing or cannot be read: the row can no longer be told from the history."""
        self.attempt = self.crashes = self.lease_seq = self.worker = self.canceling = self.trigger = None
        self.whole = False

    def pass_over(self, event: Event) -> None:
        """Go on after an event whose detail cannot be read."""
        self.forget()
        self._move(event)

    def take(self, event: Event, detail: Detail) -> None:
        """Go on as an event says, whether or not it was right."""
        trigger, status, columns = event.trigger, event.next_status, self.columns
        self._move(event)
        self.trigger = trigger
        columns["finished_at"] = event.ts if status in ENDS else None
        if status != "running":
            self.lease_seq = self.worker = None
        if trigger != "log":
            columns.update(detail)
            self._count(detail)
        match trigger:
            case "create":
                self.attempt, self.crashes = 0, 0
                columns["created_at"] = event.ts
            case "claim":
                self.lease_seq, self.worker = event.seq, cast("str", detail["claimed_by"])
                columns.setdefault("started_at", event.ts)
                columns["stage"], columns["progress"] = None, 0
            case "succeed":
                columns["progress"] = 100
            case "request_cancel":
                self.canceling, columns["cancel_requested_at"] = True, event.ts
            case "retry_by_hand":
                self.canceling, columns["cancel_requested_at"] = False, None

    def _move(self, event: Event) -> None:
        self.seq, self.status, self.ts = event.seq, event.next_status, event.ts
        self.org_id = self.org_id or event.org_id

    def _count(self, detail: Detail) -> None:
        if "attempt" in detail:
            self.attempt = cast("int", detail["attempt"])
        if "crashes" in detail:
            self.crashes = cast("int", detail["crashes"])


@lru_cache(1_000)  # few workers claim many jobs
def is_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


_TEXT: frozenset[type] = frozenset({str})
_TEXT_OR_NONE: frozenset[type] = frozenset({str, type(None)})
_WHOLE: frozenset[type] = frozenset({int})
_NUMBER: frozenset[type] = frozenset({int, float})

# What a detail may carry for a column, or about a run, and of which type it is.
_TYPES: Mapping[str, frozenset[type]] = MappingProxyType(
    {
        "type": _TEXT,
        "queue": _TEXT,
        "priority": _WHOLE,
        "max_attempts": _WHOLE,
        "backoff_policy": _TEXT,
        "backoff_base_ms": _WHOLE,
        "backoff_factor": _NUMBER,
        "backoff_cap_ms": _WHOLE,
        "backoff_jitter": _NUMBER,
        "timeout_ms": _WHOLE,
        "scheduled_at": _TEXT,
        "idempotency_key": _TEXT_OR_NONE,
        "fingerprint": _TEXT,
        "requested_by": _TEXT,
        "parent_id": _TEXT_OR_NONE,
        "payload_sha256": _TEXT,
        "payload_bytes": _WHOLE,
        "result_sha256": _TEXT,
        "result_bytes": _WHOLE,
        "attempt": _WHOLE,
        "crashes": _WHOLE,
        "claimed_by": _TEXT,
        "lease_until": _TEXT,
        "lease_seq": _WHOLE,
        "stage": _TEXT_OR_NONE,
        "progress": _WHOLE,
        "delay_ms": _WHOLE,
        "last_error_code": _TEXT,
        "last_error_message": _TEXT,
    }
)
_FORMS: Mapping[str, Callable[[str], bool]] = MappingProxyType(
    {"scheduled_at": _is_time, "lease_until": _is_time, "claimed_by": is_id, "parent_id": is_id}
)

_RUN = frozenset({"lease_seq", "attempt"})
_ERROR = frozenset({"last_error_code", "last_error_message"})
_REQUEUE = frozenset({"delay_ms", "attempt", "crashes", "scheduled_at"})
_NOTHING: frozenset[str] = frozenset()

# What a fold needs of each kind of event.
_NEEDED: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "create": frozenset(
            {
                "type",
                "queue",
                "priority",
                "max_attempts",
                "backoff_policy",
                "backoff_base_ms",
                "backoff_factor",
                "backoff_cap_ms",
                "backoff_jitter",
                "timeout_ms",
                "scheduled_at",
                "idempotency_key",
                "fingerprint",
                "requested_by",
                "parent_id",
                "payload_sha256",
                "payload_bytes",
            }
        ),
        "claim": frozenset({"attempt", "claimed_by", "lease_until"}),
        "succeed": _RUN,
        "fail": _RUN | _ERROR,
        "expire": _RUN | _ERROR | {"crashes"},
        "snooze": _RUN | _REQUEUE,
        "release": _RUN | _REQUEUE,
        "retry": _REQUEUE,
        "retry_by_hand": _REQUEUE,
        "progress": frozenset({"stage", "progress"}),
    }
)


def unreadable(event: Event, detail: Detail) -> str | None:
    """Return what an event's detail lacks of what it has to carry, or carries of another kind."""
    if event.trigger == "log":  # its detail is the caller's own
        return None
    ends_a_run = event.trigger == "cancel" and event.prev_status == "running"
    needed = _RUN if ends_a_run else _NEEDED.get(event.trigger, _NOTHING)
    if not needed <= detail.keys():
        return f"it does not say {', '.join(sorted(needed - detail.keys()))}"
    for key, value in detail.items():
        if key in _TYPES and type(value) not in _TYPES[key]:
            return f"its {key} cannot be {shown(value)}"
    for key, is_of_form in _FORMS.items():
        value = detail.get(key)
        if type(value) is str and not is_of_form(value):
            return f"its {key} cannot be {shown(value)}"
    return None


def by_expiry(detail: Detail) -> bool:
    """Return whether a cancel took the place of an expiry, which alone counts a crash."""
    return "crashes" in detail


def time_of(detail: Mapping[str, object], key: str) -> datetime:
    return datetime.fromisoformat(cast("str", detail[key]))


def whole_of(detail: Detail, key: str) -> int:
    return cast("int", detail[key])


def length_of(detail: Mapping[str, object], key: str) -> timedelta:
    return timedelta(milliseconds=cast("int", detail[key]))


@lru_cache(1_000)
def id_of(text: object) -> UUID | None:
    return None if text is None else UUID(str(text))
