"""The store in memory: unit of work, assets, workers and views. A product of its own, and the specification of SQL."""

from collections.abc import Callable, Collection, Sequence
from uuid import UUID

from attrs import evolve

from heimdex.adapters.job_verbs import Tools
from heimdex.adapters.lifecycle import LivingUnitOfWork
from heimdex.adapters.memory_jobs import MemoryJobRepository, visible
from heimdex.adapters.memory_operations import MemoryMaintenanceRepository, MemoryQueueRepository
from heimdex.adapters.memory_store import MemoryStore, Rows
from heimdex.domain.asset import Asset, NewAsset
from heimdex.domain.constraints import ASSET_URI
from heimdex.domain.errors import JobNotFound, UniqueViolation
from heimdex.domain.job import Job
from heimdex.domain.scope import Scope
from heimdex.domain.worker import WorkerRecord
from heimdex.service_layer.ports import WORKER_KEPT_FOR, AssetRepository, Ids, Wakeups, WorkerRepository


class MemoryAssetRepository(AssetRepository):
    def __init__(self, store: MemoryStore, writes: Callable[[], Rows], scope: Scope, ids: Ids) -> None:
        self._store = store
        self._writes = writes
        self._scope = scope
        self._ids = ids

    def add(self, job: Job, asset: NewAsset) -> Asset:
        [added] = self.add_many([(job, asset)])
        return added

    def add_many(self, assets: Sequence[tuple[Job, NewAsset]]) -> list[Asset]:
        for job, _ in assets:
            if not self._has_job(job):
                raise JobNotFound(job.id)
        now = self._store.clock.now()
        added = [new.recorded(asset_id=self._ids(), job=job, created_at=now) for job, new in assets]
        places = {(asset.job_id, asset.uri) for asset in added}
        if len(places) < len(added) or any(self._is_taken(*place) for place in places):
            raise UniqueViolation(ASSET_URI)
        for asset in added:
            self._writes().put_asset(evolve(asset))
        return added

    def find(self, asset_id: UUID) -> Asset | None:
        with self._store.reading() as rows:
            asset = self._writes().assets.get(asset_id) or rows.assets.get(asset_id)
        return evolve(asset) if asset is not None and visible(self._scope, asset.org_id) else None

    def of_job(self, job_id: UUID) -> list[Asset]:
        with self._store.reading() as rows:
            found = rows.assets_of(job_id) + self._writes().assets_of(job_id)
        ours = [evolve(asset) for asset in found if visible(self._scope, asset.org_id)]
        return sorted(ours, key=lambda asset: asset.uri)

    def _has_job(self, job: Job) -> bool:
        """Return whether this scope has a job with this id, of the organisation that the caller's copy names."""
        writes = self._writes()
        with self._store.reading() as rows:
            stored = None if job.id in writes.gone_jobs else writes.jobs.get(job.id) or rows.jobs.get(job.id)
        return stored is not None and stored.org_id == job.org_id and visible(self._scope, stored.org_id)

    def _is_taken(self, job_id: UUID, uri: str) -> bool:
        with self._store.reading() as rows:
            return uri in rows.uris.get(job_id, {}) or uri in self._writes().uris.get(job_id, {})


class MemoryWorkerRepository(WorkerRepository):
    def __init__(self, store: MemoryStore, writes: Callable[[], Rows]) -> None:
        self._store = store
        self._writes = writes

    def seen(self, worker_id: UUID, *, name: str, types: Collection[str], queues: Collection[str]) -> None:
        now = self._store.clock.now()
        with self._store.reading() as rows:
            known = {**rows.workers, **self._writes().workers}
        before = known.get(worker_id)
        if before is None:
            lost = [each.id for each in known.values() if each is not None and each.seen_at <= now - WORKER_KEPT_FOR]
            self._writes().workers.update(dict.fromkeys(lost))
        self._writes().workers[worker_id] = WorkerRecord(
            id=worker_id,
            name=name,
            types=tuple(sorted(types)),
            queues=tuple(sorted(queues)),
            started_at=now if before is None else before.started_at,
            seen_at=now,
        )

    def gone(self, worker_id: UUID) -> None:
        self._writes().workers[worker_id] = None


class MemoryUnitOfWork(LivingUnitOfWork[Rows]):
    def __init__(self, store: MemoryStore, scope: Scope, tools: Tools, wakeups: Wakeups) -> None:
        super().__init__(scope, wakeups)
        self._store = store
        tools = evolve(tools, wake=self.wake_after_commit)
        self._jobs = MemoryJobRepository(store, self._writes, self, scope, tools)
        self._assets = MemoryAssetRepository(store, self._writes, scope, tools.ids)
        self._workers = MemoryWorkerRepository(store, self.transaction_of_system)

    @property
    def jobs(self) -> MemoryJobRepository:
        self.open_transaction()
        return self._jobs

    @property
    def assets(self) -> MemoryAssetRepository:
        self.open_transaction()
        return self._assets

    @property
    def workers(self) -> MemoryWorkerRepository:
        self.open_transaction()
        return self._workers

    @property
    def queues(self) -> MemoryQueueRepository:
        self.open_transaction()
        return MemoryQueueRepository(self._store, self._writes, self._scope, self.wake_after_commit)

    @property
    def maintenance(self) -> MemoryMaintenanceRepository:
        self.transaction_of_system()
        return MemoryMaintenanceRepository(self._store, self._writes, self, self._scope)

    def _writes(self) -> Rows:
        return self.open_transaction()

    def _begin(self) -> Rows:
        return Rows()

    def _commit(self, transaction: Rows) -> None:
        self._store.commit(transaction)

    def _undo(self, transaction: Rows) -> None:
        transaction.become(Rows())
        self._store.release(self)

    def _close(self, transaction: Rows) -> None:
        self._store.release(self)
