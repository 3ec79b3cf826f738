"""Whether a stored history is one that Heimdex can have written, and leads to the row beside it."""

from collections.abc import Iterator, Sequence
from operator import itemgetter
from types import MappingProxyType
from uuid import UUID

from attrs import frozen

from heimdex.domain.errors import shown
from heimdex.domain.job import Job
from heimdex.domain.json_text import decode_object, digest
from heimdex.domain.verification_model import ENDS, Detail, Event, Life, id_of, length_of, time_of, unreadable
from heimdex.domain.verification_of_runs import rests_in_failed_wrongly
from heimdex.domain.verification_rules import EVERY, OF_TRIGGER

_NOTHING: Detail = MappingProxyType({})

# Columns that events carry as they are, under the same name.
_CARRIED = (
    "type",
    "queue",
    "priority",
    "max_attempts",
    "backoff_policy",
    "backoff_factor",
    "backoff_jitter",
    "idempotency_key",
    "fingerprint",
    "requested_by",
    "stage",
    "progress",
    "last_error_code",
    "last_error_message",
    "created_at",
    "started_at",
    "finished_at",
    "cancel_requested_at",
)
# Columns that the model leads to in the row's own form; see `_led_to`.
_COMPARED = (
    *_CARRIED,
    "backoff_base",
    "backoff_cap",
    "timeout",
    "parent_id",
    "scheduled_at",
    "status",
    "attempt",
    "crashes",
    "lease_seq",
    "claimed_by",
    "version",
    "updated_at",
)
_FENCE = ("lease_seq", "claimed_by")

# Past a mapping, which makes reading an attribute as slow as a rule.
_of_row = itemgetter(*_COMPARED)


@frozen
class Finding:
    """A rule that a job's history or row breaks. `seq` is the event's, None for the row; no payload is in `text`."""

    rule: str
    job_id: UUID
    org_id: UUID | None
    seq: int | None
    text: str


def check(job: Job | None, events: Sequence[Event]) -> list[Finding]:
    """Return what is wrong with a job; nothing for one that only Heimdex has written.

    Nothing is raised for what a row or an event holds. A history may outlive its row, which pruning deletes; where it
    has a gap, or an event that cannot be read, the row is not compared with it.

    Args:
        job: the row, None where there is none.
        events: its history in the order of `seq`.
    """
    found: list[Finding] = []
    life = Life()
    for event in events:
        for rule, text in _look(life, event):
            found.append(Finding(rule, event.job_id, event.org_id, event.seq, text))
    if job is not None:
        found += [Finding(rule, job.id, job.org_id, None, text) for rule, text in _compare(life, job)]
    elif life.status not in ENDS and events:
        last = events[-1]
        text = f"its row is gone, and its history ends in {shown(str(life.status))}"
        found.append(Finding("history_without_row", last.job_id, last.org_id, None, text))
    unrested = rests_in_failed_wrongly(life)
    if unrested is not None:
        last = events[-1]
        found.append(Finding(rests_in_failed_wrongly.__name__, last.job_id, last.org_id, last.seq, unrested))
    return found


def _look(life: Life, event: Event) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with one event, and let the life go on with it."""
    for rule in EVERY:
        text = rule(life, event, _NOTHING)
        if text is not None:
            yield rule.__name__, text
    if event.seq != life.seq + 1 or (event.seq == 1 and event.trigger != "create"):
        life.forget()
    try:
        detail: Detail = decode_object(event.detail_json)
        problem = unreadable(event, detail)
        if problem is None:
            for rule in OF_TRIGGER.get(event.trigger, ()):
                text = rule(life, event, detail)
                if text is not None:
                    yield rule.__name__, text
            life.take(event, detail)
    except (ValueError, TypeError, OverflowError, LookupError) as error:
        problem = f"its detail cannot be read ({type(error).__name__})"
    if problem is not None:
        life.pass_over(event)
        yield "unreadable_event", problem


def _compare(life: Life, job: Job) -> Iterator[tuple[str, str]]:
    """Yield how a row differs from what its history leads to."""
    if life.seq == 0:
        yield "row_without_history", "it has a row and no history"
        return
    if job.org_id != life.org_id:
        yield "one_organisation", f"its row is of organisation {job.org_id}, and its history of {life.org_id}"
    lease = (job.claimed_by, job.lease_seq, job.lease_until)
    held = [column is not None for column in lease]
    leased = all(held) if job.status == "running" else not any(held)
    if not leased:
        yield "running_without_lease", f"it is {job.status}, and its row has {sum(held)} of the 3 columns of a lease"
    if not life.whole:
        return
    try:
        different = [name for name in _different(life, job) if leased or name not in _FENCE]
    except (ValueError, TypeError, OverflowError, LookupError):
        # A detail may carry any column; only those that its kind of event has to carry were looked at.
        yield "row_differs", "its history leads to a column that cannot be read"
        return
    if different:
        yield "row_differs", f"its history does not lead to its {', '.join(different)}"
    if not _has_digest(job.payload_json, life.columns, "payload"):
        yield "payload_digest", "its payload is not the one that it was created with"
    if not _has_digest(job.result_json, life.columns if life.trigger == "succeed" else {}, "result"):
        yield "result_digest", "its result is not the one that it succeeded with"


def _different(life: Life, job: Job) -> Iterator[str]:
    row, led_to = _of_row(vars(job)), _led_to(life)
    if row != led_to:
        yield from (name for name, one, other in zip(_COMPARED, row, led_to, strict=True) if one != other)


def _led_to(life: Life) -> tuple[object, ...]:
    """Return what a history leads to, in the order of _COMPARED."""
    columns = life.columns
    return (
        *map(columns.get, _CARRIED),
        length_of(columns, "backoff_base_ms"),
        length_of(columns, "backoff_cap_ms"),
        length_of(columns, "timeout_ms"),
        id_of(columns.get("parent_id")),
        time_of(columns, "scheduled_at"),
        life.status,
        life.attempt,
        life.crashes,
        life.lease_seq,
        id_of(life.worker),
        life.seq,
        life.ts,
    )


def _has_digest(text: str | None, columns: dict[str, object], name: str) -> bool:
    carried = columns.get(f"{name}_sha256"), columns.get(f"{name}_bytes")
    return carried == ((None, None) if text is None else (digest(text), len(text.encode())))
