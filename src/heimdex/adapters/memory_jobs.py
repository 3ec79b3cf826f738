"""The job repository in memory. It decides nothing: it finds rows, locks them and keeps what the verbs make of them."""

from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from heapq import merge
from itertools import chain
from uuid import UUID

from attrs import evolve

from heimdex.adapters.job_verbs import Change, DecidingJobRepository, Located, Tools
from heimdex.adapters.memory_store import MemoryStore, Rows, copies, newest, place
from heimdex.domain.errors import TransientDatabaseError
from heimdex.domain.events import JobEvent
from heimdex.domain.job import Hold, Job
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.results import JobWithEvents, Refusal
from heimdex.domain.rules import check_whole
from heimdex.domain.scope import Scope, Tenant
from heimdex.domain.transitions import Status
from heimdex.service_layer.ports import MAX_LISTED


def visible(scope: Scope, org_id: UUID) -> bool:
    return not isinstance(scope, Tenant) or scope.org_id == org_id


class MemoryJobRepository(DecidingJobRepository):
    """`writes` gives the write set of the open unit of work, and `owner` is who its locks belong to."""

    def __init__(
        self, store: MemoryStore, writes: Callable[[], Rows], owner: object, scope: Scope, tools: Tools
    ) -> None:
        super().__init__(scope, tools)
        self._store = store
        self._writes = writes
        self._owner = owner

    def find(self, job_id: UUID) -> Job | None:
        job = self._row(job_id)
        return None if job is None else evolve(job)

    def find_many(self, job_ids: Collection[UUID]) -> dict[UUID, Job]:
        found = map(self.find, job_ids)
        return {job.id: job for job in found if job is not None}

    def exists(self, job_id: UUID) -> bool:
        return self._row(job_id) is not None

    def with_events(self, job_id: UUID) -> JobWithEvents | None:
        job = self.find(job_id)
        return None if job is None else JobWithEvents(job, self._history(job_id))

    def list_with_events(
        self, *, status: Status | None = None, type: str | None = None, limit: int = 100
    ) -> list[JobWithEvents]:
        jobs = self._newest(lambda job: status in {None, job.status} and type in {None, job.type}, limit)
        return [JobWithEvents(job, self._history(job.id)) for job in jobs]

    def latest_event(self, job_id: UUID) -> JobEvent | None:
        events = self._history(job_id)
        return events[-1] if events and visible(self._scope, events[-1].org_id) else None

    def settled_event(self, job_id: UUID, seq: int) -> JobEvent | None:
        self._lock({job_id})
        found = (event for event in self._history(job_id) if event.seq == seq and visible(self._scope, event.org_id))
        return next(found, None)

    def queued(self, *, limit: int = 10, type: str | None = None) -> list[Job]:
        check_whole("limit", limit, 0, MAX_LISTED)
        with self._store.reading():
            found = self._first(self._queued_places(), lambda job: type in {None, job.type}, limit)
            return [job for job in map(self.find, found) if job is not None]

    def by_type_and_status(self, type: str, status: Status, *, limit: int = 100) -> list[Job]:
        return self._newest(lambda job: job.type == type and job.status is status, limit)

    def ids(self, status: Status, *, limit: int = MAX_LISTED) -> list[UUID]:
        return [job.id for job in self._newest(lambda job: job.status is status, limit)]

    def _now(self) -> datetime:
        self._writes()
        return self._store.clock.now()

    def _lock(self, job_ids: Collection[UUID]) -> Located:
        ids = sorted(job_id for job_id in job_ids if self._row(job_id) is not None)
        self._store.lock(self._owner, ids)
        rows = [row for row in map(self._row, ids) if row is not None]
        return self._now(), {job.id: job for job in copies(rows)}

    def _lock_due(self, types: Collection[str], queues: Collection[str] | None, limit: int) -> Located:
        now = self._now()

        pauses = self._pauses()

        def due(job: Job) -> bool:
            return (
                job.status is Status.QUEUED
                and job.scheduled_at <= now
                and job.type in types
                and (queues is None or job.queue in queues)
                and pauses.isdisjoint({(None, job.queue), (job.org_id, job.queue)})
            )

        with self._store.reading():
            candidates = self._first(self._queued_places(), due, limit + self._store.locked_things())
        return now, self._lock_free(candidates, due, limit)

    def _pauses(self) -> set[tuple[UUID | None, str]]:
        with self._store.reading() as rows:
            pauses = {**rows.pauses, **self._writes().pauses}
        return {place for place, pause in pauses.items() if pause is not None}

    def _lock_matching(self, which: JobFilter, statuses: Collection[Status], after: UUID | None, limit: int) -> Located:
        def wanted(job: Job) -> bool:
            return job.status in statuses and which.accepts(job) and (after is None or job.id > after)

        found = sorted(job.id for job in self._visible(wanted))[:limit]
        now, jobs = self._lock(found)
        return now, {job_id: job for job_id, job in jobs.items() if wanted(job)}

    def _lock_expired(self, after: UUID | None, limit: int) -> Located:
        now = self._now()

        def expired(job: Job) -> bool:
            return job.lease_until is not None and job.lease_until <= now

        with self._store.reading():
            running = sorted(
                job_id for job_id in self._store.running | self._writes().jobs.keys() if after is None or job_id > after
            )
            candidates = self._first(iter(running), expired, limit + self._store.locked_things())
        return now, self._lock_free(candidates, expired, limit)

    def _lock_free(self, candidates: Sequence[UUID], wanted: Callable[[Job], bool], limit: int) -> dict[UUID, Job]:
        """Lock the candidates that are free and, looked at again under the lock, still wanted."""
        self._store.between()
        found: dict[UUID, Job] = {}
        for job_id in candidates:
            if len(found) == limit:
                break
            if self._store.try_lock(self._owner, job_id):
                job = self._row(job_id)
                if job is not None and wanted(job):
                    found[job_id] = evolve(job)
        return found

    def _first(self, ids: Iterator[UUID], wanted: Callable[[Job], bool], limit: int) -> list[UUID]:
        found: list[UUID] = []
        while len(found) < limit and (job_id := next(ids, None)) is not None:
            job = self._row(job_id)
            if job is not None and wanted(job):
                found.append(job_id)
        return found

    def _queued_places(self) -> Iterator[UUID]:
        """Yield queued jobs in claim order: the committed ones that this unit of work has not touched, and its own."""
        mine = self._writes().jobs
        touched = mine.keys() | self._writes().gone_jobs
        committed = (spot for spot in self._store.queued if spot[2] not in touched)
        own = sorted(place(job) for job in mine.values() if job.status is Status.QUEUED)
        return (job_id for _, _, job_id in merge(committed, own))

    def _insert(self, changes: Sequence[Change]) -> Collection[UUID]:
        keys: set[Hashable] = {_key(change.job) for change in changes if change.job.idempotency_key is not None}
        self._store.lock(self._owner, sorted(keys, key=str))
        inserted: set[UUID] = set()
        for change in changes:
            if not self._is_taken(change.job):
                self._writes().change([change])
                inserted.add(change.job.id)
        return inserted

    def _is_taken(self, job: Job) -> bool:
        """Return whether some job, of whatever organisation, has this id, or one of this organisation its key."""
        with self._store.reading() as rows:
            same_id = job.id in rows.jobs or job.id in self._writes().jobs
        key = job.idempotency_key
        return same_id or (key is not None and self._holder_of(job.org_id, key) is not None)

    def _with_keys(self, org_id: UUID, keys: Collection[str]) -> dict[str, Job]:
        found = ((key, self._holder_of(org_id, key)) for key in keys)
        return {key: evolve(job) for key, job in found if job is not None}

    def _holder_of(self, org_id: UUID, key: str) -> Job | None:
        with self._store.reading() as rows:
            job_id = self._writes().keys.get((org_id, key)) or rows.keys.get((org_id, key))
        return None if job_id is None else self._row(job_id)

    def _write(self, changes: Sequence[Change]) -> None:
        for change in changes:
            stored = self._row(change.job.id)
            if stored is None or (stored.version, stored.lease_seq) != (change.version_before, change.lease_seq_before):
                raise TransientDatabaseError("a row moved while it was locked")
        self._writes().change(changes)

    def _refuse(self, refusals: Sequence[tuple[UUID, Refusal, Job]]) -> None:
        counts = self._writes().refusals
        for _, _, job in refusals:
            counts[job.id] = counts.get(job.id, 0) + 1

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        before = self._writes().copied()
        try:
            yield
        except BaseException:
            self._writes().become(before)
            raise

    def _renew(self, holds: Sequence[Hold], lease: timedelta) -> frozenset[Hold]:
        now, jobs = self._lock({hold.job_id for hold in holds})
        kept = [hold for hold in holds if hold.job_id in jobs and jobs[hold.job_id].hold == hold]
        for hold in kept:
            job = jobs[hold.job_id]
            job.lease_until = now + lease
            self._writes().change([Change(job, (), job.version, job.lease_seq)])
        return frozenset(kept)

    def cancel_requested(self, holds: Sequence[Hold]) -> frozenset[Hold]:
        rows = ((hold, self._row(hold.job_id)) for hold in holds)
        return frozenset(hold for hold, row in rows if row and row.hold == hold and row.cancel_requested_at is not None)

    def _row(self, job_id: UUID) -> Job | None:
        """Return the row itself as this unit of work sees it; whoever hands it out copies it."""
        job = self._writes().jobs.get(job_id)
        if job_id in self._writes().gone_jobs:
            return None
        if job is None:
            with self._store.reading() as rows:
                job = rows.jobs.get(job_id)
        return job if job is not None and visible(self._scope, job.org_id) else None

    def _newest(self, wanted: Callable[[Job], bool], limit: int) -> list[Job]:
        check_whole("limit", limit, 0, MAX_LISTED)
        return copies(newest(self._visible(wanted), limit))

    def _visible(self, wanted: Callable[[Job], bool]) -> list[Job]:
        mine, gone = self._writes().jobs, self._writes().gone_jobs
        with self._store.reading() as rows:
            jobs = chain((job for job in rows.jobs.values() if job.id not in mine), mine.values())
            return [job for job in jobs if job.id not in gone and visible(self._scope, job.org_id) and wanted(job)]

    def _history(self, job_id: UUID) -> tuple[JobEvent, ...]:
        with self._store.reading() as rows:
            committed = tuple(rows.events.get(job_id, ()))
        return committed + tuple(self._writes().events.get(job_id, ()))


def _key(job: Job) -> tuple[str, str, str]:
    return ("key", str(job.org_id), str(job.idempotency_key))
