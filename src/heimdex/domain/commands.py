"""What can be asked of Heimdex, as values. Each names its scope and, in `Command[...]`, what it answers with."""

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import ClassVar, Generic, Self, TypeVar
from uuid import UUID

from attrs import evolve, field, frozen

from heimdex.domain.job import Hold, Job
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.new_job import NewJob, with_id
from heimdex.domain.operations import Removed, Retention
from heimdex.domain.results import Created, Draft, Ending, OneByOne, Report, Written
from heimdex.domain.scope import Scope

Answer_co = TypeVar("Answer_co", covariant=True)


@frozen(kw_only=True)
class Command(Generic[Answer_co]):
    in_steps: ClassVar[bool] = False
    """Whether it is done in several units of work: then each of them is what is tried again, never the whole."""

    scope: Scope

    def settled(self, draw: Callable[[], UUID]) -> Self:  # noqa: ARG002 - for the commands that draw
        """Return this command with whatever must be the same in every try; it is drawn before the first."""
        return self


@frozen(kw_only=True)
class DraftedCommand(Command[Answer_co]):
    """A command that notes what it is about to commit."""

    draft: Draft = field(factory=Draft, eq=False, repr=False)


@frozen(kw_only=True)
class CreateJobs(DraftedCommand[Sequence[Created]]):
    """Create jobs of one organisation; answers in the order given. `org_id` only under `System`."""

    new_jobs: Sequence[NewJob]
    org_id: UUID | None = None
    parent_id: UUID | None = None

    def settled(self, draw: Callable[[], UUID]) -> Self:
        # By name: to evolve takes longer than the rest of it.
        return type(self)(
            scope=self.scope,
            new_jobs=_with_ids(self.new_jobs, draw),
            org_id=self.org_id,
            parent_id=self.parent_id,
            draft=self.draft,
        )


@frozen(kw_only=True)
class CreateChildren(Command[Sequence[Created]]):
    """Create children of a running job at once. Every child needs an idempotency key.

    Args:
        lease: the parent's lease is prolonged by it first; that locks the parent's row and is the fence.
    """

    parent: Job
    new_jobs: Sequence[NewJob]
    lease: timedelta

    def settled(self, draw: Callable[[], UUID]) -> Self:
        return evolve(self, new_jobs=_with_ids(self.new_jobs, draw))


@frozen(kw_only=True)
class CancelJob(Command[Job]):
    """Cancel a queued job, or ask a running one to stop."""

    job_id: UUID
    reason: str


@frozen(kw_only=True)
class RetryJob(Command[Job]):
    """Queue a job again that has ended without success."""

    job_id: UUID
    reason: str


@frozen(kw_only=True)
class CancelJobs(Command[int]):
    """Cancel every job among `which` that can be; answers how many were."""

    in_steps = True

    which: JobFilter
    reason: str


@frozen(kw_only=True)
class RetryJobs(Command[int]):
    """Retry by hand every job among `which` that can be; answers how many were."""

    in_steps = True

    which: JobFilter
    reason: str


@frozen(kw_only=True)
class PauseQueue(Command[None]):
    """Let nothing be claimed from a queue: under a `Tenant` for its organisation, under `System` for every one."""

    queue: str
    reason: str


@frozen(kw_only=True)
class ResumeQueue(Command[bool]):
    """Answers whether the scope had paused the queue."""

    queue: str


@frozen(kw_only=True)
class Prune(Command[Removed]):
    """Delete what has ended long enough ago."""

    in_steps = True

    retention: Retention


@frozen(kw_only=True)
class EraseOrg(Command[Removed]):
    """Delete everything of an organisation but a count. `id` is that of the count; drawn if None."""

    in_steps = True

    org_id: UUID
    reason: str
    id: UUID | None = None

    def settled(self, draw: Callable[[], UUID]) -> Self:
        return evolve(self, id=self.id or draw())


@frozen(kw_only=True)
class ClaimingCommand(DraftedCommand[Answer_co]):
    """What a worker asks for. `queues` None is every queue."""

    worker: UUID
    types: frozenset[str]
    lease: timedelta
    limit: int
    queues: frozenset[str] | None = None


@frozen(kw_only=True)
class ClaimJobs(ClaimingCommand[list[Job]]):
    """Claim due jobs for a worker."""


@frozen(kw_only=True)
class ClaimOneByOne(ClaimingCommand[OneByOne]):
    """Claim due jobs where a batch failed for one of them, which is passed over."""


@frozen(kw_only=True)
class FinishJobs(DraftedCommand[Written]):
    """End runs and write their effects. All or none: where several fail for one, send each alone."""

    endings: Sequence[Ending]


@frozen(kw_only=True)
class ReportJobs(DraftedCommand[Written]):
    """Write progress and notes of runs that go on."""

    reports: Sequence[Report]


@frozen(kw_only=True)
class RenewLeases(Command[frozenset[Hold]]):
    """Prolong leases; the answer is the holds still in force."""

    holds: Sequence[Hold]
    lease: timedelta


@frozen(kw_only=True)
class FindCancelRequests(Command[frozenset[Hold]]):
    """Ask which of these runs somebody wants to stop."""

    holds: Sequence[Hold]


@frozen(kw_only=True)
class ExpireLeases(Command[list[Job]]):
    """End runs whose lease has run out, at most `limit`, with ids above `after`."""

    limit: int
    after: UUID | None = None


@frozen(kw_only=True)
class ExpireOneByOne(Command[OneByOne]):
    """End runs whose lease has run out where a batch failed for one of them, which is passed over."""

    limit: int
    after: UUID | None = None


@frozen(kw_only=True)
class WasCommitted(Command[bool]):
    """Ask whether the transaction of this scope that made `job` what it is was committed."""

    job: Job


@frozen(kw_only=True)
class MarkWorkerSeen(Command[None]):
    """Say that a worker is alive."""

    worker: UUID
    name: str
    types: frozenset[str]
    queues: frozenset[str]


@frozen(kw_only=True)
class MarkWorkerGone(Command[None]):
    """Say that a worker stopped in order."""

    worker: UUID


def _with_ids(new_jobs: Iterable[NewJob], draw: Callable[[], UUID]) -> tuple[NewJob, ...]:
    return tuple(with_id(new, draw()) if new.id is None else new for new in new_jobs)
