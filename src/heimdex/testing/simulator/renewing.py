"""The process beside a simulated worker that renews its leases, also while the worker stands still, not after it."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from uuid import UUID

from attrs import define

from heimdex.adapters.renewing_process import DUE, LOOK
from heimdex.domain.commands import RenewLeases
from heimdex.domain.errors import DatabaseError
from heimdex.domain.job import Hold
from heimdex.domain.scope import System
from heimdex.service_layer.message_bus import MessageBus
from heimdex.service_layer.ports import Renewer
from heimdex.testing.simulator.fibers import Process, Scheduler
from heimdex.testing.simulator.observing import Observer


@define(eq=False)
class _Lease:
    until: float
    since: float
    renewed_at: float | None = None


class SimulatedRenewer(Renewer):
    """Its times are those of its worker's monotonic clock, which a process beside it shares."""

    def __init__(
        self,
        worker_id: UUID,
        worker: Process,
        *,
        scheduler: Scheduler,
        observer: Observer,
        bus: MessageBus,
        is_held: Callable[[Hold], bool],
        every: timedelta,
        lease: timedelta,
    ) -> None:
        self._worker = worker
        self._scheduler = scheduler
        self._observer = observer
        self._bus = bus
        self._is_held = is_held
        self._every = every.total_seconds()
        self._lease = lease
        self._leases: dict[Hold, _Lease] = {}
        self._process: Process | None = None
        self._look_at = self._now()
        self._closed = False
        self._scope = System(actor=worker.name, reason="its worker's leases", source=f"worker {worker_id}")

    def add(self, hold: Hold, *, until: float) -> None:
        self._leases[hold] = _Lease(until, self._now())
        self._look_after()

    def remove(self, hold: Hold) -> None:
        self._leases.pop(hold, None)

    def renewed_at(self, hold: Hold) -> float | None:
        self._look_after()
        lease = self._leases.get(hold)
        return None if lease is None else lease.renewed_at

    def close(self) -> None:
        self._closed = True
        self._leases.clear()

    def _look_after(self) -> None:
        """Start the process if there is none, at most once between two renewals."""
        now = self._now()
        if self._closed or now < self._look_at:
            return
        self._look_at = now + self._every
        if self._process is None or not self._process.alive:
            self._process = Process(f"{self._worker.name} renewer", rate=self._worker.rate)
            self._scheduler.spawn(self._process, "main", partial(self._live, self._process))

    def _live(self, process: Process) -> None:
        while self._worker.alive and not self._closed:
            self._scheduler.sleep(LOOK * self._every)
            if self._worker.alive:
                self._renew()
        process.die()

    def _renew(self) -> None:
        now = self._now()
        due = [
            hold
            for hold, lease in sorted(self._leases.items(), key=lambda item: item[0].job_id)
            if (lease.renewed_at or lease.since) + DUE * self._every <= now < lease.until
        ]
        # What is lost is left to the loop of the worker, which records it.
        held = [hold for hold in due if self._is_held(hold)]
        if not held:
            return
        try:
            kept = self._bus.handle(RenewLeases(scope=self._scope, holds=held, lease=self._lease))
        except DatabaseError:
            return
        self._observer.reached["a lease was renewed from beside its worker"] += 1
        for hold in kept:
            if hold in self._leases:
                self._leases[hold].renewed_at = now

    def _now(self) -> float:
        return self._scheduler.now * self._worker.rate
