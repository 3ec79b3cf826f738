"""What happens for each command: one unit of work, the verbs of its repositories, an answer."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from attrs import evolve

from heimdex.domain.commands import (
    ClaimJobs,
    ClaimOneByOne,
    CreateChildren,
    CreateJobs,
    ExpireLeases,
    ExpireOneByOne,
    FindCancelRequests,
    FinishJobs,
    MarkWorkerGone,
    MarkWorkerSeen,
    RenewLeases,
    ReportJobs,
    WasCommitted,
)
from heimdex.domain.constraints import JOB_ID
from heimdex.domain.errors import (
    OF_ONE_ROW,
    CommitOutcomeUnknown,
    DatabaseError,
    HeimdexError,
    InvalidInput,
    LeaseLost,
    TransientDatabaseError,
    UniqueViolation,
)
from heimdex.domain.job import Hold, Job
from heimdex.domain.new_job import NewJob
from heimdex.domain.outcomes import Fail, Succeed
from heimdex.domain.results import NO_EFFECTS, Created, Ending, OneByOne, Written
from heimdex.service_layer.ports import StartUnitOfWork, UnitOfWork


def create_jobs(
    command: CreateJobs, *, start_uow: StartUnitOfWork, start_one_write: StartUnitOfWork
) -> Sequence[Created]:
    """Create jobs. A commit of unknown outcome is resolved by looking for their ids, which were drawn before.

    Raises:
        CommitOutcomeUnknown: looking failed too.
    """
    try:
        with (start_one_write if len(command.new_jobs) == 1 else start_uow)(command.scope) as uow:
            return _create(uow, command, command.new_jobs)
    except CommitOutcomeUnknown as unknown:
        command.draft.unknown = True
        try:
            created = _created_before(command, start_uow)
        except DatabaseError as error:
            raise unknown from error
        if created is None:
            raise TransientDatabaseError("the connection was lost, and what was written is not there") from unknown
        return created
    except UniqueViolation as error:
        # The commit of an earlier try of this command was still under way when it was looked for.
        late = command.draft.unknown and error.constraint_name == JOB_ID
        created = _created_before(command, start_uow) if late else None
        if created is None:
            raise
        return created


def create_children(command: CreateChildren, *, start_uow: StartUnitOfWork) -> Sequence[Created]:
    """Create children while their parent's hold is in force.

    Raises:
        LeaseLost: it is not.
    """
    parent = command.parent
    hold = parent.hold
    if hold is None:
        raise InvalidInput("parent", str(parent.id), "give the running job as its claim returned it")
    created: Sequence[Created] = ()
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
        claimed = uow.jobs.claim_due(
            worker=command.worker,
            types=command.types,
            lease=command.lease,
            limit=command.limit,
            queues=command.queues,
        )
        command.draft.jobs = tuple(claimed)
    return claimed


def claim_one_by_one(command: ClaimOneByOne, *, start_uow: StartUnitOfWork) -> OneByOne:
    with start_uow(command.scope) as uow:
        claimed = uow.jobs.claim_one_by_one(
            worker=command.worker,
            types=command.types,
            lease=command.lease,
            limit=command.limit,
            queues=command.queues,
        )
        command.draft.jobs = claimed.jobs
    return claimed


def finish_jobs(command: FinishJobs, *, start_uow: StartUnitOfWork) -> Written:
    """End runs with their effects, all or none. A run alone whose effects cannot be written fails.

    Raises:
        one of OF_ONE_ROW: one of several cannot be written, or not even the failure of one alone.
    """
    try:
        return _finish(command, command.endings, start_uow)
    except OF_ONE_ROW as error:
        if len(command.endings) > 1:
            raise
        return _finish(command, [_without_effects(command.endings[0], error)], start_uow)


def report_jobs(command: ReportJobs, *, start_uow: StartUnitOfWork) -> Written:
    with start_uow(command.scope) as uow:
        written = uow.jobs.report(command.reports)
        command.draft.jobs = written.jobs
    return written


def was_committed(command: WasCommitted, *, start_uow: StartUnitOfWork) -> bool:
    job = command.job
    with start_uow(command.scope) as uow:
        event = uow.jobs.settled_event(job.id, job.version)
    return event is not None and (event.ts, event.source) == (job.updated_at, command.scope.source)


def renew_leases(command: RenewLeases, *, start_uow: StartUnitOfWork) -> frozenset[Hold]:
    with start_uow(command.scope) as uow:
        return uow.jobs.renew(command.holds, lease=command.lease)


def find_cancel_requests(command: FindCancelRequests, *, start_uow: StartUnitOfWork) -> frozenset[Hold]:
    with start_uow(command.scope) as uow:
        return uow.jobs.cancel_requested(command.holds)


def expire_leases(command: ExpireLeases, *, start_uow: StartUnitOfWork) -> list[Job]:
    with start_uow(command.scope) as uow:
        return uow.jobs.expire(limit=command.limit, after=command.after)


def expire_one_by_one(command: ExpireOneByOne, *, start_uow: StartUnitOfWork) -> OneByOne:
    with start_uow(command.scope) as uow:
        return uow.jobs.expire_one_by_one(limit=command.limit, after=command.after)


def mark_worker_seen(command: MarkWorkerSeen, *, start_uow: StartUnitOfWork) -> None:
    with start_uow(command.scope) as uow:
        uow.workers.seen(command.worker, name=command.name, types=command.types, queues=command.queues)


def mark_worker_gone(command: MarkWorkerGone, *, start_uow: StartUnitOfWork) -> None:
    with start_uow(command.scope) as uow:
        uow.workers.gone(command.worker)


def _create(uow: UnitOfWork, command: CreateJobs, new_jobs: Sequence[NewJob]) -> Sequence[Created]:
    return uow.jobs.create_many(new_jobs, org_id=command.org_id, parent_id=command.parent_id)


def _created_before(command: CreateJobs, start_uow: StartUnitOfWork) -> Sequence[Created] | None:
    """Return the answer of an earlier try that was committed after all; None if it was not."""
    with start_uow(command.scope) as uow:
        made = uow.jobs.made_by(command.new_jobs, parent_id=command.parent_id)
        if not made:
            return None
        # What an earlier try replayed it did not make, and it is a replay again.
        replays = [new for new in command.new_jobs if new.id not in made]
        replayed = iter(_create(uow, command, replays))
        return [_answer(made, new) or next(replayed) for new in command.new_jobs]


def _answer(made: Mapping[UUID, Job], new: NewJob) -> Created | None:
    job = None if new.id is None else made.get(new.id)
    return None if job is None else Created(job, replayed=False)


def _children(new_jobs: Sequence[NewJob], parent: Job) -> list[NewJob]:
    """Return children that are requested by whoever requested their parent, unless they say otherwise."""
    return [evolve(new, requested_by=new.requested_by or parent.requested_by) for new in new_jobs]


def _finish(command: FinishJobs, endings: Sequence[Ending], start_uow: StartUnitOfWork) -> Written:
    with start_uow(command.scope) as uow:
        written = uow.jobs.finish(endings)
        command.draft.jobs = written.jobs
        # By hold: one batch may hold the ends of two runs of a job, of which one was lost.
        refused = {Hold(refusal.job_id, refusal.lease_seq) for refusal in written.refusals}
        with_effects = [e for e in endings if isinstance(e.outcome, Succeed) and e.effects != NO_EFFECTS]
        _write_effects(uow, [ending for ending in with_effects if ending.job.hold not in refused])
    return written


def _write_effects(uow: UnitOfWork, successes: Sequence[Ending]) -> None:
    if assets := [(ending.job, asset) for ending in successes for asset in ending.effects.assets]:
        uow.assets.add_many(assets)
    for ending in successes:
        if ending.effects.children:
            job, children = ending.job, _children(ending.effects.children, ending.job)
            uow.jobs.create_many(children, org_id=job.org_id, parent_id=job.id)


def _without_effects(ending: Ending, error: HeimdexError) -> Ending:
    """Return the end of a run as a failure for good, without anything that may have been refused."""
    if isinstance(ending.outcome, Fail) and isinstance(error, InvalidInput):
        # Not the failure is at fault but the job's backoff, which was written past Heimdex.
        outcome = evolve(ending.outcome, message=f"{ending.outcome.message} (no retry: {error})", permanent=True)
    else:
        outcome = Fail("effects_refused", f"{type(error).__name__}: {error}", permanent=True)
    return Ending(ending.job, outcome)
