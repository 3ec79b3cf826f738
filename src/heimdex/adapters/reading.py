"""Loading rows as detached values, the same for repositories and views."""

from collections.abc import Collection, Iterable, Mapping
from itertools import groupby
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Select, Table, Uuid, and_, literal, or_, select
from sqlalchemy.orm import Session

from heimdex.adapters.orm import EVERY_ORGANISATION, asset_table, event_table, job_table, pause_table
from heimdex.adapters.payload_search import has
from heimdex.adapters.scoping import scoped
from heimdex.domain.asset import Asset
from heimdex.domain.events import JobEvent
from heimdex.domain.job import Job
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.rules import check_whole
from heimdex.domain.scope import Scope
from heimdex.domain.transitions import Status
from heimdex.service_layer.ports import MAX_FOLLOWED, MAX_LISTED

Row = TypeVar("Row")

NEWEST_FIRST = (job_table.c.created_at.desc(), job_table.c.id.desc())

# Nothing pauses the queue of a job, neither for its organisation nor for everybody.
NOT_PAUSED = (
    job_table.c.queue.not_in(select(pause_table.c.queue).where(pause_table.c.org_id == job_table.c.org_id)),
    job_table.c.queue.not_in(
        select(pause_table.c.queue).where(pause_table.c.org_id == literal(EVERY_ORGANISATION, Uuid))
    ),
)


def load(session: Session, statement: Select[Row], scope: Scope, table: Table) -> list[Row]:
    """Return mapped rows as copies: a session that forgot them cannot write what is done to them."""
    rows = list(session.scalars(scoped(statement, scope, table)))
    session.expunge_all()
    return rows


def load_jobs(session: Session, statement: Select[Job], scope: Scope) -> list[Job]:
    return load(session, statement, scope, job_table)


def load_histories(session: Session, job_ids: Collection[UUID], scope: Scope) -> Mapping[UUID, tuple[JobEvent, ...]]:
    """Return each job's events in the order of `seq`, in one statement; an unknown id has none."""
    check_whole("number of job ids", len(job_ids), 0, MAX_LISTED)
    statement = (
        select(JobEvent).where(event_table.c.job_id.in_(job_ids)).order_by(event_table.c.job_id, event_table.c.seq)
    )
    return by_job(load(session, statement, scope, event_table), job_ids)


def load_events_after(
    session: Session, seen: Mapping[UUID, int], limit: int, scope: Scope
) -> Mapping[UUID, tuple[JobEvent, ...]]:
    """Return of each job the events above a `seq`, in one statement that looks each job up by the primary key."""
    check_whole("number of job ids", len(seen), 0, MAX_FOLLOWED)
    check_whole("limit", limit, 1, MAX_LISTED)
    if not seen:
        return {}
    columns = event_table.c
    following = or_(*(and_(columns.job_id == job_id, columns.seq > seq) for job_id, seq in seen.items()))
    statement = select(JobEvent).where(following).order_by(columns.job_id, columns.seq).limit(limit)
    return by_job(load(session, statement, scope, event_table), seen)


def load_assets(session: Session, job_ids: Collection[UUID], scope: Scope) -> Mapping[UUID, tuple[Asset, ...]]:
    """Return each job's assets in the order of their uris, in one statement."""
    check_whole("number of job ids", len(job_ids), 0, MAX_LISTED)
    assets = load(session, select(Asset).where(asset_table.c.job_id.in_(job_ids)), scope, asset_table)
    # Sorted here: how a database orders text depends on its collation.
    return by_job(sorted(assets, key=lambda asset: (asset.job_id, asset.uri)), job_ids)


def by_job(rows: Iterable[Any], job_ids: Iterable[UUID]) -> dict[UUID, tuple[Any, ...]]:
    """Group rows that are sorted by `job_id`."""
    found = {job_id: tuple(group) for job_id, group in groupby(rows, key=lambda row: row.job_id)}
    return {job_id: found.get(job_id, ()) for job_id in job_ids}


def matching(statement: Select[Row], which: JobFilter, statuses: Collection[Status] | None = None) -> Select[Row]:
    """Return the statement for the jobs among `which`, in one of `statuses` where these are given."""
    columns = job_table.c
    for column in (columns.status, columns.type, columns.queue, columns.requested_by, columns.parent_id):
        wanted: object = getattr(which, column.key)
        if wanted is not None:
            statement = statement.where(column == wanted)
    if which.created_from is not None:
        statement = statement.where(columns.created_at >= which.created_from)
    if which.created_before is not None:
        statement = statement.where(columns.created_at < which.created_before)
    if which.payload is not None:
        statement = statement.where(has(which.payload))
    return statement if statuses is None else statement.where(job_table.c.status.in_(sorted(statuses)))


def limited(statement: Select[Row], limit: int) -> Select[Row]:
    return statement.limit(check_whole("limit", limit, 0, MAX_LISTED))
