"""The repositories of a unit of work."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeAlias
from uuid import UUID

from heimdex.domain.asset import Asset, NewAsset
from heimdex.domain.errors import JobNotFound
from heimdex.domain.events import JobEvent
from heimdex.domain.job import Hold, Job
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.json_text import JsonValue
from heimdex.domain.new_job import JobLimits, JobSpec, NewJob
from heimdex.domain.operations import Removed, Retention
from heimdex.domain.results import Created, Ending, JobWithEvents, OneByOne, Report, Written
from heimdex.domain.transitions import Status

Specify: TypeAlias = Callable[[NewJob], JobSpec]
"""Checks a new job against the registry, or against the domain's rules where there is none."""

MAX_LISTED = 1_000
WORKER_KEPT_FOR = timedelta(days=1)
"""How long the row of a worker stays that has given no sign."""


class JobRepository(ABC):
    """The jobs of one scope inside one unit of work.

    Under a `Tenant`, jobs of other organisations do not exist. Every Job that comes back is a copy: assigning to it
    changes nothing stored.
    """

    @abstractmethod
    def create(
        self,
        type: str,
        payload: object = None,
        *,
        org_id: UUID | None = None,
        queue: str = "default",
        priority: int = 0,
        scheduled_at: datetime | None = None,
        idempotency_key: str | None = None,
        requested_by: str | None = None,
        limits: JobLimits | None = None,
        parent_id: UUID | None = None,
    ) -> Created:
        """Create one job, or find the one that the idempotency key made before.

        Args:
            payload: a document, or an instance of the registered payload class; None is an empty object.
            org_id: only under `System`, where it is required.
            parent_id: a job of the same organisation.

        Raises:
            InvalidInput, InvalidPayload, UnknownJobType: the request breaks a rule.
            IdempotencyConflict: the key belongs to a job with another type or payload.
            JobNotFound: no such parent.
        """

    @abstractmethod
    def create_many(
        self, new_jobs: Iterable[NewJob], *, org_id: UUID | None = None, parent_id: UUID | None = None
    ) -> Sequence[Created]:
        """Create jobs in a few statements; answers in the order given. All or none; errors as for `create`.

        A key that occurs twice in one call creates once and replays once.
        """

    @abstractmethod
    def find(self, job_id: UUID) -> Job | None: ...

    @abstractmethod
    def find_many(self, job_ids: Collection[UUID]) -> dict[UUID, Job]:
        """Return those of the jobs that exist in this scope, by id."""

    @abstractmethod
    def made_by(self, new_jobs: Sequence[NewJob], *, parent_id: UUID | None = None) -> dict[UUID, Job]:
        """Return the jobs that these very requests made in an earlier try, by the ids that the requests carry."""

    def get(self, job_id: UUID) -> Job:
        """Return the job.

        Raises:
            JobNotFound: it does not exist in this scope.
        """
        job = self.find(job_id)
        if job is None:
            raise JobNotFound(job_id)
        return job

    @abstractmethod
    def exists(self, job_id: UUID) -> bool: ...

    @abstractmethod
    def with_events(self, job_id: UUID) -> JobWithEvents | None:
        """Return the job with its whole history."""

    @abstractmethod
    def list_with_events(
        self, *, status: Status | None = None, type: str | None = None, limit: int = 100
    ) -> list[JobWithEvents]:
        """Return jobs with their histories, newest first, in two statements whatever the limit (at most 1,000)."""

    @abstractmethod
    def latest_event(self, job_id: UUID) -> JobEvent | None: ...

    @abstractmethod
    def settled_event(self, job_id: UUID, seq: int) -> JobEvent | None:
        """Return an event of a job once no other unit of work holds the job's row.

        One whose connection was lost at COMMIT may still be under way: this waits until it has committed or not.
        """

    @abstractmethod
    def queued(self, *, limit: int = 10, type: str | None = None) -> list[Job]:
        """Return queued jobs in claim order, due or not."""

    @abstractmethod
    def by_type_and_status(self, type: str, status: Status, *, limit: int = 100) -> list[Job]:
        """Return jobs newest first."""

    @abstractmethod
    def ids(self, status: Status, *, limit: int = MAX_LISTED) -> list[UUID]:
        """Return ids newest first; only the id column is read."""

    @abstractmethod
    def cancel(self, job_id: UUID, *, reason: str) -> Job:
        """Cancel a queued job at once, or ask for the cancel of a running one. Asked again, nothing changes.

        Raises:
            JobNotFound: it does not exist in this scope.
            IllegalTransition: it has ended.
        """

    @abstractmethod
    def retry_by_hand(self, job_id: UUID, *, reason: str) -> Job:
        """Queue a failed, canceled or dead job again: attempts and crashes start anew, the last error stays.

        Raises:
            JobNotFound: it does not exist in this scope.
            IllegalTransition: it is queued, running or has succeeded.
        """

    @abstractmethod
    def cancel_matching(
        self, which: JobFilter, *, reason: str, after: UUID | None = None, limit: int = MAX_LISTED
    ) -> list[Job]:
        """Cancel jobs as `cancel` does, those among `which` that can be: one step of a bulk, in the order of ids.

        Args:
            after: the id of the last job of the step before; a step that returns fewer than `limit` is the last.
        """

    @abstractmethod
    def retry_matching(
        self, which: JobFilter, *, reason: str, after: UUID | None = None, limit: int = MAX_LISTED
    ) -> list[Job]:
        """Retry jobs by hand, those among `which` that can be: one step, as `cancel_matching`."""

    @abstractmethod
    def claim(self, job_id: UUID, *, worker: UUID, lease: timedelta) -> Job:
        """Claim one job by its id, whatever its `scheduled_at` says.

        Raises:
            JobNotFound: it does not exist in this scope.
            IllegalTransition: it is not queued.
        """

    @abstractmethod
    def claim_due(
        self,
        *,
        worker: UUID,
        types: Collection[str],
        lease: timedelta,
        limit: int,
        queues: Collection[str] | None = None,
    ) -> list[Job]:
        """Claim due jobs for one worker.

        A job is due when it is queued and its `scheduled_at` is not after the database's clock. Jobs locked by another
        unit of work are passed over, not waited for. If the first candidate has crashed a worker before it is returned
        alone, otherwise the batch ends before the first that has. Where looking at all would take long, a store may be
        some seconds late to find a job that another process put before others (decision record 0021).

        Args:
            limit: at most this many; fewer come back when fewer are due or free.
            queues: None is every queue.

        Returns:
            Highest priority first, then oldest `scheduled_at`, then `id`.

        Source: PostgreSQL manual, SELECT, "The Locking Clause" (SKIP LOCKED).
        """

    @abstractmethod
    def claim_one_by_one(
        self,
        *,
        worker: UUID,
        types: Collection[str],
        lease: timedelta,
        limit: int,
        queues: Collection[str] | None = None,
    ) -> OneByOne:
        """Claim as `claim_due` does, each job for itself: a row that cannot be written is passed over."""

    @abstractmethod
    def finish(self, endings: Sequence[Ending]) -> Written:
        """End runs, each fenced by its hold. A stale holder's ending changes nothing and is recorded as a refusal.

        `Ending.effects` is left to the caller, who writes those of accepted endings in the same unit of work.
        """

    @abstractmethod
    def report(self, reports: Sequence[Report]) -> Written:
        """Write progress and notes of running jobs, each fenced by its hold; stale ones as in `finish`."""

    @abstractmethod
    def log(self, job_id: UUID, detail: Mapping[str, JsonValue]) -> Job:
        """Add a note to the history of a running job, whoever runs it.

        Raises:
            JobNotFound, IllegalTransition (not running), InvalidPayload.
        """

    @abstractmethod
    def renew(self, holds: Sequence[Hold], *, lease: timedelta) -> frozenset[Hold]:
        """Prolong leases to the database's time plus `lease`; return the holds that are still in force.

        No event is written and no version rises. A lease that has run out but was not yet expired is renewed; a hold
        that has ended is recorded as a refusal.
        """

    @abstractmethod
    def cancel_requested(self, holds: Sequence[Hold]) -> frozenset[Hold]:
        """Return those of the holds that are in force and whose job somebody asked to cancel. Nothing is written."""

    @abstractmethod
    def expire(self, *, limit: int, after: UUID | None = None) -> list[Job]:
        """End the runs whose lease has run out by the database's clock, at most `limit`, in the order of ids.

        Rows locked by another unit of work are passed over.

        Args:
            after: the highest id that the page before looked at; a page that looks at fewer than `limit` is the last.
        """

    @abstractmethod
    def expire_one_by_one(self, *, limit: int, after: UUID | None = None) -> OneByOne:
        """End runs as `expire` does, each for itself: a row that cannot be written is passed over, and counts."""


class AssetRepository(ABC):
    """The assets of one scope inside one unit of work."""

    @abstractmethod
    def add(self, job: Job, asset: NewAsset) -> Asset:
        """Record an asset of a job.

        Raises:
            JobNotFound: it does not exist in this scope.
            UniqueViolation: the job has an asset with this uri.
        """

    @abstractmethod
    def add_many(self, assets: Sequence[tuple[Job, NewAsset]]) -> list[Asset]: ...

    @abstractmethod
    def find(self, asset_id: UUID) -> Asset | None: ...

    @abstractmethod
    def of_job(self, job_id: UUID) -> list[Asset]:
        """Return a job's assets in the order of their uris."""


class WorkerRepository(ABC):
    """The workers that people look at. Only `System` writes here."""

    @abstractmethod
    def seen(self, worker_id: UUID, *, name: str, types: Collection[str], queues: Collection[str]) -> None:
        """Say that this worker is alive now; the first time makes its row and deletes those of workers long lost."""

    @abstractmethod
    def gone(self, worker_id: UUID) -> None:
        """Remove a worker that stopped in order."""


class QueueRepository(ABC):
    """Queues that are paused: under a `Tenant` for its organisation, under `System` for every one."""

    @abstractmethod
    def pause(self, queue: str, *, reason: str) -> None:
        """Let nothing be claimed from a queue; what runs goes on. Paused again, the last reason counts."""

    @abstractmethod
    def resume(self, queue: str) -> bool:
        """Let jobs be claimed again, and wake workers for them; return whether this scope had paused the queue."""


class MaintenanceRepository(ABC):
    """What deletes. Only `System` may; every method does one bounded step and says what it removed."""

    @abstractmethod
    def prune_jobs(self, retention: Retention, *, limit: int) -> Removed:
        """Delete jobs that ended long enough ago, with their assets, earliest end first. Their histories stay."""

    @abstractmethod
    def prune_histories(self, retention: Retention, *, limit: int) -> Removed:
        """Delete histories and refusals of jobs whose row is gone and whose last event is old enough."""

    @abstractmethod
    def erase(self, erasure_id: UUID, org_id: UUID, *, reason: str, limit: int) -> Removed:
        """Delete at most `limit` jobs of an organisation with all that belongs to them, and add them to the erasure.

        A step that removes nothing is the last. Pauses of the organisation go with the first step.
        """
