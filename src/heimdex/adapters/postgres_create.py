"""The statement that creates any batch of jobs on PostgreSQL, and their events with them.

It is the one that says when: nobody need ask the database for its time before. So jobs and events come stamped with
`AT_ONCE`, and the statement puts its time in the place of that.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from sqlalchemy import TextClause, text

from heimdex.adapters.job_repository import FIXED
from heimdex.adapters.job_verbs import Change
from heimdex.adapters.orm import job_table
from heimdex.adapters.postgres_values import array_of, scalar_of, sql_type, text_array, time_from
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

_CREATE_MANY = f"""
WITH new AS (
    SELECT * FROM unnest({{arrays}}) AS new ({{names}})
), born AS (
    {_JOB}
    SELECT {{values}}, CAST(:org_id AS uuid), '{_BORN}', 0, 0, 0, 1, heimdex_now(), heimdex_now(),
        {_SCHEDULED_AT.format(scheduled_at="scheduled_at")}
    FROM new
    ON CONFLICT DO NOTHING
    RETURNING id, org_id
), history AS (
    {_EVENT}
    SELECT id, 1, CAST(:org_id AS uuid), heimdex_now(), NULL, '{_BORN}', '{Trigger.CREATE}', :actor, :source, NULL,
        {_DETAIL.format(detail_json="detail_json")}
    FROM new
    WHERE (id IN (SELECT id FROM born WHERE born.org_id = CAST(:org_id AS uuid))) IS TRUE
)
SELECT CAST(id AS text), CAST(heimdex_now() AT TIME ZONE 'UTC' AS text) FROM born
"""  # noqa: S608 - put together from the domain's own words

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


@cache
def create_statement() -> TextClause:
    sent = {name: sql_type(name) for name in _SENT} | {"detail_json": "text"}
    return text(
        _CREATE_MANY.format(
            arrays=", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in sent.items()),
            names=", ".join(sent),
            columns=_COLUMNS,
            values=", ".join(f"CAST({name} AS json)" if name.endswith("_json") else name for name in _GIVEN),
        )
    )


def create_parameters(changes: Sequence[Change], scope: Scope) -> dict[str, Any]:
    """Return the parameters of the statement for many; the jobs are all of one organisation."""
    jobs = [vars(change.job) for change in changes]
    parameters = _scalars(changes[0], scope)
    parameters["detail_json"] = text_array([change.events[0].detail_json for change in changes])
    for name, write in _writers():
        parameters[name] = write([job[name] for job in jobs])
    return parameters


def create_one_values(change: Change, scope: Scope) -> list[object]:
    """Return what the function for one takes after the organisation."""
    job = vars(change.job)
    values = [to_driver(job[name]) for name, to_driver in _to_driver()]
    before, unknown, after = change.events[0].detail_json.partition(_UNKNOWN)
    detail = (before + _BEFORE, _AFTER + after) if unknown else (before, "")
    return [*values, scope.actor, scope.source, *detail]


def _scalars(change: Change, scope: Scope) -> dict[str, Any]:
    return {"org_id": str(change.job.org_id), "actor": scope.actor, "source": scope.source}


@cache
def _writers() -> list[tuple[str, Callable[[Iterable[Any]], str]]]:
    return [(name, array_of(job_table.c[name])) for name in _SENT]


@cache
def _to_driver() -> list[tuple[str, Callable[[Any], object]]]:
    return [(name, _time_unless_at_once if name == "scheduled_at" else scalar_of(job_table.c[name])) for name in _ONE]


def _time_unless_at_once(value: datetime) -> datetime | None:
    return None if value == AT_ONCE else value


def stamp_again(change: Change, time_text: str) -> None:
    """Put the time of the statement in the place of `AT_ONCE`."""
    now, job = time_from(time_text), vars(change.job)
    job.update({name: now for name in _STAMPED if job[name] == AT_ONCE})
