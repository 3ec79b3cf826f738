"""The statement that ends any batch of plain successes on PostgreSQL: nothing is told but that the runs succeeded.

Most runs end so, and all of them change the same columns to the same values. So this restates `Job.finish` for them, as
the claim restates `Job.claim`: what is sent is whose run it was and what it returned, and the events are made from the
rows. tests/property holds it equal.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import TextClause, text

from heimdex.adapters.plain_success import SUCCEEDED, result_of
from heimdex.adapters.postgres_values import array, text_array
from heimdex.domain.job import result_detail
from heimdex.domain.json_text import trusted
from heimdex.domain.results import Ending
from heimdex.domain.scope import Scope
from heimdex.domain.transitions import Status, Trigger

# Row by row in the order of ids, as each statement that writes several rows goes: OFFSET 0 keeps the planner from
# joining them. What is no plain success is written by another statement, so that a batch with both has two such orders.
# By its place a row is found at once. One that somebody else has written meanwhile is not told by its place in every
# release of PostgreSQL, so the version is compared again.
_SUCCEED = f"""
WITH succeeded AS (
    UPDATE job
    SET status = '{SUCCEEDED}', progress = 100, result = CAST(held.result AS json),
        claimed_by = NULL, lease_seq = NULL, lease_until = NULL, finished_at = held.now, updated_at = held.now,
        version = job.version + 1
    FROM (
        SELECT found.*, new.number, new.version, new.lease_seq, new.result, new.result_detail
        FROM (
            SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:versions AS integer[]), CAST(:lease_seqs AS integer[]),
                CAST(:results AS text[]), CAST(:result_details AS text[]))
                WITH ORDINALITY AS sent (id, version, lease_seq, result, result_detail, number)
            ORDER BY id
        ) AS new,
        LATERAL (
            SELECT job.ctid AS place, greatest(heimdex_now(), job.updated_at) AS now
            FROM job
            WHERE job.id = new.id AND job.version = new.version AND job.lease_seq = new.lease_seq {{filters}}
            OFFSET 0
        ) AS found
    ) AS held
    WHERE job.ctid = held.place AND job.version = held.version
    RETURNING job.id, job.org_id, job.version, job.attempt, job.updated_at, held.number, held.lease_seq,
        held.result_detail
), history AS (
    INSERT INTO job_event
        (job_id, seq, org_id, ts, prev_status, next_status, trigger, actor, source, reason, detail_json)
    SELECT id, version, org_id, updated_at, '{Status.RUNNING}', '{SUCCEEDED}', '{Trigger.SUCCEED}', :actor, :source,
        NULL, CAST('{{{{"attempt":' || attempt || ',"lease_seq":' || lease_seq || result_detail || '}}}}' AS json)
    FROM succeeded
)
SELECT number, CAST(updated_at AT TIME ZONE 'UTC' AS text) FROM succeeded
"""  # noqa: S608 - put together from the domain's own words


@cache
def succeed_statement(*, of_tenant: bool) -> TextClause:
    filters = "AND (job.org_id = CAST(:org_id AS uuid)) IS TRUE" if of_tenant else ""
    return text(_SUCCEED.format(filters=filters))


def succeed_parameters(endings: Sequence[Ending], scope: Scope) -> dict[str, Any]:
    """Return the parameters of the statement; no two endings are of one job."""
    jobs = [vars(ending.job) for ending in endings]
    results = [result_of(ending) for ending in endings]
    return {
        "ids": array([f"{job['id'].int:032x}" for job in jobs]),
        "versions": array([job["version"] for job in jobs]),
        "lease_seqs": array([job["lease_seq"] for job in jobs]),
        "results": text_array(results),
        "result_details": text_array([_result_detail(result) for result in results]),
        "actor": scope.actor,
        "source": scope.source,
    }


def _result_detail(result_json: str | None) -> str:
    """Return what the event's detail has beyond attempt and lease, with the comma before it."""
    return "" if result_json is None else "," + trusted(result_detail(result_json))[1:-1]
