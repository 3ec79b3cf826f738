"""A real worker that runs one job at a time, in the thread of the test, and never waits.

It works through the ports and commands of every worker. Where another would wait for something to come in, it is done.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TypeVar, cast

from attrs import evolve

from heimdex.adapters.wakeups import LocalWakeups
from heimdex.bootstrap import Application, bound_handlers, worker_settings
from heimdex.domain.commands import ClaimJobs, Command, ExpireLeases, FinishJobs
from heimdex.domain.errors import DatabaseError, InvalidInput
from heimdex.domain.job import Job
from heimdex.domain.results import Written
from heimdex.service_layer.job_context import JobContext
from heimdex.service_layer.job_registry import JobFunction, JobRegistry, RegisteredJob
from heimdex.service_layer.message_bus import MessageBus
from heimdex.service_layer.ports import Clock, Inbox, Runner
from heimdex.service_layer.retry import once
from heimdex.service_layer.worker import Worker, WorkerTools
from heimdex.testing.ledger import ACTOR
from heimdex.testing.watch import LetOut, Watch

Answer = TypeVar("Answer")


class InlineInbox(Inbox):
    """Never waits: it notes that the worker would."""

    def __init__(self) -> None:
        self.would_wait = False
        self._messages: deque[Callable[[], None]] = deque()
        self._holds_back = False

    def put(self, message: Callable[[], None]) -> None:
        self._messages.append(message)

    def hold_back(self) -> None:
        """Deliver nothing in the next step of the worker."""
        self._holds_back = True

    def deliver(self) -> None:
        self._holds_back = False

    def get(self, timeout: timedelta) -> Callable[[], None] | None:
        if self._holds_back:
            return None
        if self._messages:
            return self._messages.popleft()
        self.would_wait = self.would_wait or bool(timeout)
        return None


class InlineRunner(Runner):
    """Keeps what is submitted until it is taken and run, between two steps of the worker."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()

    @property
    def slots(self) -> int:
        return 1

    def submit(self, *pieces: Callable[[], None]) -> None:
        self._waiting.extend(pieces)

    def submit_async(self, work: Callable[[], Coroutine[object, object, None]]) -> Callable[[], None]:
        self._waiting.append(lambda: asyncio.run(work()))
        # Nobody else acts while a piece runs, so that there is nothing to interrupt it with.
        return lambda: None

    def take(self) -> Callable[[], None] | None:
        return self._waiting.popleft() if self._waiting else None

    def close(self) -> None:
        self._waiting.clear()


class InlineWorker:
    def __init__(self, app: Application, watch: Watch) -> None:
        if app.jobs is None:
            raise InvalidInput("jobs", None, "give the application a JobRegistry: without one it runs no jobs")
        self._clock: Clock = app.clock
        self._watch = watch
        self._inbox = InlineInbox()
        self._runner = InlineRunner()
        self._bus = _WatchedBus(app, watch)
        self._worker = Worker(
            app.ids(),
            ACTOR,
            _WatchedJobs(app.jobs, watch),
            # One at a time, so that what a job creates takes its place in the order, and a crash leaves one job.
            evolve(worker_settings(app.settings), batch=1),
            WorkerTools(
                bus=self._bus,
                patient_bus=app.patient_bus,
                clock=app.clock,
                inbox=self._inbox,
                runner=self._runner,
                # It looks for work until there is none, so that nobody need wake it.
                wakeups=LocalWakeups(),
            ),
        )

    def work(self) -> bool:
        """Run jobs until none is due; return False if the worker ended before, as after a timeout."""
        try:
            self._loop()
            self._worker.close()
        except LetOut as out:
            error = out.error
        else:
            return self._inbox.would_wait
        with suppress(LetOut):
            self._worker.close()
        # Here, where no other error is being handled, so that it keeps the cause that it came with.
        raise error

    def _loop(self) -> None:
        while not (self._inbox.would_wait or self._worker.stopped):
            self._worker.step()
            self._inbox.deliver()
            while (run := self._runner.take()) is not None:
                self._run(run)

    def _run(self, run: Callable[[], None]) -> None:
        job = self._bus.claimed
        self._watch.begin(job)
        self._watch.reach("before_start", job)
        began = self._clock.monotonic()
        run()
        raised = self._watch.raised
        if raised is not None and not isinstance(raised, Exception | SystemExit):
            # Ctrl-C, or pytest.fail: meant for whoever runs the test. A worker takes it for the job's failure.
            raise raised
        self._watch.reach("before_finish", job)
        if self._clock.monotonic() - began >= job.timeout.total_seconds():
            # In production the loop goes on meanwhile, and ends the run before its function returns.
            self._inbox.hold_back()


class _WatchedBus(MessageBus):
    """Tells the watch what is written, and lets no failure of the database be tried again in silence."""

    claimed: Job

    def __init__(self, app: Application, watch: Watch) -> None:
        super().__init__(bound_handlers(app.store.unit_of_work), ids=app.ids, retry=once)
        self._watch = watch

    def handle(self, command: Command[Answer]) -> Answer:
        try:
            answer = super().handle(command)
        except DatabaseError as error:
            raise LetOut(error) from error
        if isinstance(command, ClaimJobs):
            for job in cast("list[Job]", answer):
                self.claimed = job
        elif isinstance(command, ExpireLeases):
            self._watch.rest(cast("list[Job]", answer))
        elif isinstance(command, FinishJobs):
            self._note_ends(command, cast("Written", answer))
        return answer

    def _note_ends(self, command: FinishJobs, written: Written) -> None:
        self._watch.rest(written.jobs)
        endings = {ending.job.id: ending for ending in command.endings}
        for job in written.jobs:
            self._watch.finish(endings[job.id], job)


class _WatchedJobs(JobRegistry):
    """The same jobs; what their functions raise is noted on its way to the worker."""

    def __init__(self, jobs: JobRegistry, watch: Watch) -> None:
        super().__init__()
        self._watch = watch
        self.include(jobs)

    def get(self, type: str) -> RegisteredJob:
        registered = super().get(type)
        call = self._call_async if registered.is_async else self._call
        return evolve(registered, function=partial(call, registered.function))

    def _call(self, function: JobFunction, payload: object, context: JobContext) -> object:
        try:
            return function(payload, context)
        except BaseException as error:
            self._watch.note(error)
            raise

    async def _call_async(self, function: JobFunction, payload: object, context: JobContext) -> object:
        try:
            return await cast("Awaitable[object]", function(payload, context))
        except BaseException as error:
            self._watch.note(error)
            raise
