"""What a worker tells the ledger and asks of it, and when: each part is one command, and what fails stays due."""

import logging
from uuid import UUID

from heimdex.domain.commands import (
    ClaimJobs,
    ExpireLeases,
    FinishJobs,
    MarkWorkerGone,
    MarkWorkerSeen,
    RenewLeases,
    ReportJobs,
)
from heimdex.domain.errors import DatabaseError, DataRejected
from heimdex.domain.scope import System
from heimdex.service_layer.job_registry import JobRegistry
from heimdex.service_layer.message_bus import MessageBus
from heimdex.service_layer.pace import Timer, WorkerSettings
from heimdex.service_layer.ports import Clock
from heimdex.service_layer.runs import Runs

_EXPIRED_AT_ONCE = 100
_REPORT_SECONDS = 1.0


class Exchange:
    """Every method but `due_at` and `hold_off` may raise DatabaseError.

    `hungry` is whether there may be work to claim before the next poll.
    """

    def __init__(
        self,
        *,
        worker_id: UUID,
        name: str,
        jobs: JobRegistry,
        settings: WorkerSettings,
        bus: MessageBus,
        clock: Clock,
        runs: Runs,
    ) -> None:
        self.hungry = True
        self._worker_id = worker_id
        self._name = name
        self._jobs = jobs
        self._settings = settings
        self._bus = bus
        self._clock = clock
        self._runs = runs
        self._scope = System(
            actor=name, reason="a worker runs jobs of every organisation", source=f"worker {worker_id}"
        )
        self._log = logging.getLogger("heimdex.worker")
        now = clock.monotonic()
        self._renewal = Timer(settings.renew.total_seconds(), now + settings.renew.total_seconds())
        self._reporting = Timer(_REPORT_SECONDS, now)
        self._sweep = Timer(settings.sweep.total_seconds(), now)
        self._poll = Timer(settings.poll.total_seconds(), now)

    def due_at(self, now: float, room: int) -> float:
        """Return when there is something to do for the database, with so much room for jobs."""
        if self._runs.unwritten or (room and self.hungry):
            return now
        due_at = [self._renewal.due_at, self._sweep.due_at]
        if room:
            due_at.append(self._poll.due_at)
        if self._runs.held:
            due_at.append(self._reporting.due_at)
        return min(due_at)

    def hold_off(self, until: float) -> None:
        """Leave expired leases alone: whoever holds them could not say so while the database was away."""
        self._sweep.postpone(until)

    def renew(self) -> None:
        now = self._clock.monotonic()
        if not self._renewal.is_due(now):
            return
        if self._runs.held:
            # The leases run from when the database answers, so not before now.
            lease = self._settings.lease
            kept = self._bus.handle(RenewLeases(scope=self._scope, holds=list(self._runs.held), lease=lease))
            for hold in kept:
                self._runs.held[hold].lease_ends = now + lease.total_seconds()
            self._runs.lose([run for hold, run in self._runs.held.items() if hold not in kept])
        self._renewal.restart(now)

    def report(self) -> None:
        now = self._clock.monotonic()
        if self._reporting.is_due(now):
            self._runs.collect_reports()
            self._reporting.restart(now)
        if not self._runs.reports:
            return
        try:
            self._bus.handle(ReportJobs(scope=self._scope, reports=list(self._runs.reports)))
        except DataRejected as error:
            # It would be rejected at every try, and nothing else would ever be written.
            self._log.error("progress and notes were rejected and are lost: %s", error)
        self._runs.reports.clear()

    def finish(self) -> None:
        while self._runs.endings:
            batch = self._runs.endings[: self._settings.batch]
            written = self._bus.handle(FinishJobs(scope=self._scope, endings=batch))
            del self._runs.endings[: len(batch)]
            for refusal in written.refusals:
                self._log.warning("job %s was no longer held: its end was refused and recorded", refusal.job_id)

    def expire(self) -> None:
        now = self._clock.monotonic()
        if not self._sweep.is_due(now):
            return
        self._bus.handle(
            MarkWorkerSeen(
                scope=self._scope,
                worker=self._worker_id,
                name=self._name,
                types=self._jobs.types,
                queues=self._settings.queues or frozenset(),
            )
        )
        expired = self._bus.handle(ExpireLeases(scope=self._scope, limit=_EXPIRED_AT_ONCE))
        for job in expired:
            self._log.warning("job %s was left by its worker and is now %s", job.id, job.status)
        if len(expired) < _EXPIRED_AT_ONCE:
            self._sweep.restart(now)

    def claim(self, room: int) -> None:
        now = self._clock.monotonic()
        if not room or not (self.hungry or self._poll.is_due(now)):
            return
        claimed = self._bus.handle(
            ClaimJobs(
                scope=self._scope,
                worker=self._worker_id,
                types=self._jobs.types,
                lease=self._settings.lease,
                limit=room,
                queues=self._settings.queues,
            )
        )
        self.hungry = bool(claimed)
        self._poll.restart(now)
        for job in claimed:
            self._runs.add(job, lease_ends=now + self._settings.lease.total_seconds())

    def sign_off(self) -> None:
        """Remove this worker from those on record."""
        try:
            self._bus.handle(MarkWorkerGone(scope=self._scope, worker=self._worker_id))
        except DatabaseError as error:
            self._log.warning("this worker stays on record until it is seen as dead: %s", error)
