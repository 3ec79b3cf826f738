"""Signals stop a worker: what runs gets its grace, and a second signal ends that."""

import os
import signal
from collections.abc import Iterator
from threading import Event, Timer
from uuid import UUID

import pytest

from heimdex import Job, JobContext, JobRegistry, Tenant
from heimdex.bootstrap import Application, bootstrap
from heimdex.config import load
from heimdex.domain.errors import DatabaseUnavailable
from heimdex.entrypoints.worker_process import run_worker

SCOPE = Tenant(UUID(int=1), actor="user@example.com")


class _Signals:
    """A job type whose function sends signals to this process and then waits to be released."""

    def __init__(self) -> None:
        self.jobs = JobRegistry()
        self.numbers: list[int] = []
        self.released = Event()
        self.jobs.register("send.signals")(self._send)

    def _send(self, payload: dict, ctx: JobContext) -> None:  # type: ignore[type-arg]  # any document
        for number in self.numbers:
            os.kill(os.getpid(), number)
        self.released.wait(20)


@pytest.fixture
def signals() -> Iterator[_Signals]:
    signals = _Signals()
    yield signals
    signals.released.set()


@pytest.fixture
def app(signals: _Signals) -> Iterator[Application]:
    with bootstrap(load({"HEIMDEX_DATABASE_URL": "memory://"}), jobs=signals.jobs) as app:
        yield app


def _run(app: Application) -> tuple[signal.Signals | None, Job]:
    with app.unit_of_work(SCOPE) as uow:
        job = uow.jobs.create("send.signals").job
    received = run_worker(app.worker())
    with app.views(SCOPE) as views:
        ended = views.find(job.id)
    assert ended is not None
    return received, ended


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_after_a_signal_a_running_job_is_finished(app: Application, signals: _Signals, number: signal.Signals) -> None:
    signals.numbers = [number]
    Timer(0.3, signals.released.set).start()

    received, job = _run(app)

    assert received is number
    assert (job.status, job.attempt) == ("succeeded", 1)


def test_a_second_signal_ends_the_grace_and_no_attempt_is_spent(app: Application, signals: _Signals) -> None:
    signals.numbers = [signal.SIGINT, signal.SIGTERM]

    received, job = _run(app)

    assert received is signal.SIGINT
    assert (job.status, job.attempt, job.crashes) == ("queued", 0, 0)


def test_a_worker_that_is_asked_to_stop_from_here_has_received_no_signal(app: Application) -> None:
    worker = app.worker()
    looks: list[None] = []

    def look() -> None:
        looks.append(None)
        worker.stop()

    assert run_worker(worker, look) is None
    assert looks


def test_the_handlers_of_before_are_put_back_even_after_an_error(app: Application) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    def fail() -> None:
        raise DatabaseUnavailable("gone")

    with pytest.raises(DatabaseUnavailable):
        run_worker(app.worker(), fail)

    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
