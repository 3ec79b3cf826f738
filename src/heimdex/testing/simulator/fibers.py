"""Simulated time, and the fibers that share it: one runs at a time, and which one goes on is drawn by chance."""

from collections.abc import Callable
from contextlib import suppress
from heapq import heappop, heappush
from itertools import count
from random import Random

from attrs import define, field
from greenlet import getcurrent, greenlet

from heimdex.domain.errors import CapabilityMissing

_TIEBREAKS = 1 << 30


class ProcessDied(BaseException):
    """Unwinds the fibers of a process that is gone. No Exception, so that nothing handles it, as after kill -9."""


@define(eq=False)
class Process:
    """Fibers that live, stand still and die together, with clocks of their own.

    Args:
        offset: how many seconds its wall clock is wrong.
        rate: how many seconds its clocks count in one second.
    """

    name: str
    offset: float = 0.0
    rate: float = 1.0
    alive: bool = field(default=True, init=False)
    stands_until: float = field(default=0.0, init=False)
    fibers: "list[Fiber]" = field(factory=list, init=False)

    def check_alive(self) -> None:
        if not self.alive:
            raise ProcessDied

    def die(self) -> None:
        """Be gone, as after kill -9. Its fibers end when they would next go on."""
        self.alive = False

    def stand_still(self, until: float) -> None:
        """Do nothing before this moment, as after SIGSTOP."""
        self.stands_until = max(self.stands_until, until)


class Fiber(greenlet):
    """A thread of a simulated process."""

    def __init__(self, process: Process, name: str, act: Callable[[], None], scheduler: "Scheduler") -> None:
        super().__init__(act, scheduler.hub)
        self.process = process
        self.name = name
        self.scheduler = scheduler
        # Which of the events that would let it go on is the one that counts.
        self.turn = 0


@define(eq=False)
class Signal:
    """Something that fibers wait for."""

    waiting: list[Fiber] = field(factory=list, init=False)


class Scheduler:
    """The order of everything: events by their time, and by chance where two have the same."""

    def __init__(self, chance: Random) -> None:
        self.now = 0.0
        self.hub = getcurrent()
        self._chance = chance
        self._numbers = count()
        self._events: list[tuple[float, int, int, Fiber | Callable[[], None], int]] = []
        self._fibers: set[Fiber] = set()

    def spawn(self, process: Process, name: str, act: Callable[[], None]) -> None:
        """Let a new fiber begin now."""
        fiber = Fiber(process, name, act, self)
        process.fibers.append(fiber)
        self._fibers.add(fiber)
        self._go_on(fiber, self.now)

    def call_at(self, moment: float, act: Callable[[], None]) -> None:
        """Let something happen outside of every process."""
        heappush(self._events, (moment, self._chance.randrange(_TIEBREAKS), next(self._numbers), act, 0))

    # Called by fibers

    def sleep(self, seconds: float) -> None:
        """Let others go on for so long.

        Raises:
            ProcessDied: the process of this fiber has gone meanwhile.
        """
        fiber = current_fiber()
        fiber.process.check_alive()
        self._go_on(fiber, self.now + seconds)
        self._let_others(fiber)

    def wait(self, signal: Signal, seconds: float) -> None:
        """Let others go on until somebody notifies the signal, but no longer than so many seconds."""
        fiber = current_fiber()
        fiber.process.check_alive()
        signal.waiting.append(fiber)
        self._go_on(fiber, self.now + seconds)
        try:
            self._let_others(fiber)
        finally:
            if fiber in signal.waiting:
                signal.waiting.remove(fiber)

    # Called from anywhere

    def notify(self, signal: Signal) -> None:
        """Let everybody who waits for a signal go on."""
        waiting, signal.waiting = signal.waiting, []
        for fiber in waiting:
            self._go_on(fiber, self.now)

    # Called by the hub

    def run(self, *, until: float, done: Callable[[], bool]) -> None:
        """Let things happen until a moment, or until something is so."""
        while not done():
            if not self._events or self._events[0][0] > until:
                self.now = max(self.now, until)
                return
            moment, _, _, what, turn = heappop(self._events)
            if not isinstance(what, Fiber):
                self.now = max(self.now, moment)
                what()
                continue
            if what.dead or what.turn != turn:
                continue
            if what.process.alive and what.process.stands_until > moment:
                self._go_on(what, what.process.stands_until)
                continue
            self.now = max(self.now, moment)
            self._resume(what)
            self._bury()

    def end(self) -> None:
        """End every fiber."""
        for fiber in sorted(self._fibers, key=_name):
            fiber.process.die()
        self._bury()

    def _resume(self, fiber: Fiber) -> None:
        with suppress(ProcessDied):
            fiber.switch() if fiber.process.alive else self._end(fiber)
        if fiber.dead:
            self._forget(fiber)

    def _bury(self) -> None:
        """End the fibers of processes that are gone: what they hold is let go of now, as a server would see it."""
        gone = [fiber for fiber in self._fibers if not fiber.process.alive]
        for fiber in sorted(gone, key=_name):
            with suppress(ProcessDied):
                self._end(fiber)
            self._forget(fiber)

    def _end(self, fiber: Fiber) -> None:
        # One that has not begun has nothing to let go of; one that has ended cannot be ended.
        if bool(fiber):
            fiber.throw(ProcessDied)

    def _forget(self, fiber: Fiber) -> None:
        self._fibers.discard(fiber)
        if fiber in fiber.process.fibers:
            fiber.process.fibers.remove(fiber)

    def _go_on(self, fiber: Fiber, moment: float) -> None:
        fiber.turn += 1
        heappush(self._events, (moment, self._chance.randrange(_TIEBREAKS), next(self._numbers), fiber, fiber.turn))

    def _let_others(self, fiber: Fiber) -> None:
        self.hub.switch()
        fiber.process.check_alive()


def current_fiber() -> Fiber:
    """Return the fiber that runs.

    Raises:
        CapabilityMissing: none does.
    """
    current = getcurrent()
    if not isinstance(current, Fiber):
        raise CapabilityMissing("time can only be taken inside a simulation")
    return current


def in_fiber() -> bool:
    return isinstance(getcurrent(), Fiber)


def _name(fiber: Fiber) -> tuple[str, str]:
    return fiber.process.name, fiber.name
