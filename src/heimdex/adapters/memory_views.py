"""Read-only questions to the store in memory."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from uuid import UUID

from attrs import evolve

from heimdex.adapters.memory_jobs import visible
from heimdex.adapters.memory_store import MemoryStore, Rows, copies, place
from heimdex.domain.asset import Asset
from heimdex.domain.errors import JobNotFound, UnitOfWorkNotOpen
from heimdex.domain.events import JobEvent
from heimdex.domain.job import Job
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.operations import Erasure, PausedQueue, QueueCounts, queue_counts
from heimdex.domain.rules import check_whole
from heimdex.domain.scope import Scope, System
from heimdex.domain.transitions import Status
from heimdex.domain.waiting import MOST_AHEAD, Blocker, Surroundings, blockers, blockers_of_other, queued_by
from heimdex.domain.worker import WorkerRecord
from heimdex.service_layer.ports import MAX_FOLLOWED, MAX_LISTED, WORKER_ALIVE_FOR, Page, Recorded, Statistics, Views


@contextmanager
def open_memory_views(store: MemoryStore, scope: Scope) -> Iterator[Views]:
    """Give views of a scope, usable inside the block."""
    views = MemoryViews(store, scope)
    try:
        yield views
    finally:
        views.close()


class MemoryViews(Views):
    def __init__(self, store: MemoryStore, scope: Scope) -> None:
        self._store = store
        self._scope = scope
        self._closed = False

    def close(self) -> None:
        self._closed = True

    def statistics(self) -> Statistics:
        with self._rows() as rows:
            counts = Counter((job.type, job.status) for job in self._jobs(rows))
            workers = self._living_workers(rows)
        by_status = dict.fromkeys(Status, 0)
        by_type: dict[str, dict[Status, int]] = {}
        for (job_type, status), count in counts.items():
            by_status[status] += count
            by_type.setdefault(job_type, {})[status] = count
        queued = {job_type for job_type, status in counts if status is Status.QUEUED}
        served = {name for worker in workers for name in worker.types}
        return Statistics(by_status=by_status, by_type=by_type, unserved_types=tuple(sorted(queued - served)))

    def page(self, which: JobFilter, *, after: UUID | None = None, limit: int = 100) -> Page:
        check_whole("limit", limit, 1, MAX_LISTED - 1)
        with self._rows() as rows:
            found = [job for job in self._jobs(rows) if which.accepts(job) and (after is None or job.id < after)]
            jobs = copies(sorted(found, key=lambda job: job.id, reverse=True)[: limit + 1])
        shown = tuple(jobs[:limit])
        return Page(shown, shown[-1].id if len(jobs) > limit else None)

    def count(self, which: JobFilter, statuses: Collection[Status] = tuple(Status)) -> int:
        with self._rows() as rows:
            return sum(which.accepts(job) and job.status in statuses for job in self._jobs(rows))

    def queues(self) -> tuple[QueueCounts, ...]:
        with self._rows() as rows:
            active = (job for job in self._jobs(rows) if job.status in {Status.QUEUED, Status.RUNNING})
            counts = Counter((job.queue, job.status) for job in active)
            return queue_counts(counts, self._pauses(rows))

    def explain_waiting(self, job_id: UUID) -> tuple[Blocker, ...]:
        job = self.find(job_id)
        if job is None:
            raise JobNotFound(job_id)
        if job.status is not Status.QUEUED:
            return blockers_of_other(job)
        now = self._store.clock.now()
        with self._rows() as rows:
            pauses = self._pauses(rows)
            rivals = [other for other in self._jobs(rows) if _may_come_before(other, job, pauses, now)]
            surroundings = Surroundings(
                now=now,
                queued_by=queued_by(self._history(rows, job_id)),
                paused=tuple(pause for pause in pauses if pause.holds(job)),
                workers=sum(worker.serves(job) for worker in self._living_workers(rows)),
                ahead=min(len(rivals), MOST_AHEAD),
            )
        return blockers(job, surroundings)

    def erasures(self) -> tuple[Erasure, ...]:
        if not isinstance(self._scope, System):
            return ()
        with self._rows() as rows:
            erasures = [evolve(erasure, removed=evolve(erasure.removed)) for erasure in rows.erasures.values()]
        return tuple(sorted(erasures, key=lambda erasure: (-erasure.erased_at.timestamp(), erasure.id)))

    def find(self, job_id: UUID) -> Job | None:
        with self._rows() as rows:
            job = rows.jobs.get(job_id)
            return evolve(job) if job is not None and visible(self._scope, job.org_id) else None

    def history(self, job_id: UUID) -> tuple[JobEvent, ...]:
        return self.histories([job_id])[job_id]

    def histories(self, job_ids: Collection[UUID]) -> Mapping[UUID, tuple[JobEvent, ...]]:
        check_whole("number of job ids", len(job_ids), 0, MAX_LISTED)
        with self._rows() as rows:
            return {job_id: self._history(rows, job_id) for job_id in job_ids}

    def events_after(self, seen: Mapping[UUID, int], *, limit: int = MAX_LISTED) -> Mapping[UUID, tuple[JobEvent, ...]]:
        check_whole("number of job ids", len(seen), 0, MAX_FOLLOWED)
        left = check_whole("limit", limit, 1, MAX_LISTED)
        found: dict[UUID, tuple[JobEvent, ...]] = dict.fromkeys(seen, ())
        with self._rows() as rows:
            for job_id in sorted(seen):
                following = tuple(event for event in self._history(rows, job_id) if event.seq > seen[job_id])[:left]
                found[job_id] = following
                left -= len(following)
        return found

    def history_ids(self, *, after: UUID | None = None, limit: int = MAX_LISTED) -> list[UUID]:
        check_whole("limit", limit, 0, MAX_LISTED)
        with self._rows() as rows:
            ids = sorted(job_id for job_id in rows.events if after is None or job_id > after)
            return [job_id for job_id in ids if self._history(rows, job_id)][:limit]

    def ledger(self, *, after: UUID | None = None) -> Iterator[Recorded]:
        with self._rows() as rows:
            ids = sorted(job_id for job_id in rows.jobs.keys() | rows.events if after is None or job_id > after)
        for job_id in ids:
            with self._rows() as rows:
                job = rows.jobs.get(job_id)
                seen = evolve(job) if job is not None and visible(self._scope, job.org_id) else None
                events = [event for event in rows.events.get(job_id, ()) if visible(self._scope, event.org_id)]
            if seen is not None or events:
                yield Recorded(job_id, seen, events)

    def assets(self, job_ids: Collection[UUID]) -> Mapping[UUID, tuple[Asset, ...]]:
        check_whole("number of job ids", len(job_ids), 0, MAX_LISTED)
        with self._rows() as rows:
            found = {job_id: rows.assets_of(job_id) for job_id in job_ids}
        return {
            job_id: tuple(sorted((evolve(asset) for asset in assets if visible(self._scope, asset.org_id)), key=_uri))
            for job_id, assets in found.items()
        }

    def refusals(self, job_id: UUID) -> int:
        with self._rows() as rows:
            return rows.refusals.get(job_id, 0) if self._history(rows, job_id) else 0

    def workers(self) -> tuple[WorkerRecord, ...]:
        with self._rows() as rows:
            workers = [evolve(worker) for worker in rows.workers.values() if worker is not None]
        shown = workers if isinstance(self._scope, System) else []
        by_id = sorted(shown, key=lambda worker: worker.id)
        return tuple(sorted(by_id, key=lambda worker: worker.seen_at, reverse=True)[:MAX_LISTED])

    def _pauses(self, rows: Rows) -> list[PausedQueue]:
        """Return the pauses for everybody and those that this scope may see, by queue."""
        seen = [pause for pause in rows.pauses.values() if pause is not None and _is_seen(self._scope, pause)]
        return sorted(seen, key=lambda pause: (pause.queue, pause.org_id or _NOBODY))

    def _living_workers(self, rows: Rows) -> list[WorkerRecord]:
        alive = self._store.clock.now() - WORKER_ALIVE_FOR
        return [worker for worker in rows.workers.values() if worker is not None and worker.seen_at > alive]

    @contextmanager
    def _rows(self) -> Iterator[Rows]:
        if self._closed:
            raise UnitOfWorkNotOpen
        with self._store.reading() as rows:
            yield rows

    def _jobs(self, rows: Rows) -> Iterator[Job]:
        return (job for job in rows.jobs.values() if visible(self._scope, job.org_id))

    def _history(self, rows: Rows, job_id: UUID) -> tuple[JobEvent, ...]:
        events = rows.events.get(job_id, ())
        return tuple(events) if events and visible(self._scope, events[0].org_id) else ()


def _uri(asset: Asset) -> str:
    return asset.uri


_NOBODY = UUID(int=0)


def _is_seen(scope: Scope, pause: PausedQueue) -> bool:
    return pause.org_id is None or visible(scope, pause.org_id)


def _may_come_before(other: Job, job: Job, pauses: Collection[PausedQueue], now: datetime) -> bool:
    """Return whether a claim from the queue of `job` that could take both would take `other` first."""
    return (
        other.status is Status.QUEUED
        and other.queue == job.queue
        and other.scheduled_at <= now
        and place(other) < place(job)
        and not any(pause.holds(other) for pause in pauses)
    )
