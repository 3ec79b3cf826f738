"""The hot verbs restated for PostgreSQL: a claim of any batch in one statement, a write of any batch in one.

Core cannot say a data-modifying WITH that feeds another, nor `unnest` of many arrays side by side, so these two are SQL
text. They restate `Job.claim` and `apply`; the tests' state machine holds them equal.
"""

from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import Dialect, TextClause, select, text
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

from heimdex.adapters.job_repository import MUTABLE, SqlAlchemyJobRepository
from heimdex.adapters.job_verbs import Change
from heimdex.adapters.orm import EVERY_ORGANISATION, job_table
from heimdex.adapters.scoping import carrying
from heimdex.domain.job import Job
from heimdex.domain.scope import Tenant
from heimdex.domain.transitions import Status, Trigger, next_status

_CLAIMED = next_status(None, Status.QUEUED, Trigger.CLAIM)

# MATERIALIZED, or the planner may run the inner query more than once and claim more than the limit (PostgreSQL BUG
# #15715). The status is looked at again in the UPDATE, after the lock.
_CLAIM = f"""
WITH due AS MATERIALIZED (
    SELECT id, priority, scheduled_at, crashes, greatest(heimdex_now(), updated_at) AS now
    FROM job
    WHERE status = '{Status.QUEUED}' AND scheduled_at <= heimdex_now() AND type = ANY(CAST(:types AS text[]))
        AND (org_id, queue) NOT IN (SELECT org_id, queue FROM paused_queue)
        AND ('{EVERY_ORGANISATION}'::uuid, queue) NOT IN (SELECT org_id, queue FROM paused_queue)
        {{filters}}
    ORDER BY priority DESC, scheduled_at, id
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
), ranked AS (
    SELECT id, now, row_number() OVER claim_order AS position, bool_or(crashes > 0) OVER claim_order AS suspect_by_here
    FROM due
    WINDOW claim_order AS (ORDER BY priority DESC, scheduled_at, id)
), claimed AS (
    UPDATE job
    SET status = '{_CLAIMED}', attempt = attempt + 1, claimed_by = CAST(:worker AS uuid), lease_seq = version + 1,
        version = version + 1, lease_until = ranked.now + CAST(:lease AS interval),
        started_at = coalesce(started_at, ranked.now), stage = NULL, progress = 0, updated_at = ranked.now
    FROM ranked
    WHERE job.id = ranked.id AND (ranked.position = 1 OR NOT ranked.suspect_by_here) AND job.status = '{Status.QUEUED}'
    RETURNING job.*
), history AS (
    INSERT INTO job_event
        (job_id, seq, org_id, ts, prev_status, next_status, trigger, actor, source, reason, detail_json)
    SELECT id, version, org_id, updated_at, '{Status.QUEUED}', status, '{Trigger.CLAIM}', :actor, :source, NULL,
        CAST('{{{{"attempt":' || attempt || ',"claimed_by":"' || claimed_by || '","lease_until":"'
            || to_char(lease_until AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || '"}}}}' AS json)
    FROM claimed
)
SELECT {{columns}}
FROM claimed
ORDER BY priority DESC, scheduled_at, id
"""  # noqa: S608 - put together from the domain's own words

_WRITE = """
UPDATE job
SET {assignments}
FROM unnest({arrays}) AS new ({names})
WHERE job.id = new.job_id AND job.version = new.version_before
    AND job.lease_seq IS NOT DISTINCT FROM new.lease_seq_before {filters}
"""


class PostgresJobRepository(SqlAlchemyJobRepository):
    def _claim_due(
        self, worker: UUID, types: Collection[str], lease: timedelta, limit: int, queues: Collection[str] | None
    ) -> list[Job]:
        parameters: dict[str, Any] = {
            "types": sorted(types),
            "limit": limit,
            "worker": str(worker),
            "lease": lease,
            "actor": self._scope.actor,
            "source": self._scope.source,
        } | self._organisation_parameter()
        if queues is not None:
            parameters["queues"] = sorted(queues)
        statement = _claim_statement(of_tenant=isinstance(self._scope, Tenant), of_queues=queues is not None)
        session = self._session()
        claiming = select(Job).from_statement(statement.columns(*job_table.c)).execution_options(populate_existing=True)
        jobs = list(session.scalars(carrying(claiming, self._scope), parameters))
        session.expunge_all()
        return jobs

    def _write(self, changes: Sequence[Change]) -> None:
        if not changes:
            return
        columns: dict[str, list[Any]] = {
            "job_id": [str(change.job.id) for change in changes],
            "version_before": [change.version_before for change in changes],
            "lease_seq_before": [change.lease_seq_before for change in changes],
        }
        for name in MUTABLE:
            to_driver = _to_driver(name)
            columns[name] = [to_driver(getattr(change.job, name)) for change in changes]
        statement = carrying(_write_statement(of_tenant=isinstance(self._scope, Tenant)), self._scope)
        result = self._session().connection().execute(statement, columns | self._organisation_parameter())
        self._expect(len(changes), result.rowcount)
        self._append(event for change in changes for event in change.events)

    def _organisation_parameter(self) -> dict[str, Any]:
        return {"org_id": str(self._scope.org_id)} if isinstance(self._scope, Tenant) else {}


@cache
def _claim_statement(*, of_tenant: bool, of_queues: bool) -> TextClause:
    filters = "AND org_id = CAST(:org_id AS uuid) " if of_tenant else ""
    filters += "AND queue = ANY(CAST(:queues AS text[]))" if of_queues else ""
    columns = ", ".join(
        f"CAST({column.name} AS text) AS {column.name}" if _is_json(column.key) else column.name
        for column in job_table.c
    )
    return text(_CLAIM.format(filters=filters, columns=columns))


@cache
def _write_statement(*, of_tenant: bool) -> TextClause:
    names = ("job_id", "version_before", "lease_seq_before", *MUTABLE)
    array_types = {"job_id": "uuid", "version_before": "integer", "lease_seq_before": "integer"}
    array_types |= {name: _sql_type(name) for name in MUTABLE}
    return text(
        _WRITE.format(
            assignments=", ".join(
                f"{job_table.c[name].name} = {f'CAST(new.{name} AS json)' if _is_json(name) else f'new.{name}'}"
                for name in MUTABLE
            ),
            arrays=", ".join(f"CAST(:{name} AS {array_types[name]}[])" for name in names),
            names=", ".join(names),
            filters="AND job.org_id = CAST(:org_id AS uuid)" if of_tenant else "",
        )
    )


def _is_json(name: str) -> bool:
    return name.endswith("_json")


def _sql_type(name: str) -> str:
    return "text" if _is_json(name) else job_table.c[name].type.compile(dialect=_dialect())


@cache
def _to_driver(name: str) -> Callable[[Any], Any]:
    """Return what makes a column's value one that the driver can send inside an array."""
    return job_table.c[name].type.dialect_impl(_dialect()).bind_processor(_dialect()) or _unchanged


@cache
def _dialect() -> Dialect:
    """Return the dialect of every engine that this repository works on."""
    return PGDialect_psycopg2()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves its dialects untyped


def _unchanged(value: object) -> object:
    return value
