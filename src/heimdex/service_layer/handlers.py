"""What happens for each command: one unit of work, the verbs of its repositories, an answer."""

from collections.abc import Sequence
from uuid import UUID

from attrs import evolve

from heimdex.domain.commands import (
    ClaimJobs,
    CreateChildren,
    CreateJobs,
    ExpireLeases,
    FinishJobs,
    MarkWorkerGone,
    MarkWorkerSeen,
    RenewLeases,
    ReportJobs,
)
from heimdex.domain.errors import (
    CommitOutcomeUnknown,
    DatabaseError,
    DataRejected,
    IdempotencyConflict,
    InvalidInput,
    InvalidPayload,
    JobNotFound,
    LeaseLost,
    TransientDatabaseError,
    UniqueViolation,
    UnknownJobType,
)
from heimdex.domain.job import Hold, Job
from heimdex.domain.new_job import NewJob
from heimdex.domain.outcomes import Fail, Succeed
from heimdex.domain.results import Created, Ending, Written
from heimdex.service_layer.ports import StartUnitOfWork, UnitOfWork

_SAME_ID = "pk_job"
# What the effects of one ending can be at fault for; the endings beside it are not.
_OF_ONE_ENDING = (
    DataRejected,
    IdempotencyConflict,
    InvalidInput,
    InvalidPayload,
    JobNotFound,
    UniqueViolation,
    UnknownJobType,
)


def create_jobs(command: CreateJobs, *, start_uow: StartUnitOfWork) -> list[Created]:
    """Create jobs. A commit of unknown outcome is resolved by looking for their ids, which were drawn before.

    Raises:
        CommitOutcomeUnknown: looking failed too.
    """
    try:
        with start_uow(command.scope) as uow:
            return _create(uow, command, command.new_jobs)
    except CommitOutcomeUnknown as unknown:
        try:
            created = _created_before(command, start_uow)
        except DatabaseError as error:
            raise unknown from error
        if created is None:
            raise TransientDatabaseError("the connection was lost, and what was written is not there") from unknown
        return created
    except UniqueViolation as error:
        # The commit of an earlier try was still under way when it was looked for.
        created = _created_before(command, start_uow) if error.constraint_name == _SAME_ID else None
        if created is None:
            raise
        return created


def create_children(command: CreateChildren, *, start_uow: StartUnitOfWork) -> list[Created]:
    """Create children while their parent's hold is in force.

    Raises:
        LeaseLost: it is not.
    """
    parent = command.parent
    hold = parent.hold
    if hold is None:
        raise InvalidInput("parent", str(parent.id), "give the running job as its claim returned it")
    created: list[Created] = []
    try:
        with start_uow(command.scope) as uow:
            # The renewal locks the parent's row: whoever wants to end the hold waits until the children are there.
            held = uow.jobs.renew([hold], lease=command.lease)
            if held:
                created = uow.jobs.create_many(_children(command.new_jobs, parent), parent_id=parent.id)
    except CommitOutcomeUnknown as error:
        # They have keys, so that another try creates what is missing and finds the others.
        raise TransientDatabaseError(error.detail) from error
    # Raised after the commit, which keeps the record of the refusal.
    if not held:
        raise LeaseLost(hold.job_id, hold.lease_seq)
    return created


def claim_jobs(command: ClaimJobs, *, start_uow: StartUnitOfWork) -> list[Job]:
    with start_uow(command.scope) as uow:
        return uow.jobs.claim_due(
            worker=command.worker,
            types=command.types,
            lease=command.lease,
            limit=command.limit,
            queues=command.queues,
        )


def finish_jobs(command: FinishJobs, *, start_uow: StartUnitOfWork) -> Written:
    """End runs with their effects. Where one has effects that cannot be written, that run fails, and it alone."""
    try:
        return _finish(command, command.endings, start_uow)
    except _OF_ONE_ENDING:
        return _finish_one_by_one(command, start_uow)


def report_jobs(command: ReportJobs, *, start_uow: StartUnitOfWork) -> Written:
    with start_uow(command.scope) as uow:
        return uow.jobs.report(command.reports)


def renew_leases(command: RenewLeases, *, start_uow: StartUnitOfWork) -> frozenset[Hold]:
    with start_uow(command.scope) as uow:
        return uow.jobs.renew(command.holds, lease=command.lease)


def expire_leases(command: ExpireLeases, *, start_uow: StartUnitOfWork) -> list[Job]:
    with start_uow(command.scope) as uow:
        return uow.jobs.expire(limit=command.limit)


def mark_worker_seen(command: MarkWorkerSeen, *, start_uow: StartUnitOfWork) -> None:
    with start_uow(command.scope) as uow:
        uow.workers.seen(command.worker, name=command.name, types=command.types, queues=command.queues)


def mark_worker_gone(command: MarkWorkerGone, *, start_uow: StartUnitOfWork) -> None:
    with start_uow(command.scope) as uow:
        uow.workers.gone(command.worker)


def _create(uow: UnitOfWork, command: CreateJobs, new_jobs: Sequence[NewJob]) -> list[Created]:
    return uow.jobs.create_many(new_jobs, org_id=command.org_id, parent_id=command.parent_id)


def _created_before(command: CreateJobs, start_uow: StartUnitOfWork) -> list[Created] | None:
    """Return the answer of an earlier try that was committed after all; None if it was not."""
    with start_uow(command.scope) as uow:
        found = {new.id: _made_of(new, uow.jobs.find(new.id)) for new in command.new_jobs if new.id is not None}
        if not any(found.values()):
            return None
        return [_answer(uow, command, new, found) for new in command.new_jobs]


def _made_of(new: NewJob, job: Job | None) -> Job | None:
    """Return the job with the id of a request, unless another request made it."""
    same = job is not None and (job.type, job.idempotency_key) == (new.type, new.idempotency_key)
    return job if same else None


def _answer(uow: UnitOfWork, command: CreateJobs, new: NewJob, found: dict[UUID, Job | None]) -> Created:
    job = None if new.id is None else found.get(new.id)
    if job is not None:
        return Created(job, replayed=False)
    # It was a replay in the earlier try too, and is one again.
    [created] = _create(uow, command, [new])
    return created


def _children(new_jobs: Sequence[NewJob], parent: Job) -> list[NewJob]:
    """Return children that are requested by whoever requested their parent, unless they say otherwise."""
    return [evolve(new, requested_by=new.requested_by or parent.requested_by) for new in new_jobs]


def _finish(command: FinishJobs, endings: Sequence[Ending], start_uow: StartUnitOfWork) -> Written:
    with start_uow(command.scope) as uow:
        written = uow.jobs.finish(endings)
        # By hold: one batch may hold the ends of two runs of a job, of which one was lost.
        refused = {Hold(refusal.job_id, refusal.lease_seq) for refusal in written.refusals}
        _write_effects(uow, [e for e in endings if isinstance(e.outcome, Succeed) and e.job.hold not in refused])
    return written


def _write_effects(uow: UnitOfWork, successes: Sequence[Ending]) -> None:
    uow.assets.add_many([(ending.job, asset) for ending in successes for asset in ending.effects.assets])
    for ending in successes:
        if ending.effects.children:
            job, children = ending.job, _children(ending.effects.children, ending.job)
            uow.jobs.create_many(children, org_id=job.org_id, parent_id=job.id)


def _finish_one_by_one(command: FinishJobs, start_uow: StartUnitOfWork) -> Written:
    parts = [_finish_or_fail(command, ending, start_uow) for ending in command.endings]
    jobs = tuple(job for part in parts for job in part.jobs)
    return Written(jobs, tuple(refusal for part in parts for refusal in part.refusals))


def _finish_or_fail(command: FinishJobs, ending: Ending, start_uow: StartUnitOfWork) -> Written:
    try:
        return _finish(command, [ending], start_uow)
    except _OF_ONE_ENDING as error:
        failed = Fail("effects_refused", f"{type(error).__name__}: {error}", permanent=True)
        return _finish(command, [Ending(ending.job, failed)], start_uow)
