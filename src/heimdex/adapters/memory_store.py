"""Committed rows in memory, the locks on them, and the write sets that become rows when a unit of work commits."""

from bisect import bisect_left, insort
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from heapq import nlargest
from threading import Condition
from typing import Protocol, TypeAlias
from uuid import UUID

from attrs import define, evolve, field, fields_dict

from heimdex.adapters.job_verbs import Change
from heimdex.domain.asset import Asset
from heimdex.domain.constraints import ASSET_URI, IDEMPOTENCY_KEY, JOB_ID
from heimdex.domain.errors import TransientDatabaseError, UniqueViolation
from heimdex.domain.events import JobEvent
from heimdex.domain.job import Job
from heimdex.domain.operations import Erasure, PausedQueue
from heimdex.domain.transitions import Status
from heimdex.domain.worker import WorkerRecord
from heimdex.service_layer.ports import Clock

Place: TypeAlias = tuple[int, datetime, UUID]
"""Where a queued job stands in claim order."""

Key: TypeAlias = tuple[UUID, str]
"""An organisation and an idempotency key of it."""


def place(job: Job) -> Place:
    return -job.priority, job.scheduled_at, job.id


@define(eq=False)
class Rows:
    """Tables, or the changes to them that one unit of work has made so far."""

    jobs: dict[UUID, Job] = field(factory=dict)
    keys: dict[Key, UUID] = field(factory=dict)
    events: dict[UUID, list[JobEvent]] = field(factory=dict)
    assets: dict[UUID, Asset] = field(factory=dict)
    # The ids of a job's assets by their uris.
    uris: dict[UUID, dict[str, UUID]] = field(factory=dict)
    refusals: dict[UUID, int] = field(factory=dict)
    workers: dict[UUID, WorkerRecord | None] = field(factory=dict)
    # By organisation, None for every one, and queue; None for one that was resumed.
    pauses: dict[tuple[UUID | None, str], PausedQueue | None] = field(factory=dict)
    erasures: dict[UUID, Erasure] = field(factory=dict)
    # What was deleted.
    gone_jobs: set[UUID] = field(factory=set)
    gone_histories: set[UUID] = field(factory=set)
    versions_before: dict[UUID, int] = field(factory=dict)

    def change(self, changes: Iterable[Change]) -> None:
        for change in changes:
            job = change.job
            self.versions_before.setdefault(job.id, change.version_before)
            self.put(evolve(job))
            self.events.setdefault(job.id, []).extend(change.events)

    def put(self, job: Job) -> None:
        self.jobs[job.id] = job
        if job.idempotency_key is not None:
            self.keys[job.org_id, job.idempotency_key] = job.id

    def put_asset(self, asset: Asset) -> None:
        self.assets[asset.id] = asset
        self.uris.setdefault(asset.job_id, {})[asset.uri] = asset.id

    def assets_of(self, job_id: UUID) -> list[Asset]:
        return [self.assets[asset_id] for asset_id in self.uris.get(job_id, {}).values()]

    def copied(self) -> "Rows":
        """Return the same changes in tables of their own; the rows in them are never changed in place."""
        return Rows(
            jobs=dict(self.jobs),
            keys=dict(self.keys),
            events={job_id: list(events) for job_id, events in self.events.items()},
            assets=dict(self.assets),
            uris={job_id: dict(uris) for job_id, uris in self.uris.items()},
            refusals=dict(self.refusals),
            workers=dict(self.workers),
            pauses=dict(self.pauses),
            erasures=dict(self.erasures),
            gone_jobs=set(self.gone_jobs),
            gone_histories=set(self.gone_histories),
            versions_before=dict(self.versions_before),
        )

    def become(self, other: "Rows") -> None:
        """Hold what `other` holds."""
        for table in fields_dict(Rows):
            setattr(self, table, getattr(other, table))


class Turns(Protocol):
    """How users of a store take turns: as with a `threading.Condition`, unless a simulator gives something else."""

    def __enter__(self) -> object: ...

    def __exit__(self, *error: object) -> object: ...

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> object: ...

    def notify_all(self) -> None: ...


class MemoryStore:
    """The tables. Every Job that goes in or out is a copy, so that nobody holds an alias of a row.

    Args:
        lock_timeout: how long a writer waits for another one's row before it gives up with a transient error.
        between: called between looking for candidates and locking them; a simulator lets others act there.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        lock_timeout: timedelta = timedelta(seconds=5),
        between: Callable[[], None] = lambda: None,
        turns: Turns | None = None,
    ) -> None:
        self.clock = clock
        self.between = between
        self.rows = Rows()
        self.queued: list[Place] = []
        self.running: set[UUID] = set()
        self._lock_timeout = lock_timeout
        self._changed: Turns | Condition = turns or Condition()
        self._owners: dict[Hashable, object] = {}
        self._locked: dict[object, list[Hashable]] = {}

    @contextmanager
    def reading(self) -> Iterator[Rows]:
        """Give the committed rows while nobody commits."""
        with self._changed:
            yield self.rows

    def lock(self, owner: object, things: Iterable[Hashable]) -> None:
        """Lock each of these for `owner`, in the order given, waiting for others to let go."""
        with self._changed:
            for thing in things:
                if not self._changed.wait_for(partial(self.try_lock, owner, thing), self._lock_timeout.total_seconds()):
                    raise TransientDatabaseError("another unit of work kept the same row locked")

    def try_lock(self, owner: object, thing: Hashable) -> bool:
        with self._changed:
            if thing not in self._owners:
                self._owners[thing] = owner
                self._locked.setdefault(owner, []).append(thing)
            return self._owners[thing] is owner

    def locked_things(self) -> int:
        return len(self._owners)

    def release(self, owner: object) -> None:
        with self._changed:
            for thing in self._locked.pop(owner, ()):
                del self._owners[thing]
            self._changed.notify_all()

    def commit(self, writes: Rows) -> None:
        """Make a write set part of the rows, all of it or nothing."""
        with self._changed:
            self._check(writes)
            for job in writes.jobs.values():
                self._put(job)
            for job_id, events in writes.events.items():
                self.rows.events.setdefault(job_id, []).extend(events)
            for asset in writes.assets.values():
                self.rows.put_asset(asset)
            for job_id, count in writes.refusals.items():
                self.rows.refusals[job_id] = self.rows.refusals.get(job_id, 0) + count
            self.rows.workers.update(writes.workers)
            self.rows.pauses.update(writes.pauses)
            self.rows.erasures.update(writes.erasures)
            for job_id in writes.gone_jobs:
                self._remove(job_id)
            for job_id in writes.gone_histories:
                self.rows.events.pop(job_id, None)
                self.rows.refusals.pop(job_id, None)

    def _check(self, writes: Rows) -> None:
        """Refuse a write set that no longer fits: nothing locks a new id or a new asset, and a lock may have failed."""
        for job_id, version in writes.versions_before.items():
            stored = self.rows.jobs.get(job_id)
            if stored is not None and version == 0:
                raise UniqueViolation(JOB_ID)
            if (0 if stored is None else stored.version) != version:
                raise TransientDatabaseError("a row moved while it was locked")
        for key, job_id in writes.keys.items():
            if self.rows.keys.get(key, job_id) != job_id:
                raise UniqueViolation(IDEMPOTENCY_KEY)
        for asset in writes.assets.values():
            if asset.uri in self.rows.uris.get(asset.job_id, {}):
                raise UniqueViolation(ASSET_URI)

    def _remove(self, job_id: UUID) -> None:
        self._take_out(job_id)
        job = self.rows.jobs.pop(job_id, None)
        if job is not None and job.idempotency_key is not None:
            del self.rows.keys[job.org_id, job.idempotency_key]
        for asset_id in self.rows.uris.pop(job_id, {}).values():
            del self.rows.assets[asset_id]

    def _take_out(self, job_id: UUID) -> None:
        """Take a job's row out of what is looked up by its status."""
        before = self.rows.jobs.get(job_id)
        if before is not None and before.status is Status.QUEUED:
            del self.queued[bisect_left(self.queued, place(before))]
        self.running.discard(job_id)

    def _put(self, job: Job) -> None:
        self._take_out(job.id)
        self.rows.put(job)
        if job.status is Status.QUEUED:
            insort(self.queued, place(job))
        elif job.status is Status.RUNNING:
            self.running.add(job.id)


def copies(jobs: Iterable[Job]) -> list[Job]:
    return [evolve(job) for job in jobs]


def newest(jobs: Iterable[Job], limit: int) -> list[Job]:
    return nlargest(limit, jobs, key=lambda job: (job.created_at, job.id))
