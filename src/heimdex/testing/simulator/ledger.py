"""The ledger of a simulation: in memory, on a connection that every call may lose."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from attrs import frozen

from heimdex.adapters.ids import UuidSeven
from heimdex.adapters.job_verbs import Tools
from heimdex.adapters.memory import MemoryUnitOfWork
from heimdex.adapters.memory_ledger import MemorySchema
from heimdex.adapters.memory_store import MemoryStore, Rows
from heimdex.adapters.memory_views import open_memory_views
from heimdex.domain.errors import (
    CapabilityMissing,
    CommitOutcomeUnknown,
    DatabaseUnavailable,
    HeimdexError,
    IllegalTransition,
)
from heimdex.domain.job import Hold, Job
from heimdex.domain.scope import Scope
from heimdex.service_layer.ports import NoRenewer, Renewer, Specify, StartUnitOfWork, Store, Views
from heimdex.testing.simulator.chance import chance
from heimdex.testing.simulator.faults import REFUSALS, Fault, Site, error_of
from heimdex.testing.simulator.fibers import Scheduler, Signal, current_fiber, in_fiber
from heimdex.testing.simulator.machine import EPOCH, DatabaseClock, SimulatedWakeups, end_process
from heimdex.testing.simulator.observing import Commit, Observer
from heimdex.testing.simulator.units import SimulatedUnitOfWork, simulated_views

Answer = TypeVar("Answer")
Drawn = Callable[[str], Fault | None]
"""Says what happens at a call, by its name; None where all goes as it should."""

_LATENCY_SECONDS = 0.004
_SLOW_SECONDS = 0.3
_SLOW_SHARE = 0.03
# How long a scan may take from finding a row to locking it, and how often one takes longer than a call.
_SCAN_SECONDS = 2.0
_SCAN_SHARE = 0.5
LATE_SECONDS = 2.0
"""How long after its connection was lost a COMMIT may still come."""


@frozen
class Before:
    """What a unit of work is about to commit, and the rows as they are before it does."""

    writes: Rows
    jobs: dict[UUID, Job]


class SimulatedLedger(Store):
    """As every process of the simulation sees it."""

    def __init__(
        self,
        seed: int,
        scheduler: Scheduler,
        observer: Observer,
        *,
        specify: Specify,
        lease: timedelta,
        most_calls: int,
        drawn: Drawn,
    ) -> None:
        self.clock = DatabaseClock(scheduler)
        self.wakeups = SimulatedWakeups(scheduler, chance(seed, "wake-ups"))
        self.store = MemoryStore(self.clock, between=self._let_others, turns=_Turns(scheduler, observer))
        self.ids = UuidSeven(self._milliseconds, random_bits=lambda _: 0)
        self.calls: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.sites: set[str] = set()
        self.trace: list[str] | None = None
        self.outages = 0
        self._calls_made = 0
        self._down_until = 0.0
        self._scheduler = scheduler
        self._observer = observer
        self._lease = lease.total_seconds()
        self._most_calls = most_calls
        self._drawn = drawn
        self._latency = chance(seed, "latency")
        self._lengths = chance(seed, "lengths")
        self._scans = chance(seed, "scans")
        self._schema = MemorySchema()
        self._tools = Tools(specify=specify, ids=self.ids, random=chance(seed, "backoff").random, wake=lambda _: None)

    # The port

    @property
    def schema(self) -> MemorySchema:
        return self._schema

    def unit_of_work(self, scope: Scope) -> SimulatedUnitOfWork:
        return SimulatedUnitOfWork(MemoryUnitOfWork(self.store, scope, self._tools, self.wakeups), scope, self)

    def join(self, _session_or_connection: object, _scope: Scope) -> SimulatedUnitOfWork:
        raise CapabilityMissing("the ledger of a simulation is in no database whose transaction could be joined")

    def reserve(self, _: timedelta) -> tuple[StartUnitOfWork, Callable[[], None]]:
        return self.unit_of_work, self.close

    @contextmanager
    def views(self, scope: Scope) -> Iterator[Views]:
        with open_memory_views(self.store, scope) as views, simulated_views(views, self) as simulated:
            yield simulated

    @property
    def writes_side_by_side(self) -> bool:
        return False

    def renewer(self, *, lease: timedelta, every: timedelta, most: int) -> Renewer:  # noqa: ARG002 - of the port
        return NoRenewer()

    def close(self) -> None:
        """Nothing is held open."""

    def is_held(self, hold: Hold) -> bool:
        """Return whether a hold is in force, as the server has it."""
        row = self.store.rows.jobs.get(hold.job_id)
        return row is not None and row.hold == hold

    # What happens at each call

    def call(self, name: str, act: Callable[[], Answer], unit: SimulatedUnitOfWork | None) -> Answer:
        fault = self._point(name)
        if unit is not None:
            unit.check_usable()
        elif self._scheduler.now < self._down_until:
            raise DatabaseUnavailable("simulated: the server does not answer")
        if fault in REFUSALS:
            self._fail(fault, unit)
        try:
            answer = act()
        except IllegalTransition as error:
            self._observer.refused(None if unit is None else unit.scope.source, error)
            raise
        if fault is Fault.CRASH_AFTER:
            end_process()
        if fault is Fault.LOST_AFTER:
            self._fail(fault, unit)
        return answer

    def commit(self, unit: SimulatedUnitOfWork) -> None:
        fault = self._point(f"commit({','.join(unit.verbs)})")
        unit.check_usable()
        if fault is Fault.LOST_LATE:
            unit.give_up()
            late = self._scheduler.now + self._lengths.uniform(0.0, LATE_SECONDS)
            self._scheduler.call_at(late, lambda: self._commit_late(unit))
            raise CommitOutcomeUnknown("simulated: the connection was lost during COMMIT")
        if fault is Fault.LOST_BEFORE:
            unit.lose(error_of(fault))
            self._observer.reached["a commit of unknown outcome was none"] += 1
            raise CommitOutcomeUnknown("simulated: the connection was lost during COMMIT")
        if fault in REFUSALS:
            self._fail(fault, unit)
        self._commit(unit)
        if fault is Fault.CRASH_AFTER:
            end_process()
        if fault is Fault.LOST_AFTER:
            self._observer.reached["a commit of unknown outcome was one"] += 1
            raise CommitOutcomeUnknown("simulated: the connection was lost during COMMIT")
        self._observer.acknowledged(unit.created)

    def go_down(self, seconds: float) -> None:
        """Restart the server: what was not committed is undone, and for a while nobody can connect."""
        self.note("the database", "restart")
        self.outages += 1
        self._down_until = self._scheduler.now + seconds

    def come_up(self) -> None:
        self._down_until = 0.0

    def _point(self, name: str) -> Fault | None:
        """Let others go on, and let happen what has to happen before the call."""
        fiber = current_fiber()
        fiber.process.check_alive()
        fault = self._drawn(name)
        self.calls[name] += 1
        self._calls_made += 1
        if self._calls_made == self._most_calls:
            often = self.calls.most_common(3)
            made = f"{self._most_calls:,} calls of the ledger (Scenario.calls) in {self._scheduler.now:,.0f} seconds"
            self._observer.violate("busy_loop", f"{made}, most often {often}")
        self.note(f"{fiber.process.name}/{fiber.name}", name, fault)
        if fault is not None:
            self.faults[fault] += 1
            self.sites.add(str(Site(name, fault)))
        if fault is Fault.CRASH_BEFORE:
            end_process()
        if fault is Fault.PAUSE:
            fiber.process.stand_still(self._scheduler.now + self._lengths.uniform(1.2, 2.5) * self._lease)
        self._scheduler.sleep(
            self._delay() if fault is not Fault.DELAY else self._lengths.uniform(0.1, 0.95) * self._lease
        )
        return fault

    def _fail(self, fault: Fault, unit: SimulatedUnitOfWork | None) -> None:
        error = error_of(fault)
        if unit is not None:
            unit.lose(error)
        raise error

    def _commit_late(self, unit: SimulatedUnitOfWork) -> None:
        try:
            self._commit(unit)
        except HeimdexError:
            return
        self._observer.reached["a commit came after it had been looked for"] += 1

    def _commit(self, unit: SimulatedUnitOfWork) -> None:
        writes = unit.inner.open_transaction()
        before = Before(writes, {job_id: row for job_id in writes.jobs if (row := self.store.rows.jobs.get(job_id))})
        unit.inner.__exit__(None, None, None)
        self._observe(before, unit.scope)

    def _observe(self, before: Before, scope: Scope) -> None:
        rows, writes = self.store.rows, before.writes
        after = {job_id: rows.jobs[job_id] for job_id in writes.jobs if job_id in rows.jobs}
        self._observer.committed(
            Commit(
                at=self.clock.now(),
                source=scope.source,
                before=before.jobs,
                after=after,
                events=writes.events,
                histories={job_id: rows.events[job_id] for job_id in after},
                assets=list(writes.assets.values()),
                refused=sum(writes.refusals.values()),
                gone=writes.gone_jobs,
                torn=[job.id for job in rows.jobs.values() if job.version != len(rows.events.get(job.id, ()))],
            )
        )
        if self.trace is not None:
            for job_id, job in after.items():
                triggers = ",".join(event.trigger for event in writes.events.get(job_id, ())) or "renew"
                self.note("committed", f"{job_id} {triggers} -> {job.status} v{job.version}")

    def note(self, who: str, what: str, fault: Fault | None = None) -> None:
        if self.trace is not None:
            self.trace.append(f"{self._scheduler.now:10.6f} {who}: {what}{f' !{fault}' if fault else ''}")

    def _delay(self) -> float:
        slow = self._latency.random() < _SLOW_SHARE
        return self._latency.random() * (_SLOW_SECONDS if slow else _LATENCY_SECONDS)

    def _let_others(self) -> None:
        if in_fiber():
            long = self._scans.random() < _SCAN_SHARE
            self._scheduler.sleep(self._scans.uniform(0.0, _SCAN_SECONDS) if long else self._delay())

    def _milliseconds(self) -> int:
        return int(EPOCH.timestamp() * 1000 + self._scheduler.now * 1000)


class _Turns:
    """Turns in a store that one thread shares between fibers: only a lock is waited for, and others go on meanwhile."""

    def __init__(self, scheduler: Scheduler, observer: Observer) -> None:
        self._scheduler = scheduler
        self._observer = observer
        self._released = Signal()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        until = self._scheduler.now + (timeout or 0.0)
        while not predicate():
            self._observer.reached["a lock was waited for"] += 1
            if self._scheduler.now >= until:
                return False
            self._scheduler.wait(self._released, until - self._scheduler.now)
        return True

    def notify_all(self) -> None:
        self._scheduler.notify(self._released)
