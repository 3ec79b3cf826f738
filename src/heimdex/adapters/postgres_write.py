"""The statement that writes any batch of changed jobs on PostgreSQL, and their events with them.

It compares id, version and fence, and nothing that a planner estimates: by the primary key it finds each row in one
step, whatever the statistics say.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

from sqlalchemy import TextClause, text

from heimdex.adapters.job_repository import MUTABLE
from heimdex.adapters.job_verbs import Change
from heimdex.adapters.orm import job_table
from heimdex.adapters.postgres_values import array, array_of, sql_type, text_array, time_array
from heimdex.domain.scope import Scope

# Rows are locked in the order of ids, as every write of several rows does; LATERAL goes row by row whatever the planner
# thinks. IS TRUE keeps a comparison out of the planner's hands: of the organisation it might make a way to the row, and
# of the IN a loop in a loop, where it is a look-up in a hash table.
_WRITE = """
WITH written AS (
    UPDATE job
    SET {assignments}
    FROM (SELECT * FROM unnest({arrays}) AS sent ({names}) ORDER BY job_id) AS new,
        LATERAL (
            SELECT job.id FROM job
            WHERE job.id = new.job_id AND (job.org_id = new.org_id) IS TRUE AND job.version = new.version_before
                AND job.lease_seq IS NOT DISTINCT FROM new.lease_seq_before {filters}
            FOR UPDATE
        ) AS held
    WHERE job.id = held.id
    RETURNING job.id
), history AS (
    INSERT INTO job_event
        (job_id, seq, org_id, ts, prev_status, next_status, trigger, actor, source, reason, detail_json)
    SELECT job_id, seq, org_id, ts, prev_status, next_status, trigger, :actor, :source, reason,
        CAST(detail_json AS json)
    FROM unnest({event_arrays}) AS new ({event_names})
    WHERE (job_id IN (SELECT id FROM written)) IS TRUE
)
SELECT CAST(id AS text) FROM written
"""

_BEFORE = {"job_id": "uuid", "org_id": "uuid", "version_before": "integer", "lease_seq_before": "integer"}
_EVENT = {
    "job_id": "uuid",
    "seq": "integer",
    "org_id": "uuid",
    "ts": "timestamptz",
    "prev_status": "text",
    "next_status": "text",
    "trigger": "text",
    "reason": "text",
    "detail_json": "text",
}
_EVENT_WRITERS: dict[str, Callable[[Iterable[Any]], str]] = {
    "seq": array,
    "ts": time_array,
    "prev_status": array,
    "next_status": array,
    "trigger": array,
    "reason": text_array,
    "detail_json": text_array,
}


@cache
def write_statement(*, of_tenant: bool) -> TextClause:
    columns = _BEFORE | {name: sql_type(name) for name in MUTABLE}
    return text(
        _WRITE.format(
            assignments=", ".join(f"{job_table.c[name].name} = {_new(name)}" for name in MUTABLE),
            arrays=", ".join(f"CAST(:{_sent(name)} AS {kind}[])" for name, kind in columns.items()),
            names=", ".join(columns),
            event_arrays=", ".join(f"CAST(:event_{name} AS {kind}[])" for name, kind in _EVENT.items()),
            event_names=", ".join(_EVENT),
            filters="AND (job.org_id = CAST(:org_id AS uuid)) IS TRUE" if of_tenant else "",
        )
    )


def write_parameters(changes: Sequence[Change], ids: Sequence[str], scope: Scope) -> dict[str, Any]:
    """Return the parameters of the statement.

    Args:
        ids: those of the changed jobs, in the same order.
    """
    jobs = [vars(change.job) for change in changes]
    orgs = [str(job["org_id"]) for job in jobs]
    parameters: dict[str, Any] = {
        "actor": scope.actor,
        "source": scope.source,
        "job_id": array(ids),
        "org_ids": array(orgs),
        "version_before": array([change.version_before for change in changes]),
        "lease_seq_before": array([change.lease_seq_before for change in changes]),
    }
    for name, write in _writers():
        parameters[name] = write([job[name] for job in jobs])
    counts = [len(change.events) for change in changes]
    parameters["event_job_id"] = array(_repeated(ids, counts))
    parameters["event_org_id"] = array(_repeated(orgs, counts))
    events = [vars(event) for change in changes for event in change.events]
    for name, write in _EVENT_WRITERS.items():
        parameters[f"event_{name}"] = write([event[name] for event in events])
    return parameters


def _repeated(values: Sequence[str], counts: Sequence[int]) -> list[str]:
    return [value for value, count in zip(values, counts, strict=True) for _ in range(count)]


@cache
def _writers() -> list[tuple[str, Callable[[Iterable[Any]], str]]]:
    return [(name, array_of(job_table.c[name])) for name in MUTABLE]


def _sent(name: str) -> str:
    # Under its own name an organisation is that of the scope, which the guard looks at.
    return "org_ids" if name == "org_id" else name


def _new(name: str) -> str:
    return f"CAST(new.{name} AS json)" if name.endswith("_json") else f"new.{name}"
