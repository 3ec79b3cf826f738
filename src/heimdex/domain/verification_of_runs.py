"""The rules of what follows from a run: how it was canceled, whether it is retried or buried, and when it begins again.

They are asked as those of `verification_rules` are.
"""

from datetime import timedelta
from math import ceil
from typing import cast

from heimdex.domain.errors import shown
from heimdex.domain.verification_model import MAX_CRASHES, Detail, Event, Life, time_of, whole_of

# Floating point, and milliseconds rounded up.
_SLACK = 1e-9


def cancel_forgotten(life: Life, event: Event, _: Detail) -> str | None:
    return f"it was asked to cancel, and {event.trigger} led to {event.next_status}" if life.canceling else None


def canceled_unasked(life: Life, event: Event, detail: Detail) -> str | None:
    if life.canceling is not False or event.prev_status != "running" or "last_error_code" not in detail:
        return None
    return "its run failed, and nobody had asked to cancel it"


def cancel_requested_twice(life: Life, _: Event, __: Detail) -> str | None:
    return "it was asked to cancel before" if life.canceling else None


def retry_without_failure(life: Life, event: Event, _: Detail) -> str | None:
    if life.trigger is None or (life.trigger in {"fail", "expire"} and event.ts == life.ts):
        return None
    return f"{event.trigger} belongs to a failure in the same moment"


def retried_wrongly(life: Life, _: Event, __: Detail) -> str | None:
    verdict = _after_failure(life)
    return None if verdict is None or verdict[0] == "retry" else f"it is retried, though {verdict[1]}"


def buried_wrongly(life: Life, _: Event, __: Detail) -> str | None:
    verdict = _after_failure(life)
    return None if verdict is None or verdict[0] == "bury" else f"it is buried, though {verdict[1]}"


def rests_in_failed_wrongly(life: Life, _: Event | None = None, __: Detail | None = None) -> str | None:
    if life.status != "failed" or life.trigger != "expire":
        return None
    return "a lost worker's job is retried or buried in the same moment, and it is neither"


def wrong_delay(life: Life, event: Event, detail: Detail) -> str | None:
    delay = whole_of(detail, "delay_ms")
    if time_of(detail, "scheduled_at") != event.ts + timedelta(milliseconds=delay):
        return f"it waits {delay} ms from {event.ts}, and is scheduled at {detail['scheduled_at']}"
    at_once = event.trigger in {"release", "retry_by_hand"} or (event.trigger == "retry" and life.trigger == "expire")
    return f"it waits {delay} ms, though {event.trigger} is at once" if delay and at_once else None


def delay_outside_policy(life: Life, _: Event, detail: Detail) -> str | None:
    if life.trigger != "fail" or life.attempt is None or not life.whole:
        return None
    base, factor, cap, jitter = (
        cast("float", life.columns[f"backoff_{name}"]) for name in ("base_ms", "factor", "cap_ms", "jitter")
    )
    try:
        shortest = min(base * float(factor) ** max(life.attempt - 1, 0), cap) if base else 0
    except OverflowError:
        shortest = cap
    longest = ceil(shortest * (1 + jitter) * (1 + _SLACK)) + 1
    delay = whole_of(detail, "delay_ms")
    if shortest * (1 - _SLACK) <= delay <= longest:
        return None
    return f"it waits {delay} ms; its policy says {shortest:.0f} to {longest} ms after attempt {life.attempt}"


def _after_failure(life: Life) -> tuple[str, str] | None:
    """Return what has to follow a failure and why; None where that is not known."""
    most, policy = life.columns.get("max_attempts"), life.columns.get("backoff_policy")
    if life.attempt is None or life.crashes is None or not isinstance(most, int):
        return None
    match life.trigger:
        case "expire" if life.crashes >= MAX_CRASHES:
            return "bury", f"{life.crashes} workers were lost with it"
        case "expire" if most == 1:
            return "bury", "its only attempt was lost"
        case "expire":
            return "retry", f"{life.crashes} of {MAX_CRASHES} crashes are counted"
        case "fail" if policy not in {"exp", "fixed"}:
            return "rest", f"its backoff policy is {shown(policy)}"
        case "fail" if life.attempt >= most:
            return "bury", f"attempt {life.attempt} of {most} has failed"
        case "fail":
            return "retry", f"attempt {life.attempt} of {most} has failed"
    return None
