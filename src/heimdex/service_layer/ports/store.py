"""Where the ledger is: its units of work, its views and its schema."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from enum import StrEnum
from types import TracebackType
from typing import Protocol, Self
from uuid import UUID

from attrs import field, frozen

from heimdex.domain.asset import Asset
from heimdex.domain.events import JobEvent
from heimdex.domain.job import Job
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.operations import Erasure, QueueCounts
from heimdex.domain.scope import Scope
from heimdex.domain.transitions import Status
from heimdex.domain.verification_model import Event
from heimdex.domain.waiting import Blocker
from heimdex.domain.worker import WorkerRecord
from heimdex.service_layer.ports.machine import Renewer
from heimdex.service_layer.ports.repositories import (
    MAX_LISTED,
    AssetRepository,
    JobRepository,
    MaintenanceRepository,
    QueueRepository,
    WorkerRepository,
)

MAX_FOLLOWED = 100
"""How many histories can be followed in one question."""

WORKER_ALIVE_FOR = timedelta(seconds=60)
"""How long after its last sign a worker counts as alive in statistics."""


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

    @property
    @abstractmethod
    def queues(self) -> QueueRepository: ...

    @property
    @abstractmethod
    def maintenance(self) -> MaintenanceRepository: ...

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


@frozen
class Recorded:
    """What a ledger holds of one job: its row, None where there is none, and its history in the order of `seq`.

    `unreadable` says why the row or an event cannot be read, in words that hold nothing of it; then neither is here.
    """

    job_id: UUID
    job: Job | None
    events: Sequence[Event]
    unreadable: str | None = None


class Views(ABC):
    """Read-only questions. A view sees what was committed before it asks and locks nothing."""

    @abstractmethod
    def statistics(self) -> Statistics: ...

    @abstractmethod
    def page(self, which: JobFilter, *, after: UUID | None = None, limit: int = 100) -> Page:
        """Return jobs by descending id, which is newest first; `after` is the last id of the page before."""

    @abstractmethod
    def count(self, which: JobFilter, statuses: Collection[Status] = tuple(Status)) -> int:
        """Return how many jobs are among `which` and in one of `statuses`."""

    @abstractmethod
    def queues(self) -> tuple[QueueCounts, ...]:
        """Return the queues that have jobs waiting or running, and the paused ones, by name."""

    @abstractmethod
    def explain_waiting(self, job_id: UUID) -> tuple[Blocker, ...]:
        """Return why a job is not running.

        Raises:
            JobNotFound: it does not exist in this scope.
        """

    @abstractmethod
    def erasures(self) -> tuple[Erasure, ...]:
        """Return what is left of erased organisations, latest first. Only under `System`."""

    @abstractmethod
    def find(self, job_id: UUID) -> Job | None: ...

    @abstractmethod
    def history(self, job_id: UUID) -> tuple[JobEvent, ...]:
        """Return a job's events in the order of `seq`; they outlive the job's row."""

    @abstractmethod
    def histories(self, job_ids: Collection[UUID]) -> Mapping[UUID, tuple[JobEvent, ...]]:
        """Return the histories of many jobs (at most 1,000) in one statement; an unknown id has an empty one."""

    @abstractmethod
    def events_after(self, seen: Mapping[UUID, int], *, limit: int = MAX_LISTED) -> Mapping[UUID, tuple[JobEvent, ...]]:
        """Return what follows in many histories (at most 100): of each job the events above a `seq`, in order.

        Args:
            seen: for each job the last `seq` that is known, 0 for none.
            limit: events in all, of the jobs with the lowest ids first; of each job they begin with the next one.

        Returns:
            An entry for every job that was asked about, empty where nothing follows or nothing may be seen.
        """

    @abstractmethod
    def history_ids(self, *, after: UUID | None = None, limit: int = MAX_LISTED) -> list[UUID]:
        """Return ids that have a history, ascending, whether or not their job's row still exists."""

    @abstractmethod
    def ledger(self, *, after: UUID | None = None) -> Iterator[Recorded]:
        """Yield every job with its history, by ascending id above `after`, page by page.

        No more than a page is held at once, but for one job's history, which is held as a whole.
        Rows without a history and histories without a row are among them. Each job is as it was at one moment, later
        ones at later moments; no transaction is open between two pages.
        """

    @abstractmethod
    def assets(self, job_ids: Collection[UUID]) -> Mapping[UUID, tuple[Asset, ...]]:
        """Return the assets of many jobs (at most 1,000) in one statement."""

    @abstractmethod
    def refusals(self, job_id: UUID) -> int:
        """Return how many stale writes to this job were refused."""

    @abstractmethod
    def workers(self) -> tuple[WorkerRecord, ...]:
        """Return the workers on record, latest seen first, at most 1,000. Only under `System`."""


class OpenViews(Protocol):
    def __call__(self, scope: Scope) -> AbstractContextManager[Views]: ...


class Store(Protocol):
    """Where the ledger is: units of work and views of it, and its schema."""

    @property
    def schema(self) -> "Schema": ...

    def unit_of_work(self, scope: Scope) -> UnitOfWork: ...

    def unit_of_one_write(self, scope: Scope) -> UnitOfWork:
        """Return a unit of work that creates one job and ends: a store may commit with that write.

        Then the write raises CommitOutcomeUnknown, and an exception after it undoes nothing.
        """
        return self.unit_of_work(scope)

    def join(self, session_or_connection: object, scope: Scope) -> UnitOfWork:
        """Return a unit of work inside the transaction of a caller's own Session or Connection.

        It is a savepoint: an exception undoes it alone, and what it wrote is kept by the caller's commit, after its
        block. Workers are woken when a Session has committed; they find what came through a Connection by polling.

        Raises:
            CapabilityMissing: this store is in no database.
            InvalidInput: it is neither, or of another kind of database, or has no transactions.
        """

    def reserve(self, longest: timedelta) -> tuple[StartUnitOfWork, Callable[[], None]]:
        """Return units of work on two connections that nobody else can use, and what closes them.

        Neither a statement there nor a wait for a lock takes longer than `longest`. A store whose writers wait for
        each other in any case returns its own units of work.
        """

    @property
    def writes_side_by_side(self) -> bool:
        """Whether two units of work can write at the same time, or one waits for the other."""

    def renewer(self, *, lease: timedelta, every: timedelta, most: int) -> Renewer:
        """Return what renews the leases of one worker beside it, at most `most` at a time. It takes the machine's time.

        A lease is renewed before its last renewal is `every` old.
        """

    def views(self, scope: Scope) -> AbstractContextManager[Views]: ...

    def close(self) -> None: ...


@frozen
class SchemaState:
    """The revision that a store is at (None: no schema) and the one that this Heimdex needs."""

    current: str | None
    head: str

    @property
    def is_current(self) -> bool:
        return self.current == self.head


class Duty(StrEnum):
    """What a login of the database does: serve organisations, work for all of them, or both."""

    API = "api"
    WORKER = "worker"
    BOTH = "both"


@frozen
class RolesMade:
    """The roles that did not exist, the tables whose rows policies now keep apart, and the login that was let in."""

    roles: tuple[str, ...]
    tables: tuple[str, ...]
    login: str | None


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
            WallMissing: production needs row-level security, and it does not stand for this login.
        """

    def make_roles(self, login: str | None = None, *, duty: Duty = Duty.BOTH) -> RolesMade:
        """Make roles, grants and row-level security where they are missing, and let a login that exists take part.

        Raises:
            CapabilityMissing: this store has no roles.
            SchemaMissing: there are no tables yet.
            InvalidInput: there is no such login.
            DatabaseUnavailable: who is connected may not make roles, or does not own the tables.
        """
