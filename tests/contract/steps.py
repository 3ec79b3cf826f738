"""What the contract's tests do to get a store to where they begin, and how they look at what it holds."""

from collections.abc import Collection
from datetime import timedelta
from typing import Any
from uuid import UUID

from attrs import asdict

from heimdex.domain.events import JobEvent
from heimdex.domain.job import Hold, Job
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.outcomes import Outcome, Progress
from heimdex.domain.results import Ending, Written
from heimdex.domain.scope import Scope, System, Tenant
from heimdex.domain.transitions import Status
from tests.stores import StoreHarness

ORG, OTHER_ORG = UUID(int=1), UUID(int=2)
OURS = Tenant(ORG, actor="user@example.com", source="request 7")
THEIRS = Tenant(OTHER_ORG, actor="stranger@example.org")
SYSTEM = System(actor="worker-1", reason="a worker serves every organisation", source="process 1")
WORKER, OTHER_WORKER = UUID(int=101), UUID(int=102)
NOBODY = UUID(int=999)
LEASE = timedelta(seconds=30)
TYPE = "mail.send"


def create(
    store: StoreHarness,
    type: str = TYPE,
    payload: object = None,
    *,
    scope: Scope = OURS,
    **options: Any,  # noqa: ANN401 - whatever a repository's create takes
) -> Job:
    """Create one job in a unit of work of its own."""
    with store.unit_of_work(scope) as uow:
        return uow.jobs.create(type, payload, **options).job


def claim(store: StoreHarness, limit: int = 1, *, types: Collection[str] = (TYPE,), worker: UUID = WORKER) -> list[Job]:
    with store.unit_of_work(SYSTEM) as uow:
        return uow.jobs.claim_due(worker=worker, types=types, lease=LEASE, limit=limit)


def claim_by_id(store: StoreHarness, job: Job, *, worker: UUID = WORKER) -> Job:
    with store.unit_of_work(SYSTEM) as uow:
        return uow.jobs.claim(job.id, worker=worker, lease=LEASE)


def running(store: StoreHarness, type: str = TYPE, payload: object = None, **options: Any) -> Job:  # noqa: ANN401 - as above
    """Create a job and claim it."""
    return claim_by_id(store, create(store, type, payload, **options))


def finish(store: StoreHarness, job: Job, outcome: Outcome, *, progress: Progress | None = None) -> Written:
    with store.unit_of_work(SYSTEM) as uow:
        return uow.jobs.finish([Ending(job, outcome, progress)])


def expire(store: StoreHarness, limit: int = 100) -> list[Job]:
    with store.unit_of_work(SYSTEM) as uow:
        return uow.jobs.expire(limit=limit)


def crash(store: StoreHarness, job: Job, times: int = 1) -> Job:
    """Let a queued job's worker die that many times, and return the job as it is then."""
    for _ in range(times):
        claim_by_id(store, job)
        store.advance(LEASE)
        expire(store)
    return stored(store, job)


def stored(store: StoreHarness, job: Job) -> Job:
    with store.views(SYSTEM) as views:
        found = views.find(job.id)
    assert found is not None
    return found


def every_job(store: StoreHarness) -> list[Job]:
    """Return all jobs of all organisations, in the order of ids."""
    with store.views(SYSTEM) as views:
        return list(reversed(views.page(JobFilter(), limit=999).jobs))


def history(store: StoreHarness, job: Job) -> tuple[JobEvent, ...]:
    with store.views(SYSTEM) as views:
        return views.history(job.id)


def triggers(store: StoreHarness, job: Job) -> list[str]:
    return [event.trigger for event in history(store, job)]


def refusals(store: StoreHarness, job: Job) -> int:
    with store.views(SYSTEM) as views:
        return views.refusals(job.id)


def counts(store: StoreHarness) -> dict[Status, int]:
    with store.views(SYSTEM) as views:
        return {status: count for status, count in views.statistics().by_status.items() if count}


def columns(job: Job) -> dict[str, object]:
    """Return a job's columns: jobs themselves compare by identity."""
    return asdict(job, recurse=False)


def hold_of(job: Job) -> Hold:
    assert job.hold is not None
    return job.hold
