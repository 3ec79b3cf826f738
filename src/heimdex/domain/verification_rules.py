"""The rules that each event of a history obeys, one function a rule; a function's name is the rule's name.

A rule is asked with the job as the history led to it before the event, and answers what is wrong or None. Those of
what follows from a run are in `verification_of_runs`.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from heimdex.domain.errors import shown
from heimdex.domain.verification_model import ENDS, MOVES, Detail, Event, Life, by_expiry, is_id, time_of, whole_of
from heimdex.domain.verification_of_runs import (
    buried_wrongly,
    cancel_forgotten,
    cancel_requested_twice,
    canceled_unasked,
    delay_outside_policy,
    rests_in_failed_wrongly,
    retried_wrongly,
    retry_without_failure,
    wrong_delay,
)

Rule: TypeAlias = Callable[[Life, Event, Detail], str | None]

_WORKER = "worker "
_PERCENT = range(101)


# Of every event. They look at no detail.


def gap(life: Life, event: Event, _: Detail) -> str | None:
    if event.seq == life.seq + 1:
        return None
    return f"event {life.seq + 1} should be next" if life.seq else f"it begins with event {event.seq} instead of 1"


def starts_with_create(_: Life, event: Event, __: Detail) -> str | None:
    is_first, is_create = event.seq == 1, event.trigger == "create"
    if is_first == is_create:
        return None
    return f"event 1 is {shown(event.trigger)}" if is_first else "a job is created once, by its event 1"


def status_does_not_follow(life: Life, event: Event, _: Detail) -> str | None:
    # After a gap nobody knows which status it follows.
    if event.prev_status == life.status or event.seq != life.seq + 1:
        return None
    return f"it comes from {_status(event.prev_status)}, and the event before led to {_status(life.status)}"


def illegal_move(_: Life, event: Event, __: Detail) -> str | None:
    if (event.prev_status, event.trigger) in MOVES or _leaves_an_end(event) or event.seq == 1:
        return None
    return f"nothing leads from {_status(event.prev_status)} by {shown(event.trigger)}"


def end_status_left_without_retry_by_hand(_: Life, event: Event, __: Detail) -> str | None:
    if not _leaves_an_end(event):
        return None
    return f"it leaves {event.prev_status} by {shown(event.trigger)}"


def wrong_next_status(_: Life, event: Event, __: Detail) -> str | None:
    leads_to = MOVES.get((event.prev_status, event.trigger), event.next_status)
    if event.next_status == leads_to:
        return None
    return f"{event.trigger} leads to {leads_to}, not to {_status(event.next_status)}"


def one_organisation(life: Life, event: Event, _: Detail) -> str | None:
    if life.org_id is None or event.org_id == life.org_id:
        return None
    return f"it is of organisation {event.org_id}, and the job of {life.org_id}"


def time_runs_backwards(life: Life, event: Event, _: Detail) -> str | None:
    if life.ts is None or event.ts >= life.ts:
        return None
    return f"it happened at {event.ts}, before the event before it at {life.ts}"


# Of attempts and crashes.


def attempt_not_counted(life: Life, _: Event, detail: Detail) -> str | None:
    return None if life.attempt is None else _differs("attempt", detail, life.attempt + 1)


def attempt_beyond_max(life: Life, _: Event, detail: Detail) -> str | None:
    most = life.columns.get("max_attempts")
    attempt = whole_of(detail, "attempt")
    return f"attempt {attempt} of {most}" if isinstance(most, int) and attempt > most else None


def attempt_not_given_back(life: Life, event: Event, detail: Detail) -> str | None:
    if life.attempt is None or (event.trigger == "cancel" and not by_expiry(detail)):
        return None
    return _differs("attempt", detail, life.attempt - 1)


def attempt_changed(life: Life, event: Event, detail: Detail) -> str | None:
    if life.attempt is None or (event.trigger == "cancel" and (event.prev_status == "queued" or by_expiry(detail))):
        return None
    return _differs("attempt", detail, life.attempt)


def crashes_not_counted(life: Life, event: Event, detail: Detail) -> str | None:
    if life.crashes is None or (event.trigger == "cancel" and not by_expiry(detail)):
        return None
    return _differs("crashes", detail, life.crashes + 1)


def crashes_changed(life: Life, _: Event, detail: Detail) -> str | None:
    return None if life.crashes is None else _differs("crashes", detail, life.crashes)


def not_started_anew(_: Life, __: Event, detail: Detail) -> str | None:
    return _differs("attempt", detail, 0) or _differs("crashes", detail, 0)


# Of the lease, and who holds it.


def lease_seq_of_latest_claim(life: Life, event: Event, detail: Detail) -> str | None:
    if life.lease_seq is None or event.prev_status != "running" or detail["lease_seq"] == life.lease_seq:
        return None
    return f"it names lease_seq {detail['lease_seq']}, and the latest claim is event {life.lease_seq}"


def lease_ends_before_it_begins(_: Life, event: Event, detail: Detail) -> str | None:
    until = time_of(detail, "lease_until")
    return f"its lease ends at {until} and begins at {event.ts}" if until <= event.ts else None


def finished_by_another_worker(life: Life, event: Event, detail: Detail) -> str | None:
    if life.worker is None or event.source is None or not event.source.startswith(_WORKER):
        return None
    holder = event.source.removeprefix(_WORKER)
    if holder == life.worker or (event.trigger == "cancel" and by_expiry(detail)) or not is_id(holder):
        return None
    return f"{event.trigger} by worker {holder}, and worker {life.worker} holds it"


# Of single values.


def failed_without_error(_: Life, __: Event, detail: Detail) -> str | None:
    return None if detail["last_error_code"] else "it says no error code"


def progress_out_of_range(_: Life, __: Event, detail: Detail) -> str | None:
    progress = detail.get("progress", 0)
    return None if type(progress) is int and progress in _PERCENT else f"its progress is {shown(progress)}"


def without_a_reason(_: Life, event: Event, __: Detail) -> str | None:
    if event.reason or (event.trigger == "cancel" and event.prev_status == "running"):
        return None
    return f"{event.trigger} by hand has a reason"


EVERY: tuple[Rule, ...] = (
    gap,
    starts_with_create,
    status_does_not_follow,
    illegal_move,
    end_status_left_without_retry_by_hand,
    wrong_next_status,
    one_organisation,
    time_runs_backwards,
)

_LEFT = (lease_seq_of_latest_claim, progress_out_of_range)
_BY_HOLDER = (*_LEFT, finished_by_another_worker)

# What is asked of an event beside EVERY, by its trigger.
OF_TRIGGER: Mapping[str, tuple[Rule, ...]] = MappingProxyType(
    {
        "claim": (attempt_not_counted, attempt_beyond_max, lease_ends_before_it_begins),
        "succeed": (*_BY_HOLDER, attempt_changed),
        "fail": (*_BY_HOLDER, attempt_changed, cancel_forgotten, failed_without_error),
        "expire": (*_LEFT, attempt_not_given_back, crashes_not_counted, cancel_forgotten, failed_without_error),
        "cancel": (
            *_BY_HOLDER,
            attempt_changed,
            attempt_not_given_back,
            crashes_not_counted,
            canceled_unasked,
            without_a_reason,
        ),
        "snooze": (*_BY_HOLDER, attempt_not_given_back, crashes_changed, cancel_forgotten, wrong_delay),
        "release": (
            *_BY_HOLDER,
            attempt_not_given_back,
            crashes_changed,
            cancel_forgotten,
            wrong_delay,
            without_a_reason,
        ),
        "request_cancel": (cancel_requested_twice, without_a_reason),
        "progress": (finished_by_another_worker, progress_out_of_range),
        "log": (finished_by_another_worker,),
        "retry": (
            retry_without_failure,
            retried_wrongly,
            attempt_changed,
            crashes_changed,
            wrong_delay,
            delay_outside_policy,
        ),
        "bury": (retry_without_failure, buried_wrongly),
        "retry_by_hand": (rests_in_failed_wrongly, not_started_anew, wrong_delay, without_a_reason),
    }
)


def _status(status: str | None) -> str:
    return "no status" if status is None else shown(str(status))


def _leaves_an_end(event: Event) -> bool:
    return event.prev_status in ENDS and (event.prev_status, event.trigger) not in MOVES


def _differs(name: str, detail: Detail, expected: int) -> str | None:
    return None if detail.get(name) == expected else f"{name} {shown(detail.get(name))} instead of {expected}"
