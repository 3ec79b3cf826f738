"""The statement that claims any batch of due jobs on PostgreSQL, and appends their events.

It looks from the start, or from the bounds of `claim_bounds`, and says besides what the look has cost.
"""

from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from typing import Any
from uuid import UUID

from attrs import fields_dict
from sqlalchemy import TextClause, text

from heimdex.adapters.claim_bounds import NOBODY, Range, Seen
from heimdex.adapters.orm import EVERY_ORGANISATION, job_table
from heimdex.adapters.planning import AS_BEFORE, HELD_TO_INDEXES
from heimdex.adapters.postgres_values import array, read_as, time_array
from heimdex.adapters.rows import jobs_from, time_from
from heimdex.domain.job import Job
from heimdex.domain.transitions import Status, Trigger, next_status

_CLAIMED = next_status(None, Status.QUEUED, Trigger.CLAIM)
# What every claim sets to the same, and need not come back with each row; `claimed_by` is the worker.
_KNOWN: dict[str, object] = {"status": _CLAIMED, "stage": None, "progress": 0, "finished_at": None}
_COLUMNS = tuple(name for name in fields_dict(Job) if name not in _KNOWN and name != "claimed_by")

# How many entries of the claim index this transaction has walked over. What it finds dead counts, too.
_WALKED = "pg_stat_get_xact_tuples_returned(CAST('idx_job_claim' AS regclass))"

_DUE = f"""SELECT ctid AS place, id, version, priority, scheduled_at, crashes,
        greatest(heimdex_now(), updated_at) AS now
    FROM job
    WHERE status = '{Status.QUEUED}' AND scheduled_at <= heimdex_now() AND type = ANY(CAST(:types AS text[]))
        AND (org_id, queue) NOT IN (SELECT org_id, queue FROM paused_queue)
        AND ('{EVERY_ORGANISATION}'::uuid, queue) NOT IN (SELECT org_id, queue FROM paused_queue)
        {{filters}} {{where}}
    ORDER BY priority DESC, scheduled_at, id
    LIMIT :limit
    FOR UPDATE SKIP LOCKED"""  # noqa: S608 - as below

# The counter is asked first: a condition without a column is looked at before any row.
_FROM_START = f"""before AS MATERIALIZED (
    SELECT {_WALKED} AS walked
), due AS MATERIALIZED (
    {_DUE}
)"""
_ASKED_FIRST = "AND (SELECT walked FROM before) IS NOT NULL"

# The ranges are those of `claim_bounds`, in their order, each with its own LIMIT and order, so that it is a scan of the
# index that begins at the bound and ends early. They are for when many entries would be walked over: for few jobs this
# takes longer to plan.
_FROM_BOUNDS = f"""before AS MATERIALIZED (
    SELECT top, bottom, least(since_at, heimdex_now() - CAST(:lag AS interval)) AS since_at,
        CASE WHEN since_at <= heimdex_now() - CAST(:lag AS interval) THEN since_id ELSE '{NOBODY}' END AS since_id,
        {_WALKED} AS walked
    FROM unnest(CAST(:tops AS smallint[]), CAST(:bottoms AS smallint[]), CAST(:since_at AS timestamptz[]),
        CAST(:since_id AS uuid[])) AS range (top, bottom, since_at, since_id)
), due AS MATERIALIZED (
    SELECT found.* FROM before, LATERAL (
    {_DUE}
    ) AS found
    LIMIT :limit
)"""  # noqa: S608 - as below
_IN_RANGE = "AND priority <= top AND priority >= bottom AND (scheduled_at, id) >= (since_at, since_id)"

# MATERIALIZED, or the planner may run the inner query more than once and claim more than the limit (PostgreSQL BUG
# #15715). The UPDATE looks at the version again, and not at the status: for that it might read the whole queue, row by
# row, where statistics say that there is none.
_CLAIM = f"""
{HELD_TO_INDEXES}
WITH {{due}}, looked AS MATERIALIZED (
    SELECT count(*) AS found, {_WALKED} - (SELECT min(walked) FROM before) AS walked FROM due
), ranked AS (
    SELECT place, version, now, row_number() OVER claim_order AS position,
        bool_or(crashes > 0) OVER claim_order AS suspect_by_here
    FROM due
    WINDOW claim_order AS (ORDER BY priority DESC, scheduled_at, id)
), claimed AS (
    UPDATE job
    SET status = '{_CLAIMED}', attempt = attempt + 1, claimed_by = CAST(:worker AS uuid),
        lease_seq = job.version + 1, version = job.version + 1, lease_until = ranked.now + CAST(:lease AS interval),
        started_at = coalesce(started_at, ranked.now), stage = NULL, progress = 0, updated_at = ranked.now
    FROM ranked
    WHERE job.ctid = ranked.place AND job.version = ranked.version
        AND (ranked.position = 1 OR NOT ranked.suspect_by_here)
    RETURNING job.*
), history AS (
    INSERT INTO job_event
        (job_id, seq, org_id, ts, prev_status, next_status, trigger, actor, source, reason, detail_json)
    SELECT id, version, org_id, updated_at, '{Status.QUEUED}', status, '{Trigger.CLAIM}', :actor, :source, NULL,
        CAST('{{{{"attempt":' || attempt || ',"claimed_by":"' || claimed_by || '","lease_until":"'
            || to_char(lease_until AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || '"}}}}' AS json)
    FROM claimed
)
SELECT concat_ws(' ', found, walked, heimdex_now() AT TIME ZONE 'UTC'), {{columns}}
FROM looked LEFT JOIN claimed ON true
WHERE {AS_BEFORE}
ORDER BY priority DESC, claimed.scheduled_at, claimed.id
"""  # noqa: S608 - put together from the domain's own words


@cache
def claim_of_all() -> TextClause:
    """Return the call of a function of the schema that claims from the start, of every organisation.

    It is the statement of `claim_statement`, whose plan a connection makes once: for few jobs to plan takes longer than
    all else.
    """
    columns = ", ".join(job_table.c[name].name for name in _COLUMNS)
    return text(
        f"SELECT seen, {columns} FROM heimdex_claim_due_v1(CAST(:types AS text[]), CAST(:queues AS text[]), :limit,"  # noqa: S608 - as above
        " CAST(:worker AS uuid), CAST(:lease AS interval), :actor, :source)"
    )


@cache
def claim_statement(*, of_tenant: bool, of_queues: bool, from_start: bool) -> TextClause:
    filters = "AND org_id = CAST(:org_id AS uuid) " if of_tenant else ""
    filters += "AND queue = ANY(CAST(:queues AS text[]))" if of_queues else ""
    columns = ", ".join(read_as(job_table.c[name]) for name in _COLUMNS)
    due, where = (_FROM_START, _ASKED_FIRST) if from_start else (_FROM_BOUNDS, _IN_RANGE)
    return text(_CLAIM.format(due=due.format(filters=filters, where=where), columns=columns))


def bound_parameters(ranges: Sequence[Range], lag: timedelta) -> dict[str, Any]:
    """Return the parameters of a statement that looks from bounds, beside those that every claim has."""
    return {
        "tops": array([each.top for each in ranges]),
        "bottoms": array([each.bottom for each in ranges]),
        "since_at": time_array([each.since[0] for each in ranges]),
        "since_id": array([each.since[1] for each in ranges]),
        "lag": lag,
    }


def claimed(rows: Sequence[Sequence[Any]], worker: UUID, limit: int) -> tuple[list[Job], Seen]:
    """Return the jobs of the statement's rows, and what its look has found."""
    # One row without a job, where none was claimed.
    ours = [row[1:] for row in rows if row[1] is not None]
    jobs = jobs_from(ours, _COLUMNS, _KNOWN | {"claimed_by": worker})
    found, walked, now = rows[0][0].split(" ", 2)
    last = jobs[-1] if jobs else None
    return jobs, Seen(
        at=time_from(now),
        priorities=list(dict.fromkeys(job.priority for job in jobs)),
        last=None if last is None else (last.scheduled_at, last.id),
        to_the_end=len(jobs) == int(found) < limit,
        in_vain=int(walked) - int(found),
    )
