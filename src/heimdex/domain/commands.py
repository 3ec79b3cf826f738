"""What can be asked of Heimdex, as values. Each names its scope and, in `Command[...]`, what it answers with."""

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Generic, Self, TypeVar
from uuid import UUID

from attrs import evolve, frozen

from heimdex.domain.job import Hold, Job
from heimdex.domain.new_job import NewJob
from heimdex.domain.results import Created, Ending, Report, Written
from heimdex.domain.scope import Scope

Answer_co = TypeVar("Answer_co", covariant=True)


@frozen(kw_only=True)
class Command(Generic[Answer_co]):
    scope: Scope

    def settled(self, draw: Callable[[], UUID]) -> Self:  # noqa: ARG002 - for the commands that draw
        """Return this command with whatever must be the same in every try; it is drawn before the first."""
        return self


@frozen(kw_only=True)
class CreateJobs(Command[list[Created]]):
    """Create jobs of one organisation; answers in the order given. `org_id` only under `System`."""

    new_jobs: Sequence[NewJob]
    org_id: UUID | None = None
    parent_id: UUID | None = None

    def settled(self, draw: Callable[[], UUID]) -> Self:
        return evolve(self, new_jobs=_with_ids(self.new_jobs, draw))


@frozen(kw_only=True)
class CreateChildren(Command[list[Created]]):
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
class ClaimJobs(Command[list[Job]]):
    """Claim due jobs for a worker. `queues` None is every queue."""

    worker: UUID
    types: frozenset[str]
    lease: timedelta
    limit: int
    queues: frozenset[str] | None = None


@frozen(kw_only=True)
class FinishJobs(Command[Written]):
    """End runs and write their effects."""

    endings: Sequence[Ending]


@frozen(kw_only=True)
class ReportJobs(Command[Written]):
    """Write progress and notes of runs that go on."""

    reports: Sequence[Report]


@frozen(kw_only=True)
class RenewLeases(Command[frozenset[Hold]]):
    """Prolong leases; the answer is the holds still in force."""

    holds: Sequence[Hold]
    lease: timedelta


@frozen(kw_only=True)
class ExpireLeases(Command[list[Job]]):
    """End runs whose lease has run out, at most `limit`."""

    limit: int


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
    return tuple(evolve(new, id=draw()) if new.id is None else new for new in new_jobs)
