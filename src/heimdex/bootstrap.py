"""The composition root: from settings to an application. Nothing is built before somebody calls it."""

import os
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from random import SystemRandom
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar
from uuid import UUID

from attrs import evolve, frozen

from heimdex.adapters.async_bus import AsyncBus
from heimdex.adapters.batches import BatchedCreation
from heimdex.adapters.clock import SystemClock, sleep
from heimdex.adapters.files import LocalFiles
from heimdex.adapters.ids import UuidSeven
from heimdex.adapters.job_verbs import Tools
from heimdex.adapters.threads import QueueInbox, ThreadRunner
from heimdex.adapters.wakeups import LocalWakeups
from heimdex.config import Settings
from heimdex.domain import commands, new_job
from heimdex.domain.commands import Command
from heimdex.domain.errors import InvalidSetting
from heimdex.domain.new_job import NewJob
from heimdex.domain.results import CreatedBatch
from heimdex.domain.rules import check_whole
from heimdex.domain.scope import Scope
from heimdex.service_layer import handlers, operating
from heimdex.service_layer.job_registry import JobRegistry
from heimdex.service_layer.message_bus import Handlers, MessageBus
from heimdex.service_layer.pace import WorkerSettings
from heimdex.service_layer.ports import (
    Clock,
    Files,
    Ids,
    NoRenewer,
    Random,
    Schema,
    Sleep,
    StartUnitOfWork,
    Store,
    UnitOfWork,
    Views,
    Wakeups,
)
from heimdex.service_layer.retry import RetryPolicy, RetryTransient, once
from heimdex.service_layer.worker import Beside, Worker, WorkerTools

if TYPE_CHECKING:
    from heimdex.adapters.http_client import HttpClient
    from heimdex.adapters.http_ledger import HttpLedger

JOBS_GROUP = "heimdex.jobs"
"""The entry-point group through which an installed package offers a JobRegistry, or what returns one."""

BATCH = 2_000
"""How many jobs `create_in_batches` creates in one unit of work: so many that its round trips no longer count."""

_MOST_IN_A_BATCH = 10_000

Answer = TypeVar("Answer")


@frozen(kw_only=True)
class Application:
    """Heimdex put together. Use it as a context manager, or close it.

    Args:
        jobs: the job functions that this process knows; None: it creates jobs of any type and runs none.
        patient_bus: tries a command again after a transient failure of the database.
    """

    settings: Settings
    jobs: JobRegistry | None
    files: Files
    retry_transient: RetryTransient
    patient_bus: MessageBus
    store: Store
    clock: Clock
    ids: Ids
    wakeups: Wakeups

    @property
    def schema(self) -> Schema:
        return self.store.schema

    def unit_of_work(self, scope: Scope) -> UnitOfWork:
        """Return a unit of work of a scope, to be used in a `with` block: the place of the guide's `get_db()`."""
        return self.store.unit_of_work(scope)

    def join(self, session_or_connection: object, scope: Scope) -> UnitOfWork:
        """Return a unit of work inside the transaction of your own SQLAlchemy Session or Connection.

        Your commit, after the block, is the only one. For an AsyncSession, call this inside `run_sync`.
        """
        return self.store.join(session_or_connection, scope)

    def views(self, scope: Scope) -> AbstractContextManager[Views]:
        """Return read-only questions of a scope, to be used in a `with` block."""
        return self.store.views(scope)

    def handle(self, command: Command[Answer]) -> Answer:
        """Run a command; after a transient failure of the database, again (of a bulk, the step that failed)."""
        return self.patient_bus.handle(command)

    def create_in_batches(
        self, scope: Scope, new_jobs: Iterable[NewJob], *, org_id: UUID | None = None, size: int = BATCH
    ) -> Iterator[CreatedBatch]:
        """Create very many jobs, batch by batch, and yield each batch once it is committed.

        Each batch is a unit of work, created as a whole or not at all, and tried again as by `handle`; the whole is
        not atomic. At most four batches are held at once, and `new_jobs` is asked for more only while the answer is
        taken. On PostgreSQL two batches are written side by side, so that jobs of neighbouring ones may be claimed
        in another order than that given.

        What was yielded is committed. After an error no further batch is begun; those under way are yielded, and then
        it is raised: nothing else is committed. Give jobs idempotency keys, and the same call goes on where it
        stopped. Whoever stops taking answers does not learn of those under way.

        Args:
            org_id: only under `System`, where it is required.
            size: jobs in a batch, from 1 to 10,000; fewer where payloads are large, since a batch is one statement.

        Raises:
            NestedUnitOfWork: a unit of work is open in this thread.
            others: as `uow.jobs.create_many`; a note says in which batch.
        """
        return BatchedCreation(self.patient_bus, ids=self.ids, side_by_side=self.store.writes_side_by_side).create(
            scope, new_jobs, org_id=org_id, size=check_whole("size", size, 1, _MOST_IN_A_BATCH)
        )

    @property
    def aio(self) -> AsyncBus:
        """What async callers use: `await app.aio.create(scope, type, payload)`, `await app.aio.handle(command)`."""
        return AsyncBus(self.patient_bus)

    def worker(
        self,
        *,
        name: str | None = None,
        concurrency: int | None = None,
        queues: Collection[str] | None = None,
    ) -> Worker:
        """Return a worker for this application's jobs. It runs when its `run` or `step` is called.

        Args:
            name: for people; the host and process id if None.
            queues: every queue if None.

        Raises:
            InvalidSetting: this application knows no job functions.
            InvalidInput: a concurrency that is not from 1 to 1,000.
        """
        if self.jobs is None:
            raise InvalidSetting("HEIMDEX_JOBS", None, "name the JobRegistry that a worker runs, as module:attribute")
        slots = self.settings.concurrency if concurrency is None else check_whole("concurrency", concurrency, 1, 1_000)
        settings = evolve(worker_settings(self.settings), queues=None if queues is None else frozenset(queues))
        # What the loop asks for must not wait for what job functions do; a statement leaves time to renew a lease.
        start_uow, close = self.store.reserve(settings.lease / 3)
        # Those that run or wait here, and as many whose ends are not yet written.
        most = 2 * max(settings.batch, slots)
        # It takes the machine's time, so that with another clock the loop renews all by itself.
        on_time = isinstance(self.clock, SystemClock)
        bus = MessageBus(bound_handlers(start_uow), ids=self.ids, retry=once)
        beside = Beside(bus, ThreadRunner(1, name="heimdex-claims")) if self.store.writes_side_by_side else None
        tools = WorkerTools(
            bus=bus,
            patient_bus=self.patient_bus,
            clock=self.clock,
            inbox=QueueInbox(),
            runner=ThreadRunner(slots),
            wakeups=self.wakeups,
            beside=beside,
            renewer=self.store.renewer(lease=settings.lease, every=settings.renew, most=most)
            if on_time
            else NoRenewer(),
            close=close,
        )
        return Worker(self.ids(), name or f"{socket.gethostname()}:{os.getpid()}", self.jobs, settings, tools)

    def close(self) -> None:
        self.wakeups.close()
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def bootstrap(
    settings: Settings,
    *,
    jobs: JobRegistry | None = None,
    clock: Clock | None = None,
    ids: Ids | None = None,
    random: Random | None = None,
    sleep: Sleep = sleep,
) -> Application:
    """Put an application together. No connection is made yet.

    Args:
        jobs: what this process knows to run; None accepts jobs of any type and runs none.
        clock: like `ids`, `random` and `sleep`, for tests that give their own; None is this machine's.

    Raises:
        InvalidSetting: the database URL names nothing that Heimdex can use.
    """
    clock = clock or SystemClock()
    ids, random = ids or UuidSeven(), random or SystemRandom().random
    specify = new_job.specify if jobs is None else jobs.specify
    tools = Tools(specify=specify, ids=ids, random=random, wake=lambda _: None)
    store, wakeups = _open_store(settings, clock=clock, tools=tools)
    retry = RetryTransient(_retry_policy(settings), sleep=sleep, random=random)
    bound = bound_handlers(store.unit_of_work, store.unit_of_one_write)
    return Application(
        settings=settings,
        jobs=jobs,
        files=LocalFiles(),
        retry_transient=retry,
        patient_bus=MessageBus(bound, ids=ids, retry=retry),
        store=store,
        clock=clock,
        ids=ids,
        wakeups=wakeups,
    )


def connect(url: str, token: str | None) -> "HttpClient":
    """Return a client of the HTTP API at a URL, for the organisation that the token names. Nothing is sent yet.

    Raises:
        ModuleNotFoundError: the extra `client` is not installed.
    """
    from heimdex.adapters.http_client import HttpClient  # noqa: PLC0415 - an extra

    return HttpClient(url, token)


def connect_ledger(url: str, token: str | None) -> "HttpLedger":
    """Return the ledger behind an HTTP API: as `connect`, for commands and questions instead of single calls."""
    from heimdex.adapters.http_ledger import HttpLedger  # noqa: PLC0415 - as above

    return HttpLedger(connect(url, token))


def bound_handlers(start_uow: StartUnitOfWork, start_one_write: StartUnitOfWork | None = None) -> Handlers:
    """Return the handler of every command, with the units of work of one store."""
    create_jobs = partial(handlers.create_jobs, start_uow=start_uow, start_one_write=start_one_write or start_uow)
    bound: Mapping[type[Command[object]], Callable[..., object]] = {
        commands.CreateJobs: create_jobs,
        commands.CreateChildren: partial(handlers.create_children, start_uow=start_uow),
        commands.CancelJob: partial(operating.cancel_job, start_uow=start_uow),
        commands.RetryJob: partial(operating.retry_job, start_uow=start_uow),
        commands.CancelJobs: partial(operating.cancel_jobs, start_uow=start_uow),
        commands.RetryJobs: partial(operating.retry_jobs, start_uow=start_uow),
        commands.PauseQueue: partial(operating.pause_queue, start_uow=start_uow),
        commands.ResumeQueue: partial(operating.resume_queue, start_uow=start_uow),
        commands.Prune: partial(operating.prune, start_uow=start_uow),
        commands.EraseOrg: partial(operating.erase_org, start_uow=start_uow),
        commands.ClaimJobs: partial(handlers.claim_jobs, start_uow=start_uow),
        commands.ClaimOneByOne: partial(handlers.claim_one_by_one, start_uow=start_uow),
        commands.FinishJobs: partial(handlers.finish_jobs, start_uow=start_uow),
        commands.ReportJobs: partial(handlers.report_jobs, start_uow=start_uow),
        commands.RenewLeases: partial(handlers.renew_leases, start_uow=start_uow),
        commands.FindCancelRequests: partial(handlers.find_cancel_requests, start_uow=start_uow),
        commands.ExpireLeases: partial(handlers.expire_leases, start_uow=start_uow),
        commands.ExpireOneByOne: partial(handlers.expire_one_by_one, start_uow=start_uow),
        commands.WasCommitted: partial(handlers.was_committed, start_uow=start_uow),
        commands.MarkWorkerSeen: partial(handlers.mark_worker_seen, start_uow=start_uow),
        commands.MarkWorkerGone: partial(handlers.mark_worker_gone, start_uow=start_uow),
    }
    return bound


def worker_settings(settings: Settings) -> WorkerSettings:
    """Return how the workers of these settings work."""
    return WorkerSettings(
        batch=settings.batch,
        lease=_length(settings.lease_seconds),
        renew=_length(settings.renew_seconds),
        sweep=_length(settings.sweep_seconds),
        poll=_length(settings.poll_seconds),
        grace=_length(settings.grace_seconds),
    )


def discover_jobs(settings: Settings) -> JobRegistry:
    """Return the job functions of the setting HEIMDEX_JOBS and of every installed package that offers some.

    Raises:
        InvalidSetting: what is named cannot be imported, or is no JobRegistry.
        InvalidInput: a type is offered twice.
    """
    found = JobRegistry()
    if settings.jobs is not None:
        found.include(_registry(settings.jobs, partial(_load, settings.jobs)))
    for offer in entry_points(group=JOBS_GROUP):
        found.include(_registry(offer.value, offer.load))
    return found


def drive_jobs() -> JobRegistry:
    """Return the jobs that ingest files, on this machine's file system; none without the extra `drive`."""
    if find_spec("puremagic") is None or find_spec("imagesize") is None:
        return JobRegistry()
    # Here, so that a worker of other jobs does not load what only these need.
    from heimdex.adapters.media_types import ContentMediaTypes  # noqa: PLC0415 - an extra
    from heimdex.service_layer import drive  # noqa: PLC0415 - only with the extra

    return drive.drive_jobs(LocalFiles(), ContentMediaTypes())


@contextmanager
def embedded_postgres() -> Iterator[tuple[str, Path]]:
    """Give the URL of a PostgreSQL server that ends with the block, and the folder that it is in.

    It keeps what is committed as any other does: its speed is that of a server in use. To be called in the main thread.

    Raises:
        ModuleNotFoundError: the extra `embedded` is not installed.
        CapabilityMissing, DatabaseUnavailable: it cannot run here; it does not start.
    """
    from heimdex.adapters.embedded_postgres import EmbeddedPostgres  # noqa: PLC0415 - an extra

    with EmbeddedPostgres() as server:
        yield server.url, server.folder


def _open_store(settings: Settings, *, clock: Clock, tools: Tools) -> tuple[Store, Wakeups]:
    if settings.database_url.startswith("memory:"):
        from heimdex.adapters.memory_ledger import MemoryLedger  # noqa: PLC0415 - who has a database needs none of it
        from heimdex.adapters.memory_store import MemoryStore  # noqa: PLC0415 - as above

        local = LocalWakeups()
        return MemoryLedger(MemoryStore(clock), tools=tools, wakeups=local), local
    # Here, so that memory alone loads neither SQLAlchemy nor a driver.
    from heimdex.adapters.database import EngineSettings  # noqa: PLC0415 - as above
    from heimdex.adapters.sql_store import SqlStore, open_wakeups  # noqa: PLC0415 - as above

    engine = EngineSettings(
        pool_size=settings.pool_size,
        max_overflow=settings.max_overflow,
        pool_timeout=_length(settings.pool_timeout_seconds),
        pool_recycle=_length(settings.pool_recycle_seconds),
        connect_timeout=_length(settings.connect_timeout_seconds),
        application_name=settings.application_name,
        statement_timeout=_length(settings.statement_timeout_seconds),
        lock_timeout=_length(settings.lock_timeout_seconds),
        wall_required=settings.env == "production",
    )
    wakeups = open_wakeups(settings.database_url, engine)
    return SqlStore(settings.database_url, engine, clock=clock, tools=tools, wakeups=wakeups), wakeups


def _retry_policy(settings: Settings) -> RetryPolicy:
    return RetryPolicy(
        tries=settings.retry_tries,
        shortest=_length(settings.retry_shortest_seconds),
        longest=_length(settings.retry_longest_seconds),
    )


def _load(place: str) -> object:
    module, _, attribute = place.partition(":")
    found: object = import_module(module)
    for name in attribute.split("."):
        found = getattr(found, name)
    return found


def _registry(place: str, load: Callable[[], object]) -> JobRegistry:
    try:
        found = load()
        found = found() if callable(found) else found
    except (Exception, SystemExit) as error:
        problem = f"{type(error).__name__}: {error}"
        raise InvalidSetting("HEIMDEX_JOBS", place, f"name one that can be imported ({problem})") from error
    if not isinstance(found, JobRegistry):
        raise InvalidSetting("HEIMDEX_JOBS", place, "name a JobRegistry, or a function that returns one")
    return found


def _length(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)
