"""One run: processes on one ledger, what goes wrong for a while, the healing, and what must be so in the end."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from traceback import extract_tb, format_exception
from typing import cast
from uuid import UUID

from attrs import frozen

from heimdex.adapters.files import LocalFiles
from heimdex.bootstrap import Application, bound_handlers
from heimdex.config import Settings
from heimdex.domain.errors import DatabaseError
from heimdex.service_layer.message_bus import MessageBus
from heimdex.service_layer.ports import NoRenewer, Renewer
from heimdex.service_layer.retry import RetryPolicy, RetryTransient, once
from heimdex.service_layer.worker import Beside, Worker, WorkerTools
from heimdex.testing.simulator.chance import chance
from heimdex.testing.simulator.faults import FaultPlan
from heimdex.testing.simulator.fibers import Process, Scheduler
from heimdex.testing.simulator.ledger import Drawn, SimulatedLedger
from heimdex.testing.simulator.machine import ProcessClock, SimulatedInbox, SimulatedRunner
from heimdex.testing.simulator.observed_jobs import ObservedJobs
from heimdex.testing.simulator.observing import Observer, Violation
from heimdex.testing.simulator.plan import Client, Plan, Scenario
from heimdex.testing.simulator.renewing import SimulatedRenewer
from heimdex.testing.simulator.trouble import Host, Trouble

_STOPPING_SECONDS = 60.0
_DRIFT = 0.01
_CLOCKS_OFF_SECONDS = 3600.0
_IDLE_SECONDS = 3600.0


@frozen(kw_only=True)
class Run:
    """What came of one run. `seconds` are simulated ones."""

    plan: Plan
    violations: tuple[Violation, ...]
    reached: Counter[str]
    calls: Counter[str]
    faults: Counter[str]
    sites: frozenset[str]
    jobs: int
    organisations: int
    actors: int
    seconds: float
    trace: tuple[str, ...]


class Simulation:
    """What makes up one run. Use it once.

    Args:
        drawn: says what happens at each call; None: what the plan's seed says.
    """

    def __init__(self, scenario: Scenario, plan: Plan, *, traced: bool = False, drawn: Drawn | None = None) -> None:
        self._scenario = scenario
        self._plan = plan
        self._scheduler = Scheduler(chance(plan.seed, "order"))
        self.observer = Observer(plan.settings.lease * _DRIFT * 2)
        self._faults = FaultPlan(seed=plan.seed, share=plan.share, without=plan.without)
        self.in_trouble = scenario.faults
        self.ledger = SimulatedLedger(
            plan.seed,
            self._scheduler,
            self.observer,
            specify=scenario.jobs.specify,
            lease=plan.settings.lease,
            most_calls=scenario.calls,
            drawn=drawn or (lambda call: self._faults.drawn(call) if self.in_trouble else None),
        )
        self.ledger.trace = [] if traced else None
        self._workers = [Host(f"worker {number + 1}") for number in range(plan.workers)]
        self._clients = [Host(name) for name in sorted(scenario.clients)]
        self._ending = False
        self._trouble = Trouble(
            plan=plan,
            faults=self._faults,
            scheduler=self._scheduler,
            ledger=self.ledger,
            observer=self.observer,
            workers=self._workers,
        )

    def run(self) -> Run:
        """Run it from beginning to end, or to the first violation."""
        try:
            self._begin()
            if self._scenario.faults:
                self._trouble.begin()
                self._scheduler.run(until=self._plan.trouble, done=self._failed)
            self._heal()
            self._scheduler.run(until=self._scheduler.now + self._scenario.healing.total_seconds(), done=self._at_rest)
            if not self._failed():
                self._end()
        except Exception as error:  # noqa: BLE001 - an error that nobody handled is what a simulation looks for
            self.observer.violate("unhandled_error", "".join(format_exception(error)).rstrip())
        finally:
            self._scheduler.end()
        rows = self.ledger.store.rows
        return Run(
            plan=self._plan,
            violations=tuple(self.observer.violations),
            reached=self.observer.reached,
            calls=self.ledger.calls,
            faults=self.ledger.faults,
            sites=frozenset(self.ledger.sites),
            jobs=len(rows.jobs),
            organisations=len({job.org_id for job in rows.jobs.values()}),
            actors=len(self._workers) + len(self._clients),
            seconds=self._scheduler.now,
            trace=tuple(self.ledger.trace or ()),
        )

    # Beginning and end

    def _begin(self) -> None:
        for host in self._workers:
            self._supervise(host, partial(self._work, host))
        for host in self._clients:
            self._supervise(host, partial(self._act, host, self._scenario.clients[host.name]))

    def _heal(self) -> None:
        self.in_trouble = False
        self._trouble.end()
        for host in (*self._workers, *self._clients):
            if host.process is not None:
                host.process.stands_until = self._scheduler.now

    def _end(self) -> None:
        """Ask every worker to stop, and look at what is there then."""
        rows = self.ledger.store.rows
        self.observer.came_to_rest(list(rows.jobs.values()), rows.events)
        for host in self._clients:
            if not host.done:
                self.observer.violate("client_stuck", host.name)
        self._ending = True
        for host in self._workers:
            if host.worker is not None:
                host.worker.stop()
        self._scheduler.run(until=self._scheduler.now + _STOPPING_SECONDS, done=self._all_stopped)
        if not self._all_stopped():
            self.observer.violate("worker_stuck", ", ".join(host.name for host in self._workers if not host.done))
        if not self._failed():
            checking = Host("check")
            self._supervise(checking, partial(self._act, checking, self._scenario.check))
            self._scheduler.run(until=self._scheduler.now + _STOPPING_SECONDS, done=lambda: checking.done)
            if not checking.done:
                self.observer.violate("client_stuck", checking.name)

    def _failed(self) -> bool:
        return bool(self.observer.violations)

    def _at_rest(self) -> bool:
        store = self.ledger.store
        busy = store.queued or store.running or not all(host.done for host in self._clients)
        return self._failed() or not busy

    def _all_stopped(self) -> bool:
        return self._failed() or all(host.done for host in self._workers)

    # Processes

    def _supervise(self, host: Host, act: Callable[[], None]) -> None:
        """Start a process, and another one whenever it has ended, until one has returned."""
        supervisor = Process(f"host of {host.name}")
        self._scheduler.spawn(supervisor, "supervisor", partial(self._keep_up, host, act))

    def _keep_up(self, host: Host, act: Callable[[], None]) -> None:
        draws = chance(self._plan.seed, "host", host.name)
        while not host.done:
            host.starts += 1
            process = Process(
                f"{host.name}.{host.starts}",
                offset=draws.choice((0.0, -_CLOCKS_OFF_SECONDS, _CLOCKS_OFF_SECONDS)),
                rate=draws.uniform(1 - _DRIFT, 1 + _DRIFT),
            )
            host.process = process
            self._scheduler.spawn(process, "main", partial(self._live, host, act))
            while process.alive:
                self._scheduler.wait(host.ended, _IDLE_SECONDS)
            self._scheduler.sleep(draws.uniform(0.05, 2.0))

    def _live(self, host: Host, act: Callable[[], None]) -> None:
        process = cast("Process", host.process)
        try:
            act()
        finally:
            process.die()
            self._scheduler.notify(host.ended)

    def _work(self, host: Host) -> None:
        """Be a worker until it is stopped; the host is done when it was stopped for good."""
        process = cast("Process", host.process)
        worker_id = self.ledger.ids()
        bus = MessageBus(bound_handlers(self.ledger.unit_of_work), ids=self.ledger.ids, retry=once)
        host.worker = Worker(
            worker_id,
            process.name,
            ObservedJobs(self._scenario.jobs, self.ledger, self.observer, worker_id),
            self._plan.settings,
            WorkerTools(
                bus=bus,
                patient_bus=self._patient_bus(),
                clock=ProcessClock(self._scheduler, process),
                inbox=SimulatedInbox(self._scheduler, process),
                runner=SimulatedRunner(self._scheduler, process, self._plan.slots),
                wakeups=self.ledger.wakeups,
                renewer=self._renewer(worker_id, process, bus),
                beside=self._beside(process, bus),
            ),
        )
        if self._ending or host.leaving:
            host.worker.stop()
        host.worker.run()
        host.done = self._ending or host.leaving

    def _renewer(self, worker_id: UUID, process: Process, bus: MessageBus) -> Renewer:
        """Return what renews beside a worker; in every third run the loop of the worker does all by itself."""
        if self._plan.seed % 3 == 0:
            return NoRenewer()
        return SimulatedRenewer(
            worker_id,
            process,
            scheduler=self._scheduler,
            observer=self.observer,
            bus=bus,
            is_held=self.ledger.is_held,
            every=self._plan.settings.renew,
            lease=self._plan.settings.lease,
        )

    def _beside(self, process: Process, bus: MessageBus) -> Beside | None:
        """Return where a worker claims; in every fourth run its loop claims, as it does where there is one writer."""
        return None if self._plan.seed % 4 == 0 else Beside(bus, SimulatedRunner(self._scheduler, process, 1))

    def _act(self, host: Host, client: Client) -> None:
        try:
            client(self._application(cast("Process", host.process)))
        except DatabaseError:
            return
        except AssertionError as error:
            self.observer.violate(host.name, str(error) or f"an assert in {_place_of(error)}")
        host.done = True

    def _application(self, process: Process) -> Application:
        retry = self._retry()
        return Application(
            settings=Settings(database_url="memory://"),
            jobs=self._scenario.jobs,
            files=LocalFiles(),
            retry_transient=retry,
            patient_bus=self._patient_bus(),
            store=self.ledger,
            clock=ProcessClock(self._scheduler, process),
            ids=self.ledger.ids,
            wakeups=self.ledger.wakeups,
        )

    def _patient_bus(self) -> MessageBus:
        return MessageBus(bound_handlers(self.ledger.unit_of_work), ids=self.ledger.ids, retry=self._retry())

    def _retry(self) -> RetryTransient:
        return RetryTransient(
            RetryPolicy(shortest=timedelta(milliseconds=200), longest=timedelta(seconds=2)),
            sleep=lambda length: self._scheduler.sleep(length.total_seconds()),
            random=chance(self._plan.seed, "retries").random,
        )


def _place_of(error: BaseException) -> str:
    """Return where an error was raised: it may have no text, as that of a bare `assert`."""
    last = extract_tb(error.__traceback__)[-1]
    return f"{last.filename}:{last.lineno}"
