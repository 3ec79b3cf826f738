"""The statements that end any batch of plain successes on SQLite: nothing is told but that the runs succeeded.

They restate `Job.finish` for these, as `postgres_succeed` does; the tests' state machine holds all three equal.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from attrs import frozen
from sqlalchemy import Connection

from heimdex.adapters.driver_statements import DriverStatement, on_driver
from heimdex.adapters.plain_success import SUCCEEDED, result_of
from heimdex.adapters.rows import time_from
from heimdex.adapters.sqlite_rows import Row, time_text
from heimdex.domain.job import result_detail
from heimdex.domain.json_text import trusted
from heimdex.domain.results import Ending
from heimdex.domain.scope import Scope, Tenant
from heimdex.domain.transitions import Status, Trigger

# CROSS JOIN: SQLite then keeps to this order, whatever it believes to know of the table.
_HELD = """
SELECT job.id, job.org_id, job.version, job.lease_seq, job.attempt, job.updated_at
FROM json_each(?) AS sent CROSS JOIN job ON job.id = sent.value
"""
_ANYBODYS = DriverStatement(_HELD, organisation=0)
_OF_TENANT = DriverStatement(f"{_HELD} WHERE job.org_id = ?", organisation=1)
_SUCCEED = DriverStatement(
    f"""
    UPDATE job
    SET status = '{SUCCEEDED}', progress = 100, result = ?, claimed_by = NULL, lease_seq = NULL, lease_until = NULL,
        finished_at = ?, updated_at = ?, version = version + 1
    WHERE id = ? AND org_id = ? AND version = ? AND lease_seq = ?
    """,  # noqa: S608 - put together from the domain's own words
    organisation=4,
)
_HISTORY = DriverStatement(
    f"""
    INSERT INTO job_event
        (job_id, seq, org_id, ts, prev_status, next_status, trigger, actor, source, reason, detail_json)
    VALUES (?, ?, ?, ?, '{Status.RUNNING}', '{SUCCEEDED}', '{Trigger.SUCCEED}', ?, ?, NULL, ?)
    """,  # noqa: S608 - as above
    organisation=2,
)


@frozen
class Held:
    """What a row still says of a run that succeeded, and when that is."""

    attempt: int
    ended_at: datetime


def still_held(
    connection: Connection, endings: Mapping[int, Ending], scope: Scope, now: datetime
) -> list[tuple[int, Held]]:
    """Return the places of those endings, no two of them of one job, whose rows are as their claims returned them."""
    rows, held = _held(connection, endings.values(), scope), []
    for place, ending in endings.items():
        job = vars(ending.job)
        row = rows.get(job["id"].hex)
        if row is not None and row[1:4] == (job["org_id"].hex, job["version"], job["lease_seq"]):
            held.append((place, Held(row[4], max(now, time_from(row[5])))))
    return held


def succeed(connection: Connection, successes: Sequence[tuple[Ending, Held]], scope: Scope) -> int:
    """Write the successes with their events; return how many rows changed."""
    ends: list[Row] = []
    events: list[Row] = []
    for ending, held in successes:
        job, at = vars(ending.job), time_text(held.ended_at)
        job_id, org_id, version, lease_seq = job["id"].hex, job["org_id"].hex, job["version"], job["lease_seq"]
        result = result_of(ending)
        ends.append((result, at, at, job_id, org_id, version, lease_seq))
        detail = _detail(held.attempt, lease_seq, result)
        events.append((job_id, version + 1, org_id, at, scope.actor, scope.source, detail))
    changed = on_driver(connection, _SUCCEED, scope, ends).rowcount
    on_driver(connection, _HISTORY, scope, events)
    return changed


def _held(connection: Connection, endings: Iterable[Ending], scope: Scope) -> Mapping[str, Row]:
    ids = json.dumps([vars(ending.job)["id"].hex for ending in endings])
    if isinstance(scope, Tenant):
        rows = on_driver(connection, _OF_TENANT, scope, [(ids, scope.org_id.hex)])
    else:
        rows = on_driver(connection, _ANYBODYS, scope, [(ids,)])
    return {row[0]: tuple(row) for row in rows}


def _detail(attempt: int, lease_seq: int, result: str | None) -> str:
    if result is None:  # as most are
        return f'{{"attempt":{attempt},"lease_seq":{lease_seq}}}'
    return trusted({"attempt": attempt, "lease_seq": lease_seq, **result_detail(result)})
