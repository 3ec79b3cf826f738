"""Pauses and deletions in memory."""

from collections.abc import Callable, Iterable
from uuid import UUID

from attrs import evolve

from heimdex.adapters.memory_jobs import visible
from heimdex.adapters.memory_store import MemoryStore, Rows
from heimdex.domain.job import Job
from heimdex.domain.operations import Erasure, PausedQueue, Removed, Retention
from heimdex.domain.rules import MAX_REASON, check_text, check_uuid, check_whole
from heimdex.domain.scope import Scope, Tenant
from heimdex.service_layer.ports import MAX_LISTED, MaintenanceRepository, QueueRepository


class MemoryQueueRepository(QueueRepository):
    def __init__(
        self, store: MemoryStore, writes: Callable[[], Rows], scope: Scope, wake: Callable[[str], None]
    ) -> None:
        self._store = store
        self._writes = writes
        self._scope = scope
        self._wake = wake
        self._org_id = scope.org_id if isinstance(scope, Tenant) else None

    def pause(self, queue: str, *, reason: str) -> None:
        place = (self._org_id, check_text("queue", queue))
        self._writes().pauses[place] = PausedQueue(
            queue=queue,
            org_id=self._org_id,
            actor=self._scope.actor,
            reason=check_text("reason", reason, MAX_REASON),
            paused_at=self._store.clock.now(),
        )

    def resume(self, queue: str) -> bool:
        place = (self._org_id, check_text("queue", queue))
        with self._store.reading() as rows:
            paused = {**rows.pauses, **self._writes().pauses}.get(place) is not None
        self._writes().pauses[place] = None
        if paused:
            self._wake(queue)
        return paused


class MemoryMaintenanceRepository(MaintenanceRepository):
    def __init__(self, store: MemoryStore, writes: Callable[[], Rows], owner: object, scope: Scope) -> None:
        self._store = store
        self._writes = writes
        self._owner = owner
        self._scope = scope

    def prune_jobs(self, retention: Retention, *, limit: int) -> Removed:
        check_whole("limit", limit, 0, MAX_LISTED)
        now = self._store.clock.now()

        def old(job: Job) -> bool:
            ended = job.finished_at is not None and job.finished_at <= now - retention.jobs
            return ended and (job.idempotency_key is None or job.created_at <= now - retention.keys)

        ended = sorted(self._jobs(old), key=lambda job: (job.finished_at or now, job.id))[:limit]
        return self._remove_jobs([job.id for job in ended if self._store.try_lock(self._owner, job.id)])

    def prune_histories(self, retention: Retention, *, limit: int) -> Removed:
        check_whole("limit", limit, 0, MAX_LISTED)
        before = self._store.clock.now() - retention.histories
        with self._store.reading() as rows:
            old = [job_id for job_id, events in rows.events.items() if events[-1].ts <= before]
        return self._remove_histories(sorted(job_id for job_id in old if self._is_orphan(job_id))[:limit])

    def erase(self, erasure_id: UUID, org_id: UUID, *, reason: str, limit: int) -> Removed:
        check_whole("limit", limit, 1, MAX_LISTED)
        check_text("reason", reason, MAX_REASON)
        org_id = check_uuid("org_id", org_id)
        ids = sorted(job.id for job in self._jobs(lambda job: job.org_id == org_id))[:limit]
        self._store.lock(self._owner, ids)
        removed = self._remove_jobs(ids)
        with self._store.reading() as rows:
            histories = sorted(job_id for job_id, events in rows.events.items() if events[0].org_id == org_id)
            pauses = [place for place in rows.pauses if place[0] == org_id]
        removed.add(self._remove_histories([job_id for job_id in histories if self._is_orphan(job_id)][:limit]))
        self._writes().pauses.update(dict.fromkeys(pauses))
        self._record(erasure_id, org_id, reason, removed)
        return removed

    def _record(self, erasure_id: UUID, org_id: UUID, reason: str, removed: Removed) -> None:
        with self._store.reading() as rows:
            before = {**rows.erasures, **self._writes().erasures}.get(erasure_id)
        total = evolve(removed)
        if before is not None:
            total.add(before.removed)
        self._writes().erasures[erasure_id] = Erasure(
            id=erasure_id,
            org_id=org_id,
            actor=self._scope.actor,
            reason=reason,
            erased_at=self._store.clock.now(),
            removed=total,
        )

    def _jobs(self, wanted: Callable[[Job], bool]) -> list[Job]:
        gone = self._writes().gone_jobs
        with self._store.reading() as rows:
            jobs = {**rows.jobs, **self._writes().jobs}
        return [job for job in jobs.values() if job.id not in gone and visible(self._scope, job.org_id) and wanted(job)]

    def _remove_jobs(self, ids: Iterable[UUID]) -> Removed:
        removed = Removed()
        for job_id in ids:
            with self._store.reading() as rows:
                removed.assets += len(rows.uris.get(job_id, {}))
            removed.jobs += 1
            self._writes().gone_jobs.add(job_id)
        return removed

    def _remove_histories(self, ids: Iterable[UUID]) -> Removed:
        removed = Removed()
        for job_id in ids:
            with self._store.reading() as rows:
                removed.events += len(rows.events.get(job_id, ()))
                removed.refusals += rows.refusals.get(job_id, 0)
            self._writes().gone_histories.add(job_id)
        return removed

    def _is_orphan(self, job_id: UUID) -> bool:
        """Return whether a history has lost its job, and has not gone itself."""
        writes = self._writes()
        with self._store.reading() as rows:
            has_job = (job_id in rows.jobs or job_id in writes.jobs) and job_id not in writes.gone_jobs
        return not has_job and job_id not in writes.gone_histories
