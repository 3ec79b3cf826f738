"""Which jobs a page shows or a bulk verb reaches."""

from uuid import UUID

from attrs import asdict, frozen

from heimdex.domain.job import Job
from heimdex.domain.transitions import Status


@frozen(kw_only=True)
class JobFilter:
    """None is any."""

    status: Status | None = None
    type: str | None = None
    queue: str | None = None
    requested_by: str | None = None
    parent_id: UUID | None = None

    def accepts(self, job: Job) -> bool:
        return all(wanted is None or getattr(job, name) == wanted for name, wanted in asdict(self).items())
