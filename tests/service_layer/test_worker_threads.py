"""The worker with real threads and a real inbox, on memory: few tests, since the others need no thread."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from uuid import UUID

import pytest

from heimdex.bootstrap import Application, bootstrap
from heimdex.config import Settings
from heimdex.domain.commands import CreateJobs
from heimdex.domain.new_job import NewJob
from heimdex.domain.scope import System, Tenant
from heimdex.domain.transitions import Status
from heimdex.service_layer.job_context import JobContext
from heimdex.service_layer.job_registry import JobRegistry
from heimdex.service_layer.worker import Worker
from tests.service_layer.worker_harness import Payload, registry

TENANT = Tenant(UUID(int=1), actor="user@example.com")
PATIENCE = 20.0


class Ran:
    """Counts what job functions do in their threads; tells when it is enough."""

    def __init__(self, enough: int) -> None:
        self.numbers: list[int] = []
        self.threads: set[str] = set()
        self.enough = threading.Event()
        self._wanted = enough
        self._lock = threading.Lock()

    def note(self, payload: Payload, ctx: JobContext) -> int:
        with self._lock:
            self.numbers.append(payload["n"])
            self.threads.add(threading.current_thread().name)
            if len(self.numbers) == self._wanted:
                self.enough.set()
        return int(payload["n"])


@contextmanager
def application(jobs: JobRegistry, *, grace_seconds: float = 5) -> Iterator[Application]:
    settings = Settings(database_url="memory://", concurrency=4, poll_seconds=0.05, grace_seconds=grace_seconds)
    with bootstrap(settings, jobs=jobs) as app:
        yield app


@contextmanager
def working(worker: Worker) -> Iterator[None]:
    """Run a worker in a thread of its own; stop it from here."""
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(worker.run()))
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join(PATIENCE)
    assert codes == [0]


def create(app: Application, count: int) -> None:
    app.handle(CreateJobs(scope=TENANT, new_jobs=[NewJob("note", {"n": n}) for n in range(count)]))


def counts(app: Application) -> dict[Status, int]:
    with app.views(System(actor="test", reason="tests look at everything")) as views:
        return {status: count for status, count in views.statistics().by_status.items() if count}


def test_two_hundred_jobs_through_four_threads_all_succeed() -> None:
    ran = Ran(200)
    with application(registry(note=ran.note)) as app:
        with working(app.worker()):
            create(app, 200)
            assert ran.enough.wait(PATIENCE)

        assert counts(app) == {Status.SUCCEEDED: 200}
    assert sorted(ran.numbers) == list(range(200))
    assert len(ran.threads) <= 4


def test_two_workers_share_the_work_and_no_job_runs_twice() -> None:
    ran = Ran(100)
    with application(registry(note=ran.note)) as app:
        create(app, 100)
        with ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(working(app.worker(concurrency=2)))
            assert ran.enough.wait(PATIENCE)

        assert counts(app) == {Status.SUCCEEDED: 100}
    assert sorted(ran.numbers) == list(range(100))


def test_a_job_function_may_stop_its_own_worker_and_still_succeeds() -> None:
    workers: list[Worker] = []

    def note(payload: Payload, ctx: JobContext) -> None:
        workers[0].stop()

    with application(registry(note=note)) as app:
        create(app, 1)
        workers.append(app.worker())

        assert workers[0].run() == 0
        assert counts(app) == {Status.SUCCEEDED: 1}


@pytest.mark.parametrize("raised", [SystemExit("enough"), KeyboardInterrupt(), GeneratorExit()])
def test_a_thread_survives_whatever_its_function_raises(raised: BaseException) -> None:
    ran = Ran(1)

    def note(payload: Payload, ctx: JobContext) -> None:
        if payload["n"] == 0:
            raise raised
        ran.note(payload, ctx)

    with application(registry(note=note)) as app:
        create(app, 2)
        with working(app.worker(concurrency=1)):
            assert ran.enough.wait(PATIENCE)

        assert counts(app) == {Status.SUCCEEDED: 1, Status.QUEUED: 1}


def test_a_worker_that_is_stopped_while_a_function_hangs_does_not_wait_for_it() -> None:
    started, release = threading.Event(), threading.Event()

    def note(payload: Payload, ctx: JobContext) -> None:
        started.set()
        release.wait(PATIENCE)

    with application(registry(note=note)) as app:
        create(app, 1)
        worker = app.worker()
        with working(worker):
            assert started.wait(PATIENCE)
            worker.stop()

        assert counts(app) == {Status.QUEUED: 1}
    release.set()
