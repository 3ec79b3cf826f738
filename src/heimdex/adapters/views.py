"""Read-only questions over SQLAlchemy."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from uuid import UUID

from sqlalchemy import func, literal, select, tuple_
from sqlalchemy.orm import Session

from heimdex.adapters.database import Database
from heimdex.adapters.ledger_pages import LedgerPages
from heimdex.adapters.orm import (
    EVERY_ORGANISATION,
    erasure_table,
    event_table,
    job_table,
    pause_table,
    refusal_table,
    worker_table,
)
from heimdex.adapters.reading import (
    NOT_PAUSED,
    limited,
    load_assets,
    load_events_after,
    load_histories,
    load_jobs,
    matching,
)
from heimdex.adapters.scoping import carrying, scoped
from heimdex.domain.asset import Asset
from heimdex.domain.errors import JobNotFound, UnitOfWorkNotOpen
from heimdex.domain.events import JobEvent
from heimdex.domain.job import Job
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.operations import Erasure, PausedQueue, QueueCounts, Removed, queue_counts
from heimdex.domain.rules import check_whole
from heimdex.domain.scope import Scope, System, Tenant
from heimdex.domain.transitions import Status
from heimdex.domain.waiting import MOST_AHEAD, Blocker, Surroundings, blockers, blockers_of_other, queued_by
from heimdex.domain.worker import WorkerRecord
from heimdex.service_layer.ports import MAX_LISTED, WORKER_ALIVE_FOR, Page, Recorded, Statistics, Views


@contextmanager
def open_views(database: Database, scope: Scope) -> Iterator[Views]:
    """Give views of a scope, usable inside the block."""
    views = SqlAlchemyViews(database, scope)
    try:
        yield views
    finally:
        views.close()


class SqlAlchemyViews(Views):
    """Each question is a transaction of its own, so that none is open while the caller thinks about the answer."""

    def __init__(self, database: Database, scope: Scope) -> None:
        self._database = database
        self._scope = scope
        self._closed = False

    def close(self) -> None:
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise UnitOfWorkNotOpen

    @contextmanager
    def _asking(self) -> Iterator[Session]:
        self._check_open()
        with self._database.reading(self._scope) as session:
            yield session

    def statistics(self) -> Statistics:
        statement = select(job_table.c.type, job_table.c.status, func.count()).group_by(
            job_table.c.type, job_table.c.status
        )
        by_status = dict.fromkeys(Status, 0)
        by_type: dict[str, dict[Status, int]] = {}
        with self._asking() as session:
            counts = session.execute(scoped(statement, self._scope, job_table)).all()
        for job_type, status, count in counts:
            by_status[status] += count
            by_type.setdefault(job_type, {})[status] = count
        queued = {job_type for job_type, of_type in by_type.items() if of_type.get(Status.QUEUED)}
        served = {name for worker in self._living_workers() for name in worker.types} if queued else set()
        return Statistics(by_status=by_status, by_type=by_type, unserved_types=tuple(sorted(queued - served)))

    def page(self, which: JobFilter, *, after: UUID | None = None, limit: int = 100) -> Page:
        check_whole("limit", limit, 1, MAX_LISTED - 1)
        statement = matching(select(Job), which).order_by(job_table.c.id.desc()).limit(limit + 1)
        if after is not None:
            statement = statement.where(job_table.c.id < after)
        with self._asking() as session:
            jobs = load_jobs(session, statement, self._scope)
        shown = tuple(jobs[:limit])
        return Page(shown, shown[-1].id if len(jobs) > limit else None)

    def count(self, which: JobFilter, statuses: Collection[Status] = tuple(Status)) -> int:
        statement = matching(select(func.count(job_table.c.id)), which, statuses)
        with self._asking() as session:
            return session.scalar(scoped(statement, self._scope, job_table)) or 0

    def queues(self) -> tuple[QueueCounts, ...]:
        active = (Status.QUEUED, Status.RUNNING)
        statement = matching(select(job_table.c.queue, job_table.c.status, func.count()), JobFilter(), active)
        statement = statement.group_by(job_table.c.queue, job_table.c.status)
        with self._asking() as session:
            rows = session.execute(scoped(statement, self._scope, job_table)).all()
        return queue_counts({(queue, status): count for queue, status, count in rows}, self._pauses())

    def explain_waiting(self, job_id: UUID) -> tuple[Blocker, ...]:
        job = self.find(job_id)
        if job is None:
            raise JobNotFound(job_id)
        if job.status is not Status.QUEUED:
            return blockers_of_other(job)
        with self._asking() as session:
            now = self._database.read_now(session)
        surroundings = Surroundings(
            now=now,
            queued_by=queued_by(self.history(job_id)),
            paused=tuple(pause for pause in self._pauses() if pause.holds(job)),
            workers=sum(worker.serves(job) for worker in self._living_workers()),
            ahead=self._ahead_of(job),
        )
        return blockers(job, surroundings)

    def _ahead_of(self, job: Job) -> int:
        columns = job_table.c
        before = tuple_(-columns.priority, columns.scheduled_at, columns.id) < tuple_(
            literal(-job.priority),
            literal(job.scheduled_at, columns.scheduled_at.type),
            literal(job.id, columns.id.type),
        )
        ahead = (
            select(columns.id)
            .where(columns.status == Status.QUEUED, columns.scheduled_at <= self._database.now(), before)
            .where(columns.queue == job.queue, *NOT_PAUSED)
            .limit(MOST_AHEAD)
        )
        counted = select(func.count()).select_from(scoped(ahead, self._scope, job_table).subquery())
        with self._asking() as session:
            return session.scalar(carrying(counted, self._scope)) or 0

    def erasures(self) -> tuple[Erasure, ...]:
        if not isinstance(self._scope, System):
            return ()
        statement = select(erasure_table).order_by(erasure_table.c.erased_at.desc(), erasure_table.c.id)
        with self._asking() as session:
            rows = session.execute(carrying(statement, self._scope)).mappings().all()
        return tuple(
            Erasure(
                **{name: row[name] for name in ("id", "org_id", "actor", "reason", "erased_at")},
                removed=Removed(**{name: row[name] for name in ("jobs", "events", "refusals", "assets")}),
            )
            for row in rows
        )

    def _pauses(self) -> list[PausedQueue]:
        """Return the pauses for everybody and those that this scope may see, by queue."""
        statement = select(pause_table).order_by(pause_table.c.queue, pause_table.c.org_id)
        if isinstance(self._scope, Tenant):
            statement = statement.where(pause_table.c.org_id.in_([EVERY_ORGANISATION, self._scope.org_id]))
        # What is paused for everybody belongs to nobody, so this is asked as the system.
        asking = System(actor=self._scope.actor, reason="which queues are paused")
        with self._asking() as session:
            rows = session.execute(carrying(statement, asking)).mappings().all()
        return [
            PausedQueue(**(dict(row) | {"org_id": None if row["org_id"] == EVERY_ORGANISATION else row["org_id"]}))
            for row in rows
        ]

    def find(self, job_id: UUID) -> Job | None:
        with self._asking() as session:
            return next(iter(load_jobs(session, select(Job).where(job_table.c.id == job_id), self._scope)), None)

    def history(self, job_id: UUID) -> tuple[JobEvent, ...]:
        return self.histories([job_id])[job_id]

    def histories(self, job_ids: Collection[UUID]) -> Mapping[UUID, tuple[JobEvent, ...]]:
        with self._asking() as session:
            return load_histories(session, job_ids, self._scope)

    def events_after(self, seen: Mapping[UUID, int], *, limit: int = MAX_LISTED) -> Mapping[UUID, tuple[JobEvent, ...]]:
        with self._asking() as session:
            return load_events_after(session, seen, limit, self._scope)

    def history_ids(self, *, after: UUID | None = None, limit: int = MAX_LISTED) -> list[UUID]:
        # Every history begins with event 1, so that no DISTINCT over all events is needed.
        statement = select(event_table.c.job_id).where(event_table.c.seq == 1).order_by(event_table.c.job_id)
        if after is not None:
            statement = statement.where(event_table.c.job_id > after)
        with self._asking() as session:
            return list(session.scalars(scoped(limited(statement, limit), self._scope, event_table)))

    def ledger(self, *, after: UUID | None = None) -> Iterator[Recorded]:
        for recorded in LedgerPages(self._database, self._scope).read(after):
            self._check_open()
            yield recorded

    def assets(self, job_ids: Collection[UUID]) -> Mapping[UUID, tuple[Asset, ...]]:
        with self._asking() as session:
            return load_assets(session, job_ids, self._scope)

    def refusals(self, job_id: UUID) -> int:
        statement = select(func.count()).select_from(refusal_table).where(refusal_table.c.job_id == job_id)
        with self._asking() as session:
            return session.scalar(scoped(statement, self._scope, refusal_table)) or 0

    def workers(self) -> tuple[WorkerRecord, ...]:
        self._check_open()
        if not isinstance(self._scope, System):
            return ()
        statement = select(WorkerRecord).order_by(worker_table.c.seen_at.desc(), worker_table.c.id)
        with self._asking() as session:
            return tuple(session.scalars(carrying(statement.limit(MAX_LISTED), self._scope)))

    def _living_workers(self) -> list[WorkerRecord]:
        """Return the workers that are alive. They belong to nobody, so this is asked as the system."""
        asking = System(actor=self._scope.actor, reason="which workers are alive")
        alive = worker_table.c.seen_at > self._database.later(-WORKER_ALIVE_FOR)
        with self._asking() as session:
            return list(session.scalars(carrying(select(WorkerRecord).where(alive), asking)))
