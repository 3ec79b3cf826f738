"""A worker as people see it. Recovery never looks here: leases are on the jobs."""

from datetime import datetime
from uuid import UUID

from attrs import define

from heimdex.domain.job import Job


@define(slots=False, eq=False)
class WorkerRecord:
    """A worker process. `id` is new at every start; `types` and `queues` are what it claims."""

    id: UUID
    name: str
    types: tuple[str, ...]
    queues: tuple[str, ...]
    started_at: datetime
    seen_at: datetime

    def serves(self, job: Job) -> bool:
        """Return whether it claims jobs of this type from this queue; without queues of its own, from every one."""
        return job.type in self.types and (not self.queues or job.queue in self.queues)
