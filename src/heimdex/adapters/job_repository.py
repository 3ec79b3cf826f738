"""The job repository over SQLAlchemy, in statements that every database runs."""

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID

from attrs import fields_dict
from sqlalchemy import Insert, Select, Update, and_, exists, insert, select, tuple_, update
from sqlalchemy import bindparam as parameter
from sqlalchemy.orm import Session

from heimdex.adapters.claim_bounds import BoundsOfUnit
from heimdex.adapters.database import Database
from heimdex.adapters.job_verbs import Change, DecidingJobRepository, Located, Tools
from heimdex.adapters.orm import CLAIM_ORDER, event_table, job_table, refusal_table
from heimdex.adapters.reading import NEWEST_FIRST, NOT_PAUSED, limited, load, load_histories, load_jobs, matching
from heimdex.adapters.scoping import carrying, scoped
from heimdex.domain.errors import TransientDatabaseError
from heimdex.domain.events import JobEvent
from heimdex.domain.job import Hold, Job, as_kept
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.results import JobWithEvents, Refusal
from heimdex.domain.scope import Scope
from heimdex.domain.transitions import Status
from heimdex.service_layer.ports import MAX_LISTED

# What a job keeps from its creation on; every other column may be written by a verb.
FIXED = frozenset(
    {
        *["id", "org_id", "parent_id", "type", "queue", "priority", "payload_json", "idempotency_key", "fingerprint"],
        *["requested_by", "created_at", "max_attempts", "timeout"],
        *["backoff_policy", "backoff_base", "backoff_factor", "backoff_cap", "backoff_jitter"],
    }
)
MUTABLE = tuple(name for name in fields_dict(Job) if name not in FIXED)

# A statement of SQLite has at most 32,766 parameters.
_KEYS_AT_ONCE = 10_000

_EVENT_FIELDS = tuple(fields_dict(JobEvent))
_JOB_FIELDS = tuple(fields_dict(Job))
_COLUMNS = tuple(column.key for column in job_table.c)


def job_row(job: Job) -> dict[str, Any]:
    """Return a job as the parameters of an INSERT."""
    columns = vars(job)
    return {name: columns[name] for name in _JOB_FIELDS}


class SqlAlchemyJobRepository(DecidingJobRepository):
    def __init__(
        self, database: Database, session: Callable[[], Session], scope: Scope, tools: Tools, bounds: BoundsOfUnit
    ) -> None:
        super().__init__(scope, tools)
        self._database = database
        self._session = session
        self._bounds = bounds
        self.writes_once = False
        # How long the write took that was committed with itself.
        self.write_seconds = 0.0

    # Reading

    def find(self, job_id: UUID) -> Job | None:
        return next(iter(self._jobs(select(Job).where(job_table.c.id == job_id))), None)

    def find_many(self, job_ids: Collection[UUID]) -> dict[UUID, Job]:
        waiting = iter(job_ids)
        found: dict[UUID, Job] = {}
        while some := list(islice(waiting, _KEYS_AT_ONCE)):
            found |= {job.id: job for job in self._jobs(select(Job).where(job_table.c.id.in_(some)))}
        return found

    def exists(self, job_id: UUID) -> bool:
        inner = scoped(select(job_table.c.id).where(job_table.c.id == job_id), self._scope, job_table)
        return bool(self._session().scalar(carrying(select(exists(inner)), self._scope)))

    def with_events(self, job_id: UUID) -> JobWithEvents | None:
        # The job is joined to its first event only: its payload need not come once for each of them.
        first = and_(event_table.c.seq == 1, job_table.c.id == event_table.c.job_id)
        statement = (
            select(JobEvent, Job)
            .join_from(event_table, job_table, and_(first, job_table.c.org_id == event_table.c.org_id), isouter=True)
            .where(event_table.c.job_id == job_id)
            .order_by(event_table.c.seq)
        )
        session = self._session()
        rows = session.execute(scoped(statement, self._scope, event_table)).all()
        session.expunge_all()
        job = rows[0][1] if rows else None
        return None if job is None else JobWithEvents(job, tuple(event for event, _ in rows))

    def list_with_events(
        self, *, status: Status | None = None, type: str | None = None, limit: int = 100
    ) -> list[JobWithEvents]:
        statement = select(Job).order_by(*NEWEST_FIRST)
        if status is not None:
            statement = statement.where(job_table.c.status == status)
        if type is not None:
            statement = statement.where(job_table.c.type == type)
        jobs = self._jobs(limited(statement, limit))
        histories = load_histories(self._session(), [job.id for job in jobs], self._scope)
        return [JobWithEvents(job, histories[job.id]) for job in jobs]

    def latest_event(self, job_id: UUID) -> JobEvent | None:
        statement = select(JobEvent).where(event_table.c.job_id == job_id).order_by(event_table.c.seq.desc()).limit(1)
        return next(iter(load(self._session(), statement, self._scope, event_table)), None)

    def settled_event(self, job_id: UUID, seq: int) -> JobEvent | None:
        # In a statement of its own: the next one sees what was committed while this one waited.
        self._lock({job_id})
        statement = select(JobEvent).where(event_table.c.job_id == job_id, event_table.c.seq == seq)
        return next(iter(load(self._session(), statement, self._scope, event_table)), None)

    def queued(self, *, limit: int = 10, type: str | None = None) -> list[Job]:
        statement = select(Job).where(job_table.c.status == Status.QUEUED).order_by(*CLAIM_ORDER)
        if type is not None:
            statement = statement.where(job_table.c.type == type)
        return self._jobs(limited(statement, limit))

    def by_type_and_status(self, type: str, status: Status, *, limit: int = 100) -> list[Job]:
        statement = select(Job).where(job_table.c.type == type, job_table.c.status == status).order_by(*NEWEST_FIRST)
        return self._jobs(limited(statement, limit))

    def ids(self, status: Status, *, limit: int = MAX_LISTED) -> list[UUID]:
        statement = select(job_table.c.id).where(job_table.c.status == status).order_by(*NEWEST_FIRST)
        return list(self._session().scalars(scoped(limited(statement, limit), self._scope, job_table)))

    def cancel_requested(self, holds: Sequence[Hold]) -> frozenset[Hold]:
        columns = (job_table.c.id, job_table.c.lease_seq)
        held = tuple_(*columns).in_([(hold.job_id, hold.lease_seq) for hold in holds])
        statement = select(*columns).where(held, job_table.c.cancel_requested_at.is_not(None))
        rows = self._session().execute(scoped(statement, self._scope, job_table))
        return frozenset(Hold(job_id, lease_seq) for job_id, lease_seq in rows)

    # The primitives of the verbs

    def _now(self) -> datetime:
        return self._database.read_now(self._session())

    def _lock(self, job_ids: Collection[UUID]) -> Located:
        return self._located(select(Job).where(job_table.c.id.in_(job_ids)).order_by(job_table.c.id).with_for_update())

    def _lock_due(self, types: Collection[str], queues: Collection[str] | None, limit: int) -> Located:
        statement = (
            select(Job)
            .where(
                job_table.c.status == Status.QUEUED,
                job_table.c.scheduled_at <= self._database.now(),
                job_table.c.type.in_(types),
                *NOT_PAUSED,
            )
            .order_by(*CLAIM_ORDER)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        if queues is not None:
            statement = statement.where(job_table.c.queue.in_(queues))
        return self._located(statement)

    def _lock_matching(self, which: JobFilter, statuses: Collection[Status], after: UUID | None, limit: int) -> Located:
        statement = matching(select(Job), which, statuses).order_by(job_table.c.id).limit(limit).with_for_update()
        if after is not None:
            statement = statement.where(job_table.c.id > after)
        return self._located(statement)

    def _lock_expired(self, after: UUID | None, limit: int) -> Located:
        statement = (
            select(Job)
            .where(job_table.c.status == Status.RUNNING, job_table.c.lease_until <= self._database.now())
            .order_by(job_table.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        if after is not None:
            statement = statement.where(job_table.c.id > after)
        return self._located(statement)

    def _insert(self, changes: Sequence[Change]) -> Collection[UUID]:
        # In the order of keys, since an insert waits for another transaction's insert of the same key.
        in_order = sorted(changes, key=lambda change: change.job.idempotency_key or "")
        statement = self._database.insert_where_free().returning(job_table.c.id)
        rows = [job_row(change.job) for change in in_order]
        inserted = set(self._session().connection().scalars(carrying(statement, self._scope), rows))
        self._append(event for change in changes if change.job.id in inserted for event in change.events)
        return inserted

    def _with_keys(self, org_id: UUID, keys: Collection[str]) -> dict[str, Job]:
        ours = select(Job).where(job_table.c.org_id == org_id)
        waiting = iter(keys)
        found: dict[str, Job] = {}
        while some := list(islice(waiting, _KEYS_AT_ONCE)):
            jobs = self._jobs(ours.where(job_table.c.idempotency_key.in_(some)))
            found |= {job.idempotency_key: job for job in jobs if job.idempotency_key is not None}
        return found

    def _write(self, changes: Sequence[Change]) -> None:
        if not changes:
            return
        statement = (
            update(job_table)
            .where(
                job_table.c.id == parameter("job_id"),
                job_table.c.version == parameter("version_before"),
                job_table.c.lease_seq.is_not_distinct_from(parameter("lease_seq_before")),
            )
            .values({name: parameter(f"new_{name}") for name in MUTABLE})
        )
        rows = [
            {f"new_{name}": columns[name] for name in MUTABLE}
            | {
                "job_id": change.job.id,
                "version_before": change.version_before,
                "lease_seq_before": change.lease_seq_before,
            }
            for change, columns in ((change, vars(change.job)) for change in changes)
        ]
        self._expect(len(rows), self._run(scoped(statement, self._scope, job_table), rows))
        self._append(event for change in changes for event in change.events)

    def _refuse(self, refusals: Sequence[tuple[UUID, Refusal, Job]]) -> None:
        now = self._now()
        rows = [
            {
                "id": refusal_id,
                "job_id": job.id,
                "org_id": job.org_id,
                "ts": now,
                "lease_seq": refusal.lease_seq,
                "version": job.version,
                "trigger": refusal.trigger,
                "actor": self._scope.actor,
                "source": self._scope.source,
            }
            for refusal_id, refusal, job in refusals
        ]
        self._run(insert(refusal_table), rows)

    def _renew(self, holds: Sequence[Hold], lease: timedelta) -> frozenset[Hold]:
        pairs = [(hold.job_id, hold.lease_seq) for hold in holds]
        held = tuple_(job_table.c.id, job_table.c.lease_seq).in_(pairs)
        # Rows are locked in the order of ids first, as every write of several rows does, so that none deadlocks.
        in_order = select(job_table.c.id).where(held).order_by(job_table.c.id).with_for_update()
        locked = list(self._session().scalars(scoped(in_order, self._scope, job_table)))
        statement = (
            update(job_table)
            .where(held, job_table.c.id.in_(locked))
            .values(lease_until=self._database.later(lease))
            .returning(job_table.c.id, job_table.c.lease_seq)
            .execution_options(synchronize_session=False)
        )
        rows = self._session().execute(scoped(statement, self._scope, job_table))
        return frozenset(Hold(job_id, lease_seq) for job_id, lease_seq in rows)

    def _all_or_nothing(self) -> AbstractContextManager[object]:
        return self._session().connection().begin_nested()

    # Statements

    def _run(self, statement: Insert | Update, rows: list[dict[str, Any]]) -> int:
        """Run one statement for many rows on the session's connection; return how many it changed."""
        return self._session().connection().execute(carrying(statement, self._scope), rows).rowcount

    def _append(self, events: Iterable[JobEvent]) -> None:
        rows = [{name: columns[name] for name in _EVENT_FIELDS} for columns in map(vars, events)]
        if rows:
            self._run(insert(event_table), rows)

    def _jobs(self, statement: Select[Job]) -> list[Job]:
        return load_jobs(self._session(), statement, self._scope)

    def _located(self, statement: Select[Job]) -> Located:
        # Columns and not entities, which take the mapping twice as long to load.
        columns = statement.with_only_columns(self._database.now(), *job_table.c)
        rows = self._session().execute(scoped(columns, self._scope, job_table)).all()
        jobs = [as_kept(dict(zip(_COLUMNS, row[1:], strict=True))) for row in rows]
        return rows[0][0] if rows else self._now(), {job.id: job for job in jobs}

    def _expect(self, wanted: int, changed: int) -> None:
        if changed != wanted:
            raise TransientDatabaseError(f"{wanted - changed} of {wanted} rows moved while they were locked")
