"""Pauses and deletions over SQLAlchemy."""

from collections.abc import Callable, Sequence
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Uuid, column, delete, func, insert, or_, select, update
from sqlalchemy import bindparam as parameter
from sqlalchemy.orm import Session

from heimdex.adapters.database import Database
from heimdex.adapters.orm import (
    EVERY_ORGANISATION,
    asset_table,
    erasure_table,
    event_table,
    job_table,
    pause_table,
    pruning_table,
    refusal_table,
)
from heimdex.adapters.scoping import carrying
from heimdex.domain.operations import Removed, Retention
from heimdex.domain.rules import MAX_REASON, check_text, check_uuid, check_whole
from heimdex.domain.scope import Scope, Tenant
from heimdex.service_layer.ports import MAX_LISTED, MaintenanceRepository, QueueRepository

# The one road through the triggers of PostgreSQL; it runs as the owner of the tables.
_REMOVE_HISTORIES = select(column("events", BigInteger), column("refusals", BigInteger)).select_from(
    func.heimdex_remove_histories(parameter("job_ids", type_=ARRAY(Uuid)))
)


class SqlAlchemyQueueRepository(QueueRepository):
    def __init__(
        self,
        database: Database,
        session: Callable[[], Session],
        scope: Scope,
        wake: Callable[[str], None],
        resumed: Callable[[], None],
    ) -> None:
        self._database = database
        self._session = session
        self._scope = scope
        self._wake = wake
        self._resumed = resumed
        self._org_id = scope.org_id if isinstance(scope, Tenant) else EVERY_ORGANISATION

    def pause(self, queue: str, *, reason: str) -> None:
        check_text("queue", queue)
        values = {
            "actor": self._scope.actor,
            "reason": check_text("reason", reason, MAX_REASON),
            "paused_at": self._database.read_now(self._session()),
        }
        connection = self._session().connection()
        again = update(pause_table).where(pause_table.c.org_id == self._org_id, pause_table.c.queue == queue)
        if not connection.execute(carrying(again.values(values), self._scope)).rowcount:
            first = insert(pause_table).values(org_id=self._org_id, queue=queue, **values)
            connection.execute(carrying(first, self._scope))

    def resume(self, queue: str) -> bool:
        check_text("queue", queue)
        statement = delete(pause_table).where(pause_table.c.org_id == self._org_id, pause_table.c.queue == queue)
        was_paused = bool(self._session().connection().execute(carrying(statement, self._scope)).rowcount)
        if was_paused:
            self._resumed()
            self._wake(queue)
        return was_paused


class SqlAlchemyMaintenanceRepository(MaintenanceRepository):
    def __init__(self, database: Database, session: Callable[[], Session], scope: Scope) -> None:
        self._database = database
        self._session = session
        self._scope = scope

    def prune_jobs(self, retention: Retention, *, limit: int) -> Removed:
        ended = (
            select(job_table.c.id)
            .where(
                job_table.c.finished_at <= self._database.later(-retention.jobs),
                or_(
                    job_table.c.idempotency_key.is_(None),
                    job_table.c.created_at <= self._database.later(-retention.keys),
                ),
            )
            .order_by(job_table.c.finished_at, job_table.c.id)
            .limit(check_whole("limit", limit, 0, MAX_LISTED))
            .with_for_update(skip_locked=True)
        )
        return self._remove_jobs(list(self._session().scalars(carrying(ended, self._scope))))

    def prune_histories(self, retention: Retention, *, limit: int) -> Removed:
        later = event_table.alias()
        last = select(func.max(later.c.ts)).where(later.c.job_id == event_table.c.job_id).scalar_subquery()
        has_job = select(job_table.c.id).where(job_table.c.id == event_table.c.job_id).exists()
        before = self._database.later(-retention.histories)
        old = (
            select(event_table.c.job_id)
            .where(event_table.c.seq == 1, event_table.c.ts <= before, ~has_job, last <= before)
            .order_by(event_table.c.job_id)
            .limit(check_whole("limit", limit, 0, MAX_LISTED))
        )
        return self._remove_histories(list(self._session().scalars(carrying(old, self._scope))))

    def erase(self, erasure_id: UUID, org_id: UUID, *, reason: str, limit: int) -> Removed:
        check_whole("limit", limit, 1, MAX_LISTED)
        check_text("reason", reason, MAX_REASON)
        org_id = check_uuid("org_id", org_id)
        jobs = select(job_table.c.id).where(job_table.c.org_id == org_id).order_by(job_table.c.id).limit(limit)
        removed = self._remove_jobs(list(self._session().scalars(carrying(jobs.with_for_update(), self._scope))))
        has_job = select(job_table.c.id).where(job_table.c.id == event_table.c.job_id).exists()
        histories = (
            select(event_table.c.job_id)
            .where(event_table.c.seq == 1, event_table.c.org_id == org_id, ~has_job)
            .order_by(event_table.c.job_id)
            .limit(limit)
        )
        removed.add(self._remove_histories(list(self._session().scalars(carrying(histories, self._scope)))))
        connection = self._session().connection()
        connection.execute(carrying(delete(pause_table).where(pause_table.c.org_id == org_id), self._scope))
        self._record(erasure_id, org_id, reason, removed)
        return removed

    def _record(self, erasure_id: UUID, org_id: UUID, reason: str, removed: Removed) -> None:
        connection = self._session().connection()
        now = self._database.read_now(self._session())
        counts = {
            "jobs": removed.jobs,
            "events": removed.events,
            "refusals": removed.refusals,
            "assets": removed.assets,
        }
        again = (
            update(erasure_table)
            .where(erasure_table.c.id == erasure_id)
            .values({name: erasure_table.c[name] + count for name, count in counts.items()} | {"erased_at": now})
        )
        if not connection.execute(carrying(again, self._scope)).rowcount:
            first = insert(erasure_table).values(
                id=erasure_id, org_id=org_id, actor=self._scope.actor, reason=reason, erased_at=now, **counts
            )
            connection.execute(carrying(first, self._scope))

    def _remove_jobs(self, ids: Sequence[UUID]) -> Removed:
        if not ids:
            return Removed()
        connection = self._session().connection()
        assets = delete(asset_table).where(asset_table.c.job_id.in_(ids))
        jobs = delete(job_table).where(job_table.c.id.in_(ids))
        return Removed(
            assets=connection.execute(carrying(assets, self._scope)).rowcount,
            jobs=connection.execute(carrying(jobs, self._scope)).rowcount,
        )

    def _remove_histories(self, ids: Sequence[UUID]) -> Removed:
        if not ids:
            return Removed()
        session = self._session()
        if session.get_bind().dialect.name == "postgresql":
            row = session.execute(carrying(_REMOVE_HISTORIES, self._scope), {"job_ids": ids}).one()
            return Removed(events=row.events, refusals=row.refusals)
        return self._remove_histories_by_marker(ids)

    def _remove_histories_by_marker(self, ids: Sequence[UUID]) -> Removed:
        """Open the road through SQLite's triggers by a row that nobody else ever sees."""
        connection = self._session().connection()
        connection.execute(carrying(insert(pruning_table).values(id=1), self._scope))
        removed = Removed(
            events=connection.execute(
                carrying(delete(event_table).where(event_table.c.job_id.in_(ids)), self._scope)
            ).rowcount,
            refusals=connection.execute(
                carrying(delete(refusal_table).where(refusal_table.c.job_id.in_(ids)), self._scope)
            ).rowcount,
        )
        connection.execute(carrying(delete(pruning_table), self._scope))
        return removed
