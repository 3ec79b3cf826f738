"""The statement that creates one job on PostgreSQL, and its event with it.

It is the one that says when: nobody need ask the database for its time before. So job and event come stamped with
`AT_ONCE`, and the statement puts its time in the place of that.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any

from sqlalchemy import TextClause, text

from heimdex.adapters.job_repository import FIXED
from heimdex.adapters.job_verbs import Change
from heimdex.adapters.orm import job_table
from heimdex.adapters.postgres_values import scalar_of, time_from
from heimdex.domain.rules import to_text
from heimdex.domain.scope import Scope
from heimdex.domain.transitions import Trigger, next_status

AT_ONCE = datetime(9999, 1, 1, tzinfo=UTC)
"""Stands for the time of the statement. It is later than any that a caller may give."""

_BORN = next_status(None, None, Trigger.CREATE)
_GIVEN = tuple(column.key for column in job_table.c if column.key in FIXED - {"org_id", "created_at"})
_SENT = ("scheduled_at", *_GIVEN)
_COLUMNS = ", ".join(job_table.c[name].name for name in _GIVEN)
_STAMPED = ("created_at", "updated_at", "scheduled_at")

# Of the detail only a key of its own can match: within a text every quote has a backslash before it.
_DETAIL = f"""CAST(replace({{detail_json}}, '"scheduled_at":"{to_text(AT_ONCE)}"', '"scheduled_at":"'
    || to_char(heimdex_now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || '"') AS json)"""
_SCHEDULED_AT = f"CASE {{scheduled_at}} WHEN '{AT_ONCE}' THEN heimdex_now() ELSE {{scheduled_at}} END"
_JOB = """INSERT INTO job
        ({columns}, org_id, status, attempt, progress, crashes, version, created_at, updated_at, scheduled_at)"""
_EVENT = """INSERT INTO job_event
        (job_id, seq, org_id, ts, prev_status, next_status, trigger, actor, source, reason, detail_json)"""

# To parse and plan the statement for many would take longer than to run this.
_CREATE_ONE = f"""
WITH born AS (
    {_JOB}
    VALUES ({{values}}, CAST(:org_id AS uuid), '{_BORN}', 0, 0, 0, 1, heimdex_now(), heimdex_now(),
        {_SCHEDULED_AT.format(scheduled_at="CAST(:scheduled_at AS timestamptz)")})
    ON CONFLICT DO NOTHING
    RETURNING id, org_id
), history AS (
    {_EVENT}
    SELECT id, 1, org_id, heimdex_now(), NULL, '{_BORN}', '{Trigger.CREATE}', :actor, :source, NULL,
        {_DETAIL.format(detail_json=":detail_json")}
    FROM born
    WHERE org_id = CAST(:org_id AS uuid)
)
SELECT CAST(id AS text), CAST(heimdex_now() AT TIME ZONE 'UTC' AS text) FROM born
"""  # noqa: S608 - as above


@cache
def create_one_statement() -> TextClause:
    return text(_CREATE_ONE.format(columns=_COLUMNS, values=", ".join(f":{name}" for name in _GIVEN)))


def create_one_parameters(change: Change, scope: Scope) -> dict[str, Any]:
    job = vars(change.job)
    parameters = _scalars(change, scope) | {name: to_driver(job[name]) for name, to_driver in _to_driver()}
    parameters["detail_json"] = change.events[0].detail_json
    return parameters


def _scalars(change: Change, scope: Scope) -> dict[str, Any]:
    return {"org_id": str(change.job.org_id), "actor": scope.actor, "source": scope.source}


@cache
def _to_driver() -> list[tuple[str, Callable[[Any], object]]]:
    return [(name, scalar_of(job_table.c[name])) for name in _SENT]


def stamp_again(change: Change, time_text: str) -> None:
    """Put the time of the statement in the place of `AT_ONCE`."""
    now, job = time_from(time_text), vars(change.job)
    job.update({name: now for name in _STAMPED if job[name] == AT_ONCE})
