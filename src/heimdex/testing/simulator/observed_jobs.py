"""The job functions of a simulated worker, with somebody who sees each start and end of one."""

from collections.abc import Awaitable
from functools import partial
from typing import cast
from uuid import UUID

from attrs import evolve

from heimdex.domain.errors import CapabilityMissing
from heimdex.service_layer.job_context import JobContext
from heimdex.service_layer.job_registry import JobFunction, JobRegistry, RegisteredJob
from heimdex.testing.simulator.ledger import SimulatedLedger
from heimdex.testing.simulator.observing import Observer

# What asyncio says to those who want an event loop.
_NO_LOOP = "no running event loop"


class ObservedJobs(JobRegistry):
    """The same jobs; each start and end of a function is observed."""

    def __init__(self, jobs: JobRegistry, ledger: SimulatedLedger, observer: Observer, worker: UUID) -> None:
        super().__init__()
        self._ledger = ledger
        self._observer = observer
        self._worker = worker
        self.include(jobs)

    def get(self, type: str) -> RegisteredJob:
        registered = super().get(type)
        call = self._call_async if registered.is_async else self._call
        return evolve(registered, function=partial(call, registered.function))

    def _call(self, function: JobFunction, payload: object, context: JobContext) -> object:
        job_id = self._begin(context)
        try:
            return function(payload, context)
        except CapabilityMissing as error:
            self._refuse(context, error)
            raise
        finally:
            self._observer.ended(job_id)

    async def _call_async(self, function: JobFunction, payload: object, context: JobContext) -> object:
        job_id = self._begin(context)
        try:
            return await cast("Awaitable[object]", function(payload, context))
        except (CapabilityMissing, RuntimeError) as error:
            if isinstance(error, CapabilityMissing) or _NO_LOOP in str(error):
                self._refuse(context, error)
            raise
        finally:
            self._observer.ended(job_id)

    def _refuse(self, context: JobContext, error: Exception) -> None:
        """Say that a function wants what the simulation has not: a run in which it fails for that shows nothing."""
        what = f"the function of {context.job.type}: {error}; it may take() time, and await asyncio.sleep(0) only"
        self._observer.violate("not_simulated", what)

    def _begin(self, context: JobContext) -> UUID:
        job = context.job
        self._observer.started(job, self._worker, self._ledger.store.rows.jobs.get(job.id), self._ledger.clock.now())
        return job.id
