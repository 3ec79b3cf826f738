"""What goes wrong at any moment: workers are killed, stopped and made to stand still, and the database goes away."""

from collections.abc import Callable
from functools import partial
from random import Random

from attrs import define, field

from heimdex.service_layer.worker import Worker
from heimdex.testing.simulator.chance import chance
from heimdex.testing.simulator.faults import FaultPlan, Site
from heimdex.testing.simulator.fibers import Process, Scheduler, Signal
from heimdex.testing.simulator.ledger import SimulatedLedger
from heimdex.testing.simulator.observing import Observer
from heimdex.testing.simulator.plan import Plan


@define(eq=False)
class Host:
    """A place that starts a process anew whenever it has ended. It is `done` when one has returned.

    A worker is started anew after it has stopped, too, unless the place is `leaving`.
    """

    name: str
    ended: Signal = field(factory=Signal, init=False)
    process: Process | None = field(default=None, init=False)
    worker: Worker | None = field(default=None, init=False)
    starts: int = field(default=0, init=False)
    leaving: bool = field(default=False, init=False)
    done: bool = field(default=False, init=False)


class Trouble:
    def __init__(
        self,
        *,
        plan: Plan,
        faults: FaultPlan,
        scheduler: Scheduler,
        ledger: SimulatedLedger,
        observer: Observer,
        workers: list[Host],
    ) -> None:
        self._plan = plan
        self._faults = faults
        self._scheduler = scheduler
        self._ledger = ledger
        self._observer = observer
        self._workers = workers
        self._over = False
        self._lease = plan.settings.lease.total_seconds()

    def begin(self) -> None:
        """Draw what happens when; of each kind up to three times, if it is active in this run."""
        if self._faults.is_active(Site("", "lost wake-ups")):
            self._ledger.wakeups.lost = chance(self._plan.seed, "lost wake-ups").uniform(0.1, 1.0)
        kinds: dict[str, Callable[[Random], None]] = {
            "kill": self._kill,
            "term": self._ask_to_stop,
            "stand still": self._stand_still,
            "swizzle": self._swizzle,
            "database restart": self._restart,
            "database clock": self._set_clock,
        }
        for kind, act in kinds.items():
            if self._faults.is_active(Site("", kind)):
                draws = chance(self._plan.seed, kind)
                for _ in range(draws.randint(1, 3)):
                    moment = draws.uniform(0.5, self._plan.trouble)
                    self._scheduler.call_at(moment, partial(self._happen, kind, act, draws))

    def end(self) -> None:
        self._over = True
        self._ledger.wakeups.lost = 0.0
        self._ledger.come_up()

    def _happen(self, kind: str, act: Callable[[Random], None], draws: Random) -> None:
        if not self._over:
            self._ledger.faults[kind] += 1
            self._ledger.sites.add(kind)
            self._ledger.note("the world", kind)
            act(draws)

    def _kill(self, draws: Random) -> None:
        host = draws.choice(self._workers)
        if host.process is not None:
            host.process.die()
            self._scheduler.notify(host.ended)

    def _ask_to_stop(self, draws: Random) -> None:
        host = draws.choice(self._workers)
        if host.worker is not None and host.process is not None and host.process.alive:
            host.worker.stop()
            self._observer.reached["a worker was asked to stop"] += 1

    def _stand_still(self, draws: Random) -> None:
        host = draws.choice(self._workers)
        if host.process is not None:
            host.process.stand_still(self._scheduler.now + draws.uniform(0.3, 3.0) * self._lease)

    def _swizzle(self, draws: Random) -> None:
        """Make some workers stand still one after the other, and go on in another order."""
        now = self._scheduler.now
        for host in draws.sample(self._workers, draws.randint(1, len(self._workers))):
            begin, end = now + draws.uniform(0.0, 2.0), now + draws.uniform(2.0, 2.0 + 2 * self._lease)
            self._scheduler.call_at(begin, partial(self._stand_until, host, end))

    def _stand_until(self, host: Host, end: float) -> None:
        if host.process is not None and not self._over:
            host.process.stand_still(end)

    def _restart(self, draws: Random) -> None:
        self._ledger.go_down(draws.uniform(0.1, 4.0))

    def _set_clock(self, draws: Random) -> None:
        self._observer.clock_was_set = True
        self._ledger.clock.step += draws.choice((-5.0, 5.0))
