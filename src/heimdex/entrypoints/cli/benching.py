"""What `heimdex bench` does."""

import logging
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from queue import Empty, SimpleQueue
from statistics import median
from types import FrameType
from typing import TYPE_CHECKING
from uuid import UUID

from attrs import frozen
from rich.progress import Progress

from heimdex.bootstrap import Application, bootstrap
from heimdex.config import Settings
from heimdex.domain.commands import CreateJobs, EraseOrg
from heimdex.domain.errors import WorkerHung
from heimdex.domain.job import Job
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.json_text import JsonValue
from heimdex.domain.new_job import NewJob
from heimdex.domain.operations import Removed
from heimdex.domain.rules import MIN_PRIORITY
from heimdex.domain.scope import Tenant
from heimdex.entrypoints.cli.draining import unfinished
from heimdex.entrypoints.cli.opening import check_kept, every_organisation, opened, scope_for, settings_of
from heimdex.entrypoints.cli.options import Asked
from heimdex.entrypoints.worker_process import run_worker
from heimdex.service_layer.job_context import JobContext
from heimdex.service_layer.job_registry import JobRegistry
from heimdex.service_layer.ports import Views
from heimdex.service_layer.worker import Worker

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event, Semaphore

SOURCE = "heimdex bench"
NOOP = "heimdex.bench"
PICKUP = "heimdex.bench.pickup"

_BULK = 1_000
_PAGE = 500
_MOST_SINGLE = 500
_MOST_PICKUPS = 20
_PICKUP_SECONDS = 10.0
_QUIET_SECONDS = 0.05
_LOOK_SECONDS = 0.2
_START_SECONDS = 60.0
_DRAIN_SECONDS = 600.0
_PAYLOAD: JsonValue = {"text": "x" * 100}


@frozen(kw_only=True)
class Wanted:
    """What was asked for. `batch` None is the setting's."""

    jobs: int
    workers: int
    batch: int | None
    keep: bool


@frozen(kw_only=True)
class Figure:
    what: str
    jobs: int
    seconds: float
    per_second: float


@frozen(kw_only=True)
class Benched:
    """What was measured. `removed` is None where it was to be kept, `unfinished` what the drain left."""

    database_url: str
    org_id: UUID
    queue: str
    workers: int
    batch: int
    concurrency: int
    figures: Sequence[Figure]
    pickups: int
    pickup_median_ms: float | None
    pickup_longest_ms: float | None
    unfinished: int
    removed: Removed | None


@frozen
class _Ground:
    """Where a bench takes place: an application, and an organisation and a queue that nothing else uses."""

    heimdex: Application
    settings: Settings
    scope: Tenant
    queue: str
    arrivals: SimpleQueue[float]

    def new(self, type: str) -> NewJob:
        # The lowest, so that they stand behind all that is real.
        return NewJob(type, _PAYLOAD, queue=self.queue, priority=MIN_PRIORITY)

    def worker(self) -> Worker:
        return self.heimdex.worker(queues=[self.queue])


def bench(asked: Asked, wanted: Wanted, bars: Progress) -> Benched:
    """Measure, and remove what was made for it.

    Raises:
        KeyboardInterrupt: a signal came first; what was made is removed all the same.
    """
    settings = settings_of(asked)
    if wanted.batch is not None:
        settings = settings.changed(batch=wanted.batch)
    if wanted.workers > 1:
        check_kept(asked, settings, "name a database that is kept: no other process can work on this memory")
    arrivals: SimpleQueue[float] = SimpleQueue()
    with _terminated_as_interrupted(), opened(asked, settings, bench_jobs(arrivals)) as heimdex:
        heimdex.schema.check()
        org_id = heimdex.ids()
        ground = _Ground(heimdex, settings, scope_for(org_id, SOURCE), f"bench-{org_id}", arrivals)
        removed = Removed()
        try:
            pickups = _pickup(ground, bars)
            created = _create(ground, wanted.jobs, bars)
            drained, left = _drain(ground, wanted, bars)
        finally:
            if not wanted.keep:
                removed = _remove(ground, bars)
    return Benched(
        database_url=str(settings.shown()["database_url"]),
        org_id=org_id,
        queue=ground.queue,
        workers=wanted.workers,
        batch=settings.batch,
        concurrency=settings.concurrency,
        figures=[*created, *drained],
        pickups=len(pickups),
        pickup_median_ms=median(pickups) if pickups else None,
        pickup_longest_ms=max(pickups, default=None),
        unfinished=left,
        removed=None if wanted.keep else removed,
    )


def bench_jobs(arrivals: SimpleQueue[float] | None = None) -> JobRegistry:
    """Return job functions that do nothing. One of them says in `arrivals` when it was called."""
    jobs = JobRegistry()

    @jobs.register(NOOP)
    def noop(payload: dict[str, JsonValue], ctx: JobContext) -> None: ...

    @jobs.register(PICKUP)
    def arrive(payload: dict[str, JsonValue], ctx: JobContext) -> None:  # noqa: ARG001 - what a job function gets
        if arrivals is not None:
            arrivals.put(time.monotonic())

    return jobs


def work_beside(settings: Settings, queue: str, ready: "Semaphore", go: "Event") -> None:
    """Be another worker process: say that it is ready, wait, and work until told to stop or left alone."""
    # What there is to warn of, the first process says too.
    logging.getLogger("heimdex").setLevel(logging.ERROR)
    with bootstrap(settings, jobs=bench_jobs()) as heimdex:
        worker = heimdex.worker(queues=[queue])
        parent = multiprocessing.parent_process()

        def stop_if_alone() -> None:
            if parent is None or not parent.is_alive():
                worker.stop()

        ready.release()
        if go.wait(_START_SECONDS):
            run_worker(worker, stop_if_alone)


def _pickup(ground: _Ground, bars: Progress) -> list[float]:
    """Return for each of some jobs, in milliseconds, how long it took from before its creation to its function."""
    bar = bars.add_task("pickup", total=_MOST_PICKUPS)
    found: list[float] = []

    def create_and_wait(creator: Application, worker: Worker) -> None:
        ends_at = time.monotonic() + _PICKUP_SECONDS
        while len(found) < _MOST_PICKUPS and time.monotonic() < ends_at and not worker.stopped:
            time.sleep(_QUIET_SECONDS)  # the end of the one before is written meanwhile
            began = time.monotonic()
            creator.handle(CreateJobs(scope=ground.scope, new_jobs=[ground.new(PICKUP)]))
            arrived_at = _arrived_at(ground, worker, ends_at)
            if arrived_at is None:
                return
            found.append((arrived_at - began) * 1_000)
            bars.advance(bar)

    with _creator(ground) as creator:
        worker = ground.worker()
        _run_beside(worker, lambda: create_and_wait(creator, worker))
    bars.remove_task(bar)
    return found


def _arrived_at(ground: _Ground, worker: Worker, ends_at: float) -> float | None:
    while time.monotonic() < ends_at and not worker.stopped:
        try:
            return ground.arrivals.get(timeout=_LOOK_SECONDS)
        except Empty:
            continue
    return None


def _creator(ground: _Ground) -> AbstractContextManager[Application]:
    """Return an application that reaches the worker as one in another process would; there is one memory only."""
    if not ground.settings.kept:
        return nullcontext(ground.heimdex)
    return bootstrap(ground.settings, jobs=ground.heimdex.jobs)


def _create(ground: _Ground, jobs: int, bars: Progress) -> list[Figure]:
    bar = bars.add_task("creating", total=jobs)
    single = min(jobs // 10, _MOST_SINGLE)

    def create(count: int, at_once: int) -> Iterator[None]:
        for start in range(0, count, at_once):
            size = min(at_once, count - start)
            ground.heimdex.handle(CreateJobs(scope=ground.scope, new_jobs=[ground.new(NOOP)] * size))
            bars.advance(bar, size)
            yield

    figures = []
    for what, count, at_once in (("create, one by one", single, 1), ("create, in bulk", jobs - single, _BULK)):
        began = time.monotonic()
        for _ in create(count, at_once):
            pass
        figures.append(_figure(what, count, time.monotonic() - began))
    bars.remove_task(bar)
    return figures


def _drain(ground: _Ground, wanted: Wanted, bars: Progress) -> tuple[list[Figure], int]:
    """Run what was created; return how fast, by the ledger's own times, and how many jobs are left."""
    bar = bars.add_task("running", total=wanted.jobs)
    left = wanted.jobs

    def watch(worker: Worker) -> None:
        nonlocal left
        ends_at = time.monotonic() + _DRAIN_SECONDS
        while not worker.stopped and time.monotonic() < ends_at:
            with ground.heimdex.views(ground.scope) as views:
                left = unfinished(views.statistics(), NOOP)
            bars.update(bar, completed=wanted.jobs - left)
            if not left:
                return
            time.sleep(_LOOK_SECONDS)

    with _workers_beside(ground, wanted.workers - 1) as go:
        worker = ground.worker()
        go()
        _run_beside(worker, lambda: watch(worker))
    bars.remove_task(bar)
    if left:
        return [], left
    with ground.heimdex.views(ground.scope) as views:
        runs = [(job.started_at, job.finished_at) for job in _jobs(views, JobFilter(type=NOOP, queue=ground.queue))]
    begun, ended = [start for start, _ in runs if start], [end for _, end in runs if end]
    return [_figure("run", len(runs), (max(ended) - min(begun)).total_seconds())], left


def _jobs(views: Views, which: JobFilter) -> Iterator[Job]:
    after: UUID | None = None
    while jobs := views.page(which, after=after, limit=_PAGE).jobs:
        yield from jobs
        after = jobs[-1].id


def _remove(ground: _Ground, bars: Progress) -> Removed:
    bars.add_task("removing", total=None)
    scope = every_organisation(SOURCE, "what a bench made is removed as a whole")
    command = EraseOrg(scope=scope, org_id=ground.scope.org_id, reason="made by heimdex bench")
    return ground.heimdex.handle(command)


def _figure(what: str, jobs: int, seconds: float) -> Figure:
    return Figure(what=what, jobs=jobs, seconds=seconds, per_second=jobs / max(seconds, 1e-6))


def _run_beside(worker: Worker, what: Callable[[], None]) -> None:
    """Run a worker in this thread while `what` is done in another, and then stop it.

    Raises:
        KeyboardInterrupt: a signal ended it before.
        WorkerHung: functions that hang did.
    """

    def then_stop() -> None:
        try:
            what()
        finally:
            worker.stop()

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(then_stop)
        signaled = run_worker(worker)
    if signaled is not None:
        raise KeyboardInterrupt
    if worker.exit_code:
        raise WorkerHung(worker.name)
    done.result()


@contextmanager
def _workers_beside(ground: _Ground, count: int) -> Iterator[Callable[[], None]]:
    """Have other worker processes for as long as the block lasts; they begin together when what it gives is called."""
    context = multiprocessing.get_context("spawn")
    ready, go = context.Semaphore(0), context.Event()
    with ExitStack() as ending:
        for _ in range(count):
            process = context.Process(target=work_beside, args=(ground.settings, ground.queue, ready, go), daemon=True)
            process.start()
            ending.callback(process.join)
            ending.callback(process.terminate)
        for _ in range(count):
            if not ready.acquire(timeout=_START_SECONDS):
                raise WorkerHung("heimdex bench: another worker process")
        yield go.set


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, so that what was made is removed."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
