"""Faults by enumeration: one use case, and a fault at exactly the n-th call that its acting process makes of a port.

Nothing is left to chance, so that two runs with the same faults are the same, and a case can be swept: every fault at
every call, and every pair of faults.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import timedelta
from functools import partial

from attrs import define, evolve, field, frozen

from heimdex.service_layer.job_registry import JobRegistry
from heimdex.service_layer.pace import WorkerSettings
from heimdex.testing.simulator.chance import NO_CHANCE, NO_HASTE
from heimdex.testing.simulator.faults import OF_COMMIT, OF_SOME_LENGTH, Fault
from heimdex.testing.simulator.fibers import current_fiber
from heimdex.testing.simulator.ledger import LATE_SECONDS
from heimdex.testing.simulator.plan import Client, Plan, Scenario
from heimdex.testing.simulator.simulation import Run, Simulation
from heimdex.testing.simulator.trouble import Host

LEASE = timedelta(seconds=3)

_ACTING_CLIENT = "actor"
_ACTING_WORKER = "worker 1"
_HEALTHY_WORKER = "healthy worker"
_PREPARED_SECONDS = 60.0
_ACTED_SECONDS = 300.0

Faults = Mapping[int, Fault]
"""What happens at which call of the acting process, counted from 1, over all its starts."""


def _nothing(_: object) -> None:
    pass


@frozen(kw_only=True)
class Case:
    """A use case, for one run.

    Args:
        prepare: brings the ledger to where the case begins.
        act: what the acting process does; None: it is a worker, over what was prepared.
        beside: a client that acts at the same time, without faults.
        check: raises AssertionError where callers were told what is not so.
        stop_after: when the acting worker is asked to stop, in seconds after its start; None: once all has ended.
        worker_first: whether a healthy worker works from the beginning. Otherwise it comes with the first fault of an
            acting worker, and once an acting client has its answer.
    """

    jobs: JobRegistry
    prepare: Client = _nothing
    act: Client | None = None
    beside: Client | None = None
    check: Client
    stop_after: float | None = None
    worker_first: bool = False

    @property
    def acting(self) -> str:
        return _ACTING_WORKER if self.act is None else _ACTING_CLIENT


@frozen(kw_only=True)
class Swept:
    """A run with its faults, and the calls that the acting process made in it.

    Args:
        seed: NO_CHANCE, or NO_HASTE.
    """

    make: "MakeCase"
    seed: int
    faults: Faults
    calls: tuple[str, ...]
    run: Run

    @property
    def failures(self) -> tuple[str, ...]:
        """What was wrong with it; a fault that did not happen is that, too."""
        last = max(self.faults, default=0)
        missing = () if last <= len(self.calls) else (f"not_reached: call {last} of {len(self.calls)}",)
        return (*map(str, self.run.violations), *missing)

    def with_one_more(self, faults: Collection[Fault] = frozenset(Fault)) -> "Iterator[Swept]":
        """Yield the runs that have these faults, and each that can happen at a later call."""
        first = max(self.faults, default=0)
        for number, call in enumerate(self.calls[first:], start=first + 1):
            for fault in Fault:
                if fault in faults and (fault not in OF_COMMIT or call.startswith("commit")):
                    yield run_case(self.make, {**self.faults, number: fault}, seed=self.seed)


MakeCase = Callable[[], Case]


def run_case(make: MakeCase, faults: Faults, *, seed: int = NO_CHANCE, traced: bool = False) -> Swept:
    """Run a case with faults at the calls given; without any, to see which calls it makes."""
    case = make()
    injector = _Injector(case.acting, faults)
    run = _CaseSimulation(case, injector, seed, traced=traced).run()
    return Swept(make=make, seed=seed, faults=faults, calls=tuple(injector.calls), run=run)


def each_fault(make: MakeCase) -> Iterator[Swept]:
    """Run a case with every fault at every call; those that may take a while, with a long one, too."""
    yield from run_case(make, {}).with_one_more()
    yield from run_case(make, {}, seed=NO_HASTE).with_one_more(OF_SOME_LENGTH)


@define(eq=False)
class _Injector:
    acting: str
    faults: Faults
    calls: list[str] = field(factory=list, init=False)
    begun: bool = field(default=False, init=False)
    # When no COMMIT can be under way any more whose connection was lost.
    over_at: float = field(default=0.0, init=False)

    def drawn(self, call: str) -> Fault | None:
        if current_fiber().process.name.rpartition(".")[0] != self.acting:
            return None
        self.calls.append(call)
        fault = self.faults.get(len(self.calls))
        self.begun = self.begun or fault is not None
        if fault is Fault.LOST_LATE:
            # Some more, for the time that the call itself takes.
            self.over_at = current_fiber().scheduler.now + LATE_SECONDS + 1.0
        return fault


class _CaseSimulation(Simulation):
    def __init__(self, case: Case, injector: _Injector, seed: int, *, traced: bool) -> None:
        clients = {_ACTING_CLIENT: case.act, "beside": case.beside}
        scenario = Scenario(
            jobs=case.jobs,
            clients={name: client for name, client in clients.items() if client is not None},
            check=case.check,
            faults=False,
        )
        plan = evolve(_PLAN, seed=seed, workers=1 if case.act is None else 0)
        super().__init__(scenario, plan, traced=traced, drawn=injector.drawn)
        self._case = case
        self._injector = injector
        self._acting = next(host for host in (*self._workers, *self._clients) if host.name == case.acting)

    def _begin(self) -> None:
        preparing = Host("preparer")
        self._supervise(preparing, partial(self._act, preparing, self._case.prepare))
        self._go_on(_PREPARED_SECONDS, lambda: preparing.done)
        if not preparing.done:
            self.observer.violate("client_stuck", preparing.name)
        if self._case.worker_first:
            self._workers.append(Host(_HEALTHY_WORKER))
        super()._begin()
        if self._case.stop_after is not None:
            self._scheduler.call_at(self._scheduler.now + self._case.stop_after, self._ask_to_stop)
        self._go_on(_ACTED_SECONDS, self._has_acted)
        if not self._case.worker_first and (self._injector.begun or self._case.act or self._case.stop_after):
            self._let_a_worker_come()

    def _heal(self) -> None:
        """What was injected passes by itself: whoever stands still does so for its time."""

    def _at_rest(self) -> bool:
        return super()._at_rest() and (self._failed() or self._scheduler.now >= self._injector.over_at)

    def _has_acted(self) -> bool:
        if self._case.act is not None:
            return self._acting.done
        return self._injector.begun or self._acting.done or self._at_rest()

    def _go_on(self, seconds: float, done: Callable[[], bool]) -> None:
        self._scheduler.run(until=self._scheduler.now + seconds, done=lambda: self._failed() or done())

    def _let_a_worker_come(self) -> None:
        host = Host(_HEALTHY_WORKER)
        self._workers.append(host)
        self._supervise(host, partial(self._work, host))

    def _ask_to_stop(self) -> None:
        """Ask the acting worker to stop; if it has just died, its next start will."""
        self._acting.leaving = True
        if self._acting.worker is not None:
            self._acting.worker.stop()


_PLAN = Plan(
    seed=NO_CHANCE,
    workers=1,
    slots=1,
    trouble=0.0,
    settings=WorkerSettings(
        batch=1,
        lease=LEASE,
        renew=LEASE / 3,
        sweep=timedelta(seconds=2),
        poll=timedelta(seconds=2),
        grace=timedelta(seconds=0.5),
    ),
)
