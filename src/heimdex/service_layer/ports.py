"""The ports: what the service layer needs from outside. Adapters and tests implement them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from types import TracebackType
from typing import Protocol, Self, TypeAlias
from uuid import UUID

from attrs import asdict, field, frozen

from heimdex.domain.asset import Asset, NewAsset
from heimdex.domain.errors import JobNotFound
from heimdex.domain.events import JobEvent
from heimdex.domain.job import Hold, Job
from heimdex.domain.json_text import JsonValue
from heimdex.domain.new_job import JobLimits, JobSpec, NewJob
from heimdex.domain.results import Created, Ending, JobWithEvents, Report, Written
from heimdex.domain.scope import Scope
from heimdex.domain.transitions import Status
from heimdex.domain.worker import WorkerRecord

Ids: TypeAlias = Callable[[], UUID]
"""Draws a new UUIDv7; later ones of one process sort after earlier ones."""

Random: TypeAlias = Callable[[], float]
"""Draws from [0, 1)."""

Sleep: TypeAlias = Callable[[timedelta], None]

Specify: TypeAlias = Callable[[NewJob], JobSpec]
"""Checks a new job against the registry, or against the domain's rules where there is none."""

MAX_LISTED = 1_000
WORKER_ALIVE_FOR = timedelta(seconds=60)
"""How long after its last sign a worker counts as alive in statistics."""


class Clock(Protocol):
    def now(self) -> datetime:
        """Return the wall clock's time, aware, in UTC."""

    def monotonic(self) -> float:
        """Return seconds since some moment; never runs backwards."""


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
    ) -> list[Created]:
        """Create jobs in a few statements; answers in the order given. All or none; errors as for `create`.

        A key that occurs twice in one call creates once and replays once.
        """

    @abstractmethod
    def find(self, job_id: UUID) -> Job | None: ...

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
    def queued(self, *, limit: int = 10, type: str | None = None) -> list[Job]:
        """Return queued jobs in claim order, due or not."""

    @abstractmethod
    def by_type_and_status(self, type: str, status: Status, *, limit: int = 100) -> list[Job]:
        """Return jobs newest first."""

    @abstractmethod
    def ids(self, status: Status, *, limit: int = MAX_LISTED) -> list[UUID]:
        """Return ids newest first; only the id column is read."""

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
        alone, otherwise the batch ends before the first that has.

        Args:
            limit: at most this many; fewer come back when fewer are due or free.
            queues: None is every queue.

        Returns:
            Highest priority first, then oldest `scheduled_at`, then `id`.

        Source: PostgreSQL manual, SELECT, "The Locking Clause" (SKIP LOCKED).
        """

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
    def expire(self, *, limit: int) -> list[Job]:
        """End the runs whose lease has run out by the database's clock, at most `limit`, in the order of ids.

        Rows locked by another unit of work are passed over.
        """


class AssetRepository(ABC):
    """The assets of one scope inside one unit of work."""

    @abstractmethod
    def add(self, job: Job, asset: NewAsset) -> Asset:
        """Record an asset of a job.

        Raises:
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
        """Say that this worker is alive now; the first time makes its row."""

    @abstractmethod
    def gone(self, worker_id: UUID) -> None:
        """Remove a worker that stopped in order."""


class UnitOfWork(ABC):
    """One transaction: committed when the block is left cleanly, rolled back when it raises, closed always."""

    @property
    @abstractmethod
    def jobs(self) -> JobRepository: ...

    @property
    @abstractmethod
    def assets(self) -> AssetRepository: ...

    @property
    @abstractmethod
    def workers(self) -> WorkerRepository: ...

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    @abstractmethod
    def rollback(self) -> None:
        """Undo everything written so far. The unit of work stays open."""


class StartUnitOfWork(Protocol):
    def __call__(self, scope: Scope) -> UnitOfWork: ...


@frozen(kw_only=True)
class JobFilter:
    """Which jobs a page shows; None is any."""

    status: Status | None = None
    type: str | None = None
    queue: str | None = None
    requested_by: str | None = None
    parent_id: UUID | None = None

    def accepts(self, job: Job) -> bool:
        return all(wanted is None or getattr(job, name) == wanted for name, wanted in asdict(self).items())


@frozen
class Page:
    """One page of jobs, newest first. `next_after` is the cursor of the following page, None on the last."""

    jobs: tuple[Job, ...]
    next_after: UUID | None


@frozen(kw_only=True)
class Statistics:
    """Counts of a scope: per status (every status is there), per type and status, and queued types without a worker."""

    by_status: Mapping[Status, int]
    by_type: Mapping[str, Mapping[Status, int]] = field(factory=dict)
    unserved_types: tuple[str, ...] = ()


class Views(ABC):
    """Read-only questions. A view sees what was committed before it asks and locks nothing."""

    @abstractmethod
    def statistics(self) -> Statistics: ...

    @abstractmethod
    def page(self, which: JobFilter, *, after: UUID | None = None, limit: int = 100) -> Page:
        """Return jobs by descending id, which is newest first; `after` is the last id of the page before."""

    @abstractmethod
    def find(self, job_id: UUID) -> Job | None: ...

    @abstractmethod
    def history(self, job_id: UUID) -> tuple[JobEvent, ...]:
        """Return a job's events in the order of `seq`; they outlive the job's row."""

    @abstractmethod
    def histories(self, job_ids: Collection[UUID]) -> Mapping[UUID, tuple[JobEvent, ...]]:
        """Return the histories of many jobs (at most 1,000) in one statement; an unknown id has an empty one."""

    @abstractmethod
    def history_ids(self, *, after: UUID | None = None, limit: int = MAX_LISTED) -> list[UUID]:
        """Return ids that have a history, ascending, whether or not their job's row still exists."""

    @abstractmethod
    def assets(self, job_ids: Collection[UUID]) -> Mapping[UUID, tuple[Asset, ...]]:
        """Return the assets of many jobs (at most 1,000) in one statement."""

    @abstractmethod
    def refusals(self, job_id: UUID) -> int:
        """Return how many stale writes to this job were refused."""

    @abstractmethod
    def workers(self) -> tuple[WorkerRecord, ...]:
        """Return the workers on record, latest seen first. Only under `System`."""


class OpenViews(Protocol):
    def __call__(self, scope: Scope) -> AbstractContextManager[Views]: ...


class Store(Protocol):
    """Where the ledger is: units of work and views of it, and its schema."""

    @property
    def schema(self) -> "Schema": ...

    def unit_of_work(self, scope: Scope) -> UnitOfWork: ...

    def views(self, scope: Scope) -> AbstractContextManager[Views]: ...

    def close(self) -> None: ...


class Wakeups(Protocol):
    """Tells waiting workers that there may be work. A hint: one that is lost costs a poll interval."""

    def wake(self, queues: Collection[str]) -> None: ...

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener`, from any thread, at each wake-up; returns what ends the subscription."""


class Inbox(Protocol):
    """Where a worker waits. The one thing that other threads, and signal handlers, may touch."""

    def put(self, message: Callable[[], None]) -> None:
        """Leave a call that the worker's loop makes when it comes round."""

    def get(self, timeout: timedelta) -> Callable[[], None] | None:
        """Return the next call, or None after `timeout`; zero does not wait."""


class Runner(Protocol):
    """Runs code somewhere else, `slots` pieces at a time, in the order given."""

    @property
    def slots(self) -> int: ...

    def submit(self, work: Callable[[], None]) -> None:
        """Run `work`, which never raises, when a slot is free; return at once."""

    def close(self) -> None:
        """Take no more work. What runs is not waited for, and does not keep the process alive."""


@frozen
class SchemaState:
    """The revision that a store is at (None: no schema) and the one that this Heimdex needs."""

    current: str | None
    head: str

    @property
    def is_current(self) -> bool:
        return self.current == self.head


class Schema(Protocol):
    """The shape of a store. Each call stands for itself; none belongs to a unit of work."""

    def upgrade(self, revision: str = "head") -> SchemaState: ...

    def downgrade(self, revision: str) -> SchemaState: ...

    def state(self) -> SchemaState: ...

    def check(self) -> SchemaState:
        """Return the state when it is the one that this Heimdex needs.

        Raises:
            SchemaMissing: there is no schema.
            SchemaMismatch: it is older or newer.
        """


class Files(Protocol):
    """The file system as `drive` sees it. Uris are `file://` uris, percent-encoded byte by byte."""

    def walk(self, uri: str) -> "Iterator[FoundFile]":
        """Yield every file below a folder, or the file itself: a folder's files by name, then its folders by name.

        Links are not followed out of the tree or in circles: a link to a folder is not entered, any other link is
        reported under its own uri. Reading what is reported may fail: sockets, FIFOs, devices and dangling links are
        reported, and so is a folder that cannot be listed, so that nothing is left out unseen.

        Raises:
            FileProblem: there is nothing at `uri`.
        """

    def read(self, uri: str) -> "Iterator[bytes]":
        """Yield a regular file's content in blocks of at most 1 MiB.

        Raises:
            FileProblem: it is not there, not readable or not a regular file.
        """

    def stat(self, uri: str) -> "FoundFile":
        """Return what the walk would report now.

        Raises:
            FileProblem: there is nothing at `uri`, or no way to it.
        """


@frozen
class FoundFile:
    """A file as the walk met it. `size` in bytes, `mtime_ns` in nanoseconds since 1970; both -1 where unreadable."""

    uri: str
    size: int
    mtime_ns: int


class MediaTypes(Protocol):
    def media_type(self, uri: str, head: bytes) -> str:
        """Return the media type by content (`head` is the first block or more than 4 KiB of it).

        The name is a hint between kinds of text, and between formats that begin alike.
        """

    def dimensions(self, head: bytes) -> tuple[int, int] | None:
        """Return an image's width and height in pixels, where the format tells them in `head`, its first block."""
