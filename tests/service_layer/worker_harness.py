"""A worker driven by hand. No thread runs, and nothing waits: where the worker would wait, its clock is put forward.

A job function that takes long calls `pass_time` of its worker: the loop then goes on while the function runs. An async
one awaits `Pause`: it goes on when the test says so, and others run meanwhile.
"""

from asyncio import CancelledError
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from heimdex.adapters.job_verbs import Tools
from heimdex.adapters.memory_ledger import MemoryLedger
from heimdex.adapters.memory_store import MemoryStore
from heimdex.adapters.wakeups import LocalWakeups
from heimdex.bootstrap import bound_handlers
from heimdex.domain.asset import Asset
from heimdex.domain.commands import Command
from heimdex.domain.job import Hold, Job
from heimdex.domain.new_job import NewJob
from heimdex.domain.scope import System, Tenant
from heimdex.domain.transitions import Status, Trigger
from heimdex.service_layer.job_context import JobContext
from heimdex.service_layer.job_registry import JobRegistry
from heimdex.service_layer.message_bus import MessageBus
from heimdex.service_layer.pace import WorkerSettings
from heimdex.service_layer.ports import Inbox, NoRenewer, Renewer, Runner, Specify
from heimdex.service_layer.retry import RetryPolicy, RetryTransient, once
from heimdex.service_layer.worker import Beside, Worker, WorkerTools
from tests.service_layer.faults import Faults
from tests.stores import HandClock, SequentialIds

ORG = UUID(int=1)
TENANT = Tenant(ORG, actor="user@example.com")
SYSTEM = System(actor="test", reason="tests look at everything")

Payload = dict[str, Any]


def registry(**functions: Any) -> JobRegistry:  # noqa: ANN401 - any job function
    """Return a registry of functions by their type."""
    jobs = JobRegistry()
    for type, function in functions.items():
        jobs.register(type)(function)
    return jobs


def nothing(payload: Payload, ctx: JobContext) -> None:
    pass


def put_forward(clock: HandClock, length: timedelta) -> None:
    clock.set(clock.now() + length)


class HandInbox(Inbox):
    """Never waits: with nothing to deliver it puts the clocks forward by the timeout, at most up to `until`."""

    def __init__(self, *clocks: HandClock) -> None:
        self.until: datetime | None = None
        self.waits = 0
        self._clocks = clocks
        self._messages: deque[Callable[[], None]] = deque()

    def put(self, message: Callable[[], None]) -> None:
        self._messages.append(message)

    def get(self, timeout: timedelta) -> Callable[[], None] | None:
        if self._messages:
            return self._messages.popleft()
        if timeout:
            self.waits += 1
            left = timeout if self.until is None else self.until - self._clocks[0].now()
            for clock in self._clocks:
                put_forward(clock, min(timeout, max(left, timedelta(0))))
        return None


class Pause:
    """What an async job function awaits here."""

    def __await__(self) -> Generator[None]:
        yield


class HandTask:
    """Async work without a loop: it runs from one `Pause` to the next, and is cancelled there, as asyncio does it."""

    def __init__(self, work: Callable[[], Coroutine[object, object, None]]) -> None:
        self.begun = False
        self.ended = False
        self._work = work
        self._coroutine: Coroutine[object, object, None] | None = None
        self._runs = False
        self._canceled = False

    def interrupt(self) -> None:
        self._canceled = not self.ended
        if self.begun and self._canceled and not self._runs:
            self.go_on()

    def go_on(self) -> None:
        """Begin, or go on after a pause."""
        if not self.begun and self._canceled:
            return
        self._coroutine = self._coroutine or self._work()
        self.begun = self._runs = True
        try:
            self._coroutine.send(None) if not self._canceled else self._throw()
            while self._canceled:
                self._throw()
        except StopIteration:
            self.ended = True
        self._runs = False

    def _throw(self) -> None:
        assert self._coroutine is not None
        self._canceled = False
        self._coroutine.throw(CancelledError())


class HandRunner(Runner):
    """Runs work when the test says so. Work may run other work inside itself, as far as there are slots."""

    def __init__(self, slots: int) -> None:
        self.waiting: deque[Callable[[], None]] = deque()
        self.tasks: list[HandTask] = []
        self.closed = False
        self._slots = slots
        self._running = 0

    @property
    def slots(self) -> int:
        return self._slots

    def submit(self, *pieces: Callable[[], None]) -> None:
        self.waiting.extend(pieces)

    def submit_async(self, work: Callable[[], Coroutine[object, object, None]]) -> Callable[[], None]:
        task = HandTask(work)
        self.tasks.append(task)
        self.waiting.append(task.go_on)
        return task.interrupt

    @property
    def paused(self) -> list[HandTask]:
        return [task for task in self.tasks if task.begun and not task.ended]

    def resume(self) -> None:
        """Let every async function that pauses go on to its next pause, or to its end."""
        for task in self.paused:
            task.go_on()

    def close(self) -> None:
        self.closed = True

    def run_next(self) -> None:
        self._running += 1
        assert self._running + len(self.paused) <= self._slots
        self.waiting.popleft()()
        self._running -= 1

    def run_all(self) -> None:
        while self.waiting:
            self.run_next()


class HandLedger:
    """A ledger in memory whose clock stands still until it is moved, and whose units of work fail when told to.

    Args:
        specify: None accepts what is in the registry.
    """

    def __init__(self, jobs: JobRegistry, *, specify: Specify | None = None) -> None:
        self.jobs = jobs
        self.clock = HandClock()
        self.wakeups = LocalWakeups()
        self.ids = SequentialIds()
        tools = Tools(specify=specify or jobs.specify, ids=self.ids, random=Random(1).random, wake=lambda _: None)
        self.memory = MemoryStore(self.clock)
        self.store = MemoryLedger(self.memory, tools=tools, wakeups=self.wakeups)
        self.faults = Faults(self.store.unit_of_work)
        self.handlers = {
            command: bound_handlers(self.faults.start_for(command))[command]
            for command in bound_handlers(self.store.unit_of_work)
        }
        retry = RetryTransient(RetryPolicy(), sleep=self.advance, random=lambda: 0.0)
        self.bus = MessageBus(self.handlers, ids=self.ids, retry=once)
        self.patient_bus = MessageBus(self.handlers, ids=self.ids, retry=retry)

    def delay(self, command: type[Command[object]], length: timedelta) -> None:
        """Let the next command of this kind be answered only after so long."""
        prompt: Callable[..., object] = self.handlers[command]

        def late(asked: Command[object]) -> object:
            self.handlers[command] = prompt
            self.advance(length)
            return prompt(asked)

        self.handlers[command] = late

    def advance(self, length: timedelta) -> None:
        put_forward(self.clock, length)

    def create(self, type: str, payload: object = None, **fields: Any) -> UUID:  # noqa: ANN401 - as create's
        with self.store.unit_of_work(TENANT) as uow:
            return uow.jobs.create(type, payload, **fields).job.id

    def create_many(self, new_jobs: Iterable[NewJob]) -> list[UUID]:
        with self.store.unit_of_work(TENANT) as uow:
            return [created.job.id for created in uow.jobs.create_many(new_jobs)]

    def job(self, job_id: UUID) -> Job:
        with self.store.views(SYSTEM) as views:
            job = views.find(job_id)
        assert job is not None
        return job

    def triggers(self, job_id: UUID) -> list[Trigger]:
        with self.store.views(SYSTEM) as views:
            return [event.trigger for event in views.history(job_id)]

    def details(self, job_id: UUID, trigger: Trigger) -> list[dict[str, Any]]:
        with self.store.views(SYSTEM) as views:
            return [event.detail for event in views.history(job_id) if event.trigger is trigger]

    def refusals(self, job_id: UUID) -> int:
        with self.store.views(SYSTEM) as views:
            return views.refusals(job_id)

    def assets(self, job_id: UUID) -> tuple[Asset, ...]:
        with self.store.views(SYSTEM) as views:
            return views.assets([job_id])[job_id]

    def counts(self) -> dict[Status, int]:
        """Return how many jobs rest in each status, without the empty ones."""
        with self.store.views(SYSTEM) as views:
            return {status: count for status, count in views.statistics().by_status.items() if count}

    def claim_elsewhere(self, job_id: UUID) -> None:
        """Claim a job for a worker that is never heard of again."""
        with self.store.unit_of_work(TENANT) as uow:
            uow.jobs.claim(job_id, worker=UUID(int=99), lease=timedelta(seconds=30))

    def spoil(self, job_id: UUID) -> None:
        """Write a running row past Heimdex, so that its expiry is refused."""
        with self.memory.reading() as rows:
            rows.jobs[job_id].status = Status.SUCCEEDED

    def expire_elsewhere(self, job_id: UUID) -> None:
        """Let another worker find that the lease of this job has run out."""
        hold = self.job(job_id).hold
        assert hold is not None
        with self.store.unit_of_work(SYSTEM) as uow:
            uow.jobs.renew([hold], lease=timedelta(milliseconds=1))
        self.advance(timedelta(milliseconds=1))
        with self.store.unit_of_work(SYSTEM) as uow:
            assert [job.id for job in uow.jobs.expire(limit=100)] == [job_id]

    def make_suspect(self, job_id: UUID) -> None:
        self.claim_elsewhere(job_id)
        self.expire_elsewhere(job_id)


class HandRenewer(Renewer):
    """Renews when the test says so, as the process beside a worker does it."""

    def __init__(self, ledger: HandLedger) -> None:
        self.until: dict[Hold, float] = {}
        self.closed = False
        self._ledger = ledger
        self._renewed_at: dict[Hold, float] = {}

    def renew(self, lease: timedelta = timedelta(seconds=30)) -> None:
        now = self._ledger.clock.monotonic()
        holds = [hold for hold, until in self.until.items() if now < until]
        in_force = [hold for hold in holds if self._ledger.job(hold.job_id).hold == hold]
        with self._ledger.store.unit_of_work(SYSTEM) as uow:
            uow.jobs.renew(in_force, lease=lease)
        self._renewed_at |= dict.fromkeys(in_force, now)

    def add(self, hold: Hold, *, until: float) -> None:
        self.until[hold] = until

    def remove(self, hold: Hold) -> None:
        del self.until[hold]

    def renewed_at(self, hold: Hold) -> float | None:
        return self._renewed_at.get(hold)

    def close(self) -> None:
        self.closed = True


class HandWorker:
    """A worker on a ledger. With a clock of its own, its time passes together with the ledger's."""

    def __init__(
        self,
        ledger: HandLedger,
        *,
        slots: int = 2,
        settings: WorkerSettings | None = None,
        clock: HandClock | None = None,
        renewer: Renewer | None = None,
        claims: HandRunner | None = None,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.ledger = ledger
        self.clock = clock or ledger.clock
        self.inbox = HandInbox(self.clock, *([] if self.clock is ledger.clock else [ledger.clock]))
        self.runner = HandRunner(slots)
        self.worker = Worker(
            ledger.ids(),
            f"worker on {slots} slots",
            ledger.jobs,
            settings or WorkerSettings(),
            WorkerTools(
                bus=ledger.bus,
                patient_bus=ledger.patient_bus,
                clock=self.clock,
                inbox=self.inbox,
                runner=self.runner,
                wakeups=ledger.wakeups,
                renewer=renewer or NoRenewer(),
                beside=None if claims is None else Beside(ledger.bus, claims),
                close=close,
            ),
        )

    def step(self) -> None:
        self.worker.step()

    def claim(self) -> None:
        """Go on until there is nothing to do at this moment, without running any function."""
        self.pass_time(0.001)

    def settle(self) -> None:
        """Go on, running each function at once, until the worker waits for something to come in."""
        while True:
            self.runner.run_all()
            waits = self.inbox.waits
            self.step()
            if self.inbox.waits > waits and not self.runner.waiting:
                return

    def pass_time(self, seconds: float) -> int:
        """Let the loop go on for so long, or until the worker has stopped, without running any function.

        Returns:
            How many steps that took.
        """
        before = self.inbox.until
        self.inbox.until = until = self.clock.now() + timedelta(seconds=seconds)
        steps = 0
        while self.clock.now() < until and not self.worker.stopped:
            self.step()
            steps += 1
        self.inbox.until = before
        return steps

    def stop(self) -> None:
        self.worker.stop()

    def run_until_stopped(self) -> None:
        while not self.worker.stopped:
            self.runner.run_all()
            self.step()
