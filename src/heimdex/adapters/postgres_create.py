"""The statement that creates one job on PostgreSQL, and its event with it.

It is the one that says when: nobody need ask the database for its time before. So job and event come stamped with
`AT_ONCE`, and the statement puts its time in the place of that.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any

from heimdex.adapters.job_verbs import Change
from heimdex.adapters.orm import job_table
from heimdex.adapters.postgres_values import scalar_of
from heimdex.adapters.rows import time_from
from heimdex.domain.rules import to_text
from heimdex.domain.scope import Scope

AT_ONCE = datetime(9999, 1, 1, tzinfo=UTC)
"""Stands for the time of the statement. It is later than any that a caller may give."""

_STAMPED = ("created_at", "updated_at", "scheduled_at")

# One goes to a function of the schema, whose plans a connection makes once: to parse and plan a statement of this
# length takes longer than to run it. psycopg2 prepares none, and behind a pooler of transactions nobody could.
_ONE = (
    *("id", "parent_id", "type", "queue", "priority", "payload_json", "max_attempts", "backoff_policy", "backoff_base"),
    *("backoff_factor", "backoff_cap", "backoff_jitter", "timeout", "scheduled_at", "idempotency_key", "fingerprint"),
    "requested_by",
)
ONE = ("org_id", *_ONE, "actor", "source", "detail_before", "detail_after")
"""The parameters of the function, in its order."""
CREATE_ONE = f"SELECT heimdex_create_job_v1({', '.join(['%s'] * len(ONE))})"
_BEFORE, _AFTER = '"scheduled_at":"', '"'
_UNKNOWN = f"{_BEFORE}{to_text(AT_ONCE)}{_AFTER}"


def create_one_values(change: Change, scope: Scope) -> list[object]:
    """Return what the function for one takes after the organisation."""
    job = vars(change.job)
    values = [to_driver(job[name]) for name, to_driver in _to_driver()]
    before, unknown, after = change.events[0].detail_json.partition(_UNKNOWN)
    detail = (before + _BEFORE, _AFTER + after) if unknown else (before, "")
    return [*values, scope.actor, scope.source, *detail]


@cache
def _to_driver() -> list[tuple[str, Callable[[Any], object]]]:
    return [(name, _time_unless_at_once if name == "scheduled_at" else scalar_of(job_table.c[name])) for name in _ONE]


def _time_unless_at_once(value: datetime) -> datetime | None:
    return None if value == AT_ONCE else value


def stamp_again(change: Change, time_text: str) -> None:
    """Put the time of the statement in the place of `AT_ONCE`."""
    now, job = time_from(time_text), vars(change.job)
    job.update({name: now for name in _STAMPED if job[name] == AT_ONCE})
