"""The machine that a simulated process runs on: clocks, an inbox, threads, wake-ups."""

from asyncio import CancelledError
from collections import deque
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from random import Random
from typing import NoReturn

from heimdex.domain.errors import CapabilityMissing
from heimdex.service_layer.ports import Clock, Inbox, Runner, Wakeups
from heimdex.testing.simulator.fibers import Fiber, Process, ProcessDied, Scheduler, Signal, current_fiber

EPOCH = datetime(2026, 1, 1, 12, tzinfo=UTC)

_PAUSE_SECONDS = 0.01


class DatabaseClock(Clock):
    """The time that decides: it may be set forwards and back, and no process has it."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.step = 0.0

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self._scheduler.now + self.step)

    def monotonic(self) -> float:
        return self._scheduler.now


class ProcessClock(Clock):
    """The clocks of a process: wrong by its offset, and too quick or too slow by its rate."""

    def __init__(self, scheduler: Scheduler, process: Process) -> None:
        self._scheduler = scheduler
        self._process = process

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self.monotonic() + self._process.offset)

    def monotonic(self) -> float:
        return self._scheduler.now * self._process.rate


class SimulatedInbox(Inbox):
    def __init__(self, scheduler: Scheduler, process: Process) -> None:
        self._scheduler = scheduler
        self._process = process
        self._messages: deque[Callable[[], None]] = deque()
        self._filled = Signal()

    def put(self, message: Callable[[], None]) -> None:
        self._messages.append(message)
        self._scheduler.notify(self._filled)

    def get(self, timeout: timedelta) -> Callable[[], None] | None:
        self._process.check_alive()
        if not self._messages and timeout:
            self._scheduler.wait(self._filled, timeout.total_seconds() / self._process.rate)
        return self._messages.popleft() if self._messages else None


class SimulatedRunner(Runner):
    """Runs each piece of work in a fiber. Async work lets others go on where it takes time or awaits `sleep(0)`."""

    def __init__(self, scheduler: Scheduler, process: Process, slots: int) -> None:
        self._scheduler = scheduler
        self._process = process
        self._slots = slots
        self._free = slots
        self._waiting: deque[Callable[[], None]] = deque()
        self._pieces = 0

    @property
    def slots(self) -> int:
        return self._slots

    def submit(self, *pieces: Callable[[], None]) -> None:
        self._waiting.extend(pieces)
        self._go_on()

    def submit_async(self, work: Callable[[], Coroutine[object, object, None]]) -> Callable[[], None]:
        task = _Task(self._scheduler, work)
        self.submit(task.run)
        return task.interrupt

    def close(self) -> None:
        """What runs goes on until its process ends."""

    def _go_on(self) -> None:
        while self._free and self._waiting:
            work = self._waiting.popleft()
            self._free -= 1
            self._pieces += 1
            self._scheduler.spawn(self._process, f"function {self._pieces}", lambda work=work: self._run(work))  # type: ignore[misc]  # a default binds it

    def _run(self, work: Callable[[], None]) -> None:
        work()
        self._free += 1
        self._go_on()


class _Task:
    """Async work without an event loop: it is cancelled where it awaits, as asyncio does it."""

    def __init__(self, scheduler: Scheduler, work: Callable[[], Coroutine[object, object, None]]) -> None:
        self._scheduler = scheduler
        self._work = work
        self._canceled = False

    def interrupt(self) -> None:
        self._canceled = True

    def run(self) -> None:
        if self._takes_cancel():
            return
        coroutine = self._work()
        with suppress(StopIteration):
            while True:
                awaited = coroutine.throw(CancelledError()) if self._takes_cancel() else coroutine.send(None)
                if awaited is not None:
                    coroutine.throw(CapabilityMissing("a simulated async function awaits asyncio.sleep(0) only"))
                self._scheduler.sleep(_PAUSE_SECONDS)

    def _takes_cancel(self) -> bool:
        canceled, self._canceled = self._canceled, False
        return canceled


class SimulatedWakeups(Wakeups):
    """Wake-ups between processes. `lost` is the share of them that come late, twice or never."""

    def __init__(self, scheduler: Scheduler, draws: Random) -> None:
        self.lost = 0.0
        self.dropped = 0
        self._scheduler = scheduler
        self._draws = draws
        self._listeners: dict[int, tuple[Process, Callable[[], None]]] = {}
        self._subscribed = 0

    def wake(self, queues: Collection[str]) -> None:
        if not queues:
            return
        for process, listener in list(self._listeners.values()):
            if self._draws.random() < self.lost:
                self.dropped += 1
                continue
            for _ in range(2 if self._draws.random() < self.lost else 1):
                late = self._scheduler.now + self._draws.uniform(0.0, 0.02 if self._draws.random() > self.lost else 2.0)
                self._scheduler.call_at(late, lambda process=process, listener=listener: _deliver(process, listener))  # type: ignore[misc]  # defaults bind them

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        self._subscribed += 1
        number = self._subscribed
        self._listeners[number] = (current_fiber().process, listener)
        return lambda: self._forget(number)

    def _forget(self, number: int) -> None:
        self._listeners.pop(number, None)


def _deliver(process: Process, listener: Callable[[], None]) -> None:
    if process.alive:
        listener()


def take(length: timedelta) -> None:
    """Let so much time pass for the job function or client that calls it, in a simulation.

    Raises:
        CapabilityMissing: outside of one.
    """
    fiber: Fiber = current_fiber()
    fiber.scheduler.sleep(length.total_seconds())


def end_process() -> NoReturn:
    """End the simulated process of the job function or client that calls it, as kill -9 does.

    Raises:
        CapabilityMissing: outside of a simulation.
    """
    current_fiber().process.die()
    raise ProcessDied
