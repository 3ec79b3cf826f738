"""Read-only questions over SQLAlchemy."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from uuid import UUID

from attrs import asdict
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from heimdex.adapters.database import Database
from heimdex.adapters.orm import event_table, job_table, refusal_table, worker_table
from heimdex.adapters.reading import limited, load_assets, load_histories, load_jobs
from heimdex.adapters.scoping import carrying, scoped
from heimdex.domain.asset import Asset
from heimdex.domain.errors import UnitOfWorkNotOpen
from heimdex.domain.events import JobEvent
from heimdex.domain.job import Job
from heimdex.domain.rules import check_whole
from heimdex.domain.scope import Scope, System
from heimdex.domain.transitions import Status
from heimdex.domain.worker import WorkerRecord
from heimdex.service_layer.ports import MAX_LISTED, WORKER_ALIVE_FOR, JobFilter, Page, Statistics, Views


@contextmanager
def open_views(database: Database, scope: Scope) -> Iterator[Views]:
    """Give views of a scope, usable inside the block."""
    with database.reading() as session:
        views = SqlAlchemyViews(database, session, scope)
        try:
            yield views
        finally:
            views.close()


class SqlAlchemyViews(Views):
    def __init__(self, database: Database, session: Session, scope: Scope) -> None:
        self._database = database
        self._open: Session | None = session
        self._scope = scope

    def close(self) -> None:
        self._open = None

    @property
    def _session(self) -> Session:
        if self._open is None:
            raise UnitOfWorkNotOpen
        return self._open

    def statistics(self) -> Statistics:
        statement = select(job_table.c.type, job_table.c.status, func.count()).group_by(
            job_table.c.type, job_table.c.status
        )
        by_status = dict.fromkeys(Status, 0)
        by_type: dict[str, dict[Status, int]] = {}
        for job_type, status, count in self._session.execute(scoped(statement, self._scope, job_table)):
            by_status[status] += count
            by_type.setdefault(job_type, {})[status] = count
        queued = {job_type for job_type, counts in by_type.items() if counts.get(Status.QUEUED)}
        unserved = tuple(sorted(queued - self._served_types())) if queued else ()
        return Statistics(by_status=by_status, by_type=by_type, unserved_types=unserved)

    def page(self, which: JobFilter, *, after: UUID | None = None, limit: int = 100) -> Page:
        check_whole("limit", limit, 1, MAX_LISTED - 1)
        statement = select(Job).order_by(job_table.c.id.desc()).limit(limit + 1)
        for name, value in asdict(which).items():
            if value is not None:
                statement = statement.where(job_table.c[name] == value)
        if after is not None:
            statement = statement.where(job_table.c.id < after)
        jobs = load_jobs(self._session, statement, self._scope)
        shown = tuple(jobs[:limit])
        return Page(shown, shown[-1].id if len(jobs) > limit else None)

    def find(self, job_id: UUID) -> Job | None:
        return next(iter(load_jobs(self._session, select(Job).where(job_table.c.id == job_id), self._scope)), None)

    def history(self, job_id: UUID) -> tuple[JobEvent, ...]:
        return self.histories([job_id])[job_id]

    def histories(self, job_ids: Collection[UUID]) -> Mapping[UUID, tuple[JobEvent, ...]]:
        return load_histories(self._session, job_ids, self._scope)

    def history_ids(self, *, after: UUID | None = None, limit: int = MAX_LISTED) -> list[UUID]:
        # Every history begins with event 1, so that no DISTINCT over all events is needed.
        statement = select(event_table.c.job_id).where(event_table.c.seq == 1).order_by(event_table.c.job_id)
        if after is not None:
            statement = statement.where(event_table.c.job_id > after)
        return list(self._session.scalars(scoped(limited(statement, limit), self._scope, event_table)))

    def assets(self, job_ids: Collection[UUID]) -> Mapping[UUID, tuple[Asset, ...]]:
        return load_assets(self._session, job_ids, self._scope)

    def refusals(self, job_id: UUID) -> int:
        statement = select(func.count()).select_from(refusal_table).where(refusal_table.c.job_id == job_id)
        return self._session.scalar(scoped(statement, self._scope, refusal_table)) or 0

    def workers(self) -> tuple[WorkerRecord, ...]:
        session = self._session
        if not isinstance(self._scope, System):
            return ()
        statement = select(WorkerRecord).order_by(worker_table.c.seen_at.desc(), worker_table.c.id)
        workers = tuple(session.scalars(carrying(statement, self._scope)))
        session.expunge_all()
        return workers

    def _served_types(self) -> frozenset[str]:
        """Return the types that a living worker claims. Workers belong to nobody, so this is asked as the system."""
        asking = System(actor=self._scope.actor, reason="which types have a worker")
        statement = select(worker_table.c.types).where(worker_table.c.seen_at > self._database.later(-WORKER_ALIVE_FOR))
        return frozenset(name for names in self._session.scalars(carrying(statement, asking)) for name in names)
