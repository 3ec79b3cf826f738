"""Handlers of what people do to jobs, queues and organisations. Bulk work is done in steps, each retried alone."""

from collections.abc import Callable
from uuid import UUID

from heimdex.domain.commands import (
    CancelJob,
    CancelJobs,
    EraseOrg,
    PauseQueue,
    Prune,
    ResumeQueue,
    RetryJob,
    RetryJobs,
)
from heimdex.domain.errors import InvalidInput
from heimdex.domain.job import Job
from heimdex.domain.operations import Removed
from heimdex.domain.scope import Scope
from heimdex.service_layer.ports import MAX_LISTED, StartUnitOfWork, UnitOfWork
from heimdex.service_layer.retry import Retry


def cancel_job(command: CancelJob, *, start_uow: StartUnitOfWork) -> Job:
    with start_uow(command.scope) as uow:
        return uow.jobs.cancel(command.job_id, reason=command.reason)


def retry_job(command: RetryJob, *, start_uow: StartUnitOfWork) -> Job:
    with start_uow(command.scope) as uow:
        return uow.jobs.retry_by_hand(command.job_id, reason=command.reason)


def cancel_jobs(command: CancelJobs, *, start_uow: StartUnitOfWork, retry: Retry) -> int:
    def step(uow: UnitOfWork, after: UUID | None) -> list[Job]:
        return uow.jobs.cancel_matching(command.which, reason=command.reason, after=after, limit=MAX_LISTED)

    return _step_by_step(step, command.scope, start_uow, retry)


def retry_jobs(command: RetryJobs, *, start_uow: StartUnitOfWork, retry: Retry) -> int:
    def step(uow: UnitOfWork, after: UUID | None) -> list[Job]:
        return uow.jobs.retry_matching(command.which, reason=command.reason, after=after, limit=MAX_LISTED)

    return _step_by_step(step, command.scope, start_uow, retry)


def pause_queue(command: PauseQueue, *, start_uow: StartUnitOfWork) -> None:
    with start_uow(command.scope) as uow:
        uow.queues.pause(command.queue, reason=command.reason)


def resume_queue(command: ResumeQueue, *, start_uow: StartUnitOfWork) -> bool:
    with start_uow(command.scope) as uow:
        return uow.queues.resume(command.queue)


def prune(command: Prune, *, start_uow: StartUnitOfWork, retry: Retry) -> Removed:
    """Prune jobs, then histories, until a step finds no full batch."""

    def prune_jobs() -> Removed:
        with start_uow(command.scope) as uow:
            return uow.maintenance.prune_jobs(command.retention, limit=MAX_LISTED)

    def prune_histories() -> Removed:
        with start_uow(command.scope) as uow:
            return uow.maintenance.prune_histories(command.retention, limit=MAX_LISTED)

    total = Removed()
    full = True
    while full:
        removed = retry(prune_jobs)
        total.add(removed)
        full = removed.jobs == MAX_LISTED
    while (removed := retry(prune_histories)).events:
        total.add(removed)
    return total


def erase_org(command: EraseOrg, *, start_uow: StartUnitOfWork, retry: Retry) -> Removed:
    erasure = command.id
    if erasure is None:
        raise InvalidInput("id", None, "hand the command to the bus, which draws one")

    def step() -> Removed:
        with start_uow(command.scope) as uow:
            return uow.maintenance.erase(erasure, command.org_id, reason=command.reason, limit=MAX_LISTED)

    total = Removed()
    while (removed := retry(step)) != Removed():
        total.add(removed)
    return total


def _step_by_step(
    step: Callable[[UnitOfWork, UUID | None], list[Job]], scope: Scope, start_uow: StartUnitOfWork, retry: Retry
) -> int:
    count, after = 0, None

    def next_step() -> list[Job]:
        with start_uow(scope) as uow:
            return step(uow, after)

    while True:
        done = retry(next_step)
        count += len(done)
        if len(done) < MAX_LISTED:
            return count
        after = done[-1].id
