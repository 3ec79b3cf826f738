"""The handlers of what people do: bulk in steps, pruning until nothing is left, erasures that go on after a fault."""

from datetime import timedelta
from uuid import UUID

import pytest

from heimdex.domain.commands import (
    CancelJob,
    CancelJobs,
    ClaimJobs,
    EraseOrg,
    FinishJobs,
    PauseQueue,
    Prune,
    ResumeQueue,
    RetryJob,
    RetryJobs,
)
from heimdex.domain.errors import (
    CommitOutcomeUnknown,
    IllegalTransition,
    InvalidInput,
    JobNotFound,
    TransientDatabaseError,
)
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.new_job import NewJob
from heimdex.domain.operations import Erasure, Removed, Retention
from heimdex.domain.outcomes import Succeed
from heimdex.domain.results import Ending
from heimdex.domain.scope import Tenant
from heimdex.domain.transitions import Status, Trigger
from heimdex.service_layer import operating
from heimdex.service_layer.operating import erase_org
from heimdex.service_layer.retry import once
from tests.service_layer.faults import Fault, after_commit, before_commit
from tests.service_layer.worker_harness import ORG, SYSTEM, TENANT, HandLedger, nothing, registry

OTHER = Tenant(UUID(int=2), actor="stranger@example.org")
CUT = TransientDatabaseError("deadlock")
WHY = "the customer asked"
DAY = timedelta(days=1)
STEP = 5
JOBS = 2 * STEP + 1


@pytest.fixture(autouse=True)
def _short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operating, "MAX_LISTED", STEP)


@pytest.fixture
def ledger() -> HandLedger:
    return HandLedger(registry(nothing=nothing, other=nothing))


@pytest.fixture
def full(ledger: HandLedger) -> HandLedger:
    """Return a ledger with more jobs than two steps take."""
    ledger.create_many(NewJob("nothing") for _ in range(JOBS))
    return ledger


def finish_all(ledger: HandLedger) -> None:
    """Let every queued job succeed."""
    claim = ClaimJobs(
        scope=SYSTEM,
        worker=UUID(int=99),
        types=ledger.jobs.types,
        lease=timedelta(seconds=30),
        limit=100,
    )
    while jobs := ledger.bus.handle(claim):
        ledger.bus.handle(FinishJobs(scope=SYSTEM, endings=[Ending(job, Succeed()) for job in jobs]))


def erasures(ledger: HandLedger) -> tuple[Erasure, ...]:
    with ledger.store.views(SYSTEM) as views:
        return views.erasures()


# One job


def test_one_job_is_canceled_and_queued_again(ledger: HandLedger) -> None:
    job_id = ledger.create("nothing")

    canceled = ledger.bus.handle(CancelJob(scope=TENANT, job_id=job_id, reason=WHY))
    queued = ledger.bus.handle(RetryJob(scope=TENANT, job_id=job_id, reason=WHY))

    assert (canceled.status, queued.status) == (Status.CANCELED, Status.QUEUED)
    assert ledger.triggers(job_id) == [Trigger.CREATE, Trigger.CANCEL, Trigger.RETRY_BY_HAND]


@pytest.mark.parametrize("verb", [CancelJob, RetryJob])
def test_a_job_of_another_organisation_is_not_found(ledger: HandLedger, verb: type[CancelJob] | type[RetryJob]) -> None:
    job_id = ledger.create("nothing")

    with pytest.raises(JobNotFound):
        ledger.bus.handle(verb(scope=OTHER, job_id=job_id, reason=WHY))
    assert ledger.triggers(job_id) == [Trigger.CREATE]


def test_what_the_state_machine_refuses_changes_nothing(ledger: HandLedger) -> None:
    job_id = ledger.create("nothing")

    with pytest.raises(IllegalTransition):
        ledger.bus.handle(RetryJob(scope=TENANT, job_id=job_id, reason=WHY))
    assert ledger.triggers(job_id) == [Trigger.CREATE]


# Many jobs


def test_a_bulk_of_many_jobs_is_done_in_steps(full: HandLedger) -> None:
    canceled = full.bus.handle(CancelJobs(scope=TENANT, which=JobFilter(), reason=WHY))
    retried = full.bus.handle(RetryJobs(scope=TENANT, which=JobFilter(status=Status.CANCELED), reason=WHY))

    assert (canceled, retried) == (JOBS, JOBS)
    assert full.counts() == {Status.QUEUED: JOBS}
    assert (full.faults.begun[CancelJobs], full.faults.begun[RetryJobs]) == (3, 3)


def test_running_jobs_are_asked_once_though_they_stay_among_those_that_can_be_canceled(ledger: HandLedger) -> None:
    ids = ledger.create_many(NewJob("nothing") for _ in range(STEP + 1))
    for job_id in (ids[0], ids[-1]):
        ledger.claim_elsewhere(job_id)

    assert ledger.bus.handle(CancelJobs(scope=TENANT, which=JobFilter(), reason=WHY)) == STEP + 1
    assert ledger.counts() == {Status.CANCELED: STEP - 1, Status.RUNNING: 2}
    for job_id in (ids[0], ids[-1]):
        assert ledger.triggers(job_id) == [Trigger.CREATE, Trigger.CLAIM, Trigger.REQUEST_CANCEL]


def test_a_bulk_of_exactly_one_step_looks_once_more(ledger: HandLedger) -> None:
    ledger.create_many(NewJob("nothing") for _ in range(STEP))

    assert ledger.bus.handle(CancelJobs(scope=TENANT, which=JobFilter(), reason=WHY)) == STEP
    assert ledger.faults.begun[CancelJobs] == 2


def test_a_bulk_reaches_only_what_it_asks_for_and_only_its_organisation(ledger: HandLedger) -> None:
    wanted, other = ledger.create("nothing"), ledger.create("other")
    with ledger.store.unit_of_work(OTHER) as uow:
        foreign = uow.jobs.create("nothing").job.id

    assert ledger.bus.handle(CancelJobs(scope=TENANT, which=JobFilter(type="nothing"), reason=WHY)) == 1
    statuses = [ledger.job(job_id).status for job_id in (wanted, other, foreign)]
    assert statuses == [Status.CANCELED, Status.QUEUED, Status.QUEUED]


def test_a_bulk_with_nothing_to_do_answers_none(ledger: HandLedger) -> None:
    assert ledger.bus.handle(CancelJobs(scope=TENANT, which=JobFilter(), reason=WHY)) == 0


@pytest.mark.parametrize("fault", [before_commit(CUT), after_commit(CommitOutcomeUnknown("the line was cut"))])
def test_a_bulk_that_fails_keeps_its_steps_and_the_next_one_does_the_rest(full: HandLedger, fault: Fault) -> None:
    command = CancelJobs(scope=TENANT, which=JobFilter(), reason=WHY)
    full.faults.plan(CancelJobs, None, fault)

    with pytest.raises(type(fault.error)):
        full.bus.handle(command)
    done = 2 * STEP if fault.committed else STEP
    assert full.counts() == {Status.CANCELED: done, Status.QUEUED: JOBS - done}
    assert full.bus.handle(command) == JOBS - done


@pytest.mark.parametrize("bulk", [CancelJobs, RetryJobs])
def test_a_step_that_fails_is_retried_alone_and_every_job_is_counted(
    full: HandLedger, bulk: type[CancelJobs] | type[RetryJobs]
) -> None:
    if bulk is RetryJobs:
        full.bus.handle(CancelJobs(scope=TENANT, which=JobFilter(), reason=WHY))
    full.faults.plan(bulk, None, before_commit(CUT), before_commit(CUT), None, before_commit(CUT), before_commit(CUT))

    # More failures than one command may meet: each step has its own tries.
    assert full.patient_bus.handle(bulk(scope=TENANT, which=JobFilter(), reason=WHY)) == JOBS
    assert full.counts() == {Status.CANCELED if bulk is CancelJobs else Status.QUEUED: JOBS}
    assert full.faults.begun[bulk] == 3 + 4


def test_a_step_that_fails_too_often_ends_the_bulk(full: HandLedger) -> None:
    full.faults.plan(CancelJobs, None, *[before_commit(CUT)] * 3)

    with pytest.raises(TransientDatabaseError):
        full.patient_bus.handle(CancelJobs(scope=TENANT, which=JobFilter(), reason=WHY))
    assert full.faults.begun[CancelJobs] == 4
    assert full.counts() == {Status.CANCELED: STEP, Status.QUEUED: JOBS - STEP}


# Queues


def test_a_paused_queue_gives_no_jobs_until_it_is_resumed(ledger: HandLedger) -> None:
    job_id = ledger.create("nothing")

    ledger.bus.handle(PauseQueue(scope=TENANT, queue="default", reason=WHY))
    finish_all(ledger)
    assert ledger.job(job_id).status is Status.QUEUED

    assert not ledger.bus.handle(ResumeQueue(scope=SYSTEM, queue="default"))
    assert ledger.bus.handle(ResumeQueue(scope=TENANT, queue="default"))
    finish_all(ledger)
    assert ledger.job(job_id).status is Status.SUCCEEDED


# Pruning


def test_pruning_goes_on_until_nothing_is_left_to_prune(full: HandLedger) -> None:
    finish_all(full)
    waiting = full.create("nothing")
    full.advance(400 * DAY)

    removed = full.bus.handle(Prune(scope=SYSTEM, retention=Retention()))

    assert removed == Removed(jobs=JOBS, events=3 * JOBS)
    assert full.counts() == {Status.QUEUED: 1}
    assert full.triggers(waiting) == [Trigger.CREATE]
    assert full.bus.handle(Prune(scope=SYSTEM, retention=Retention())) == Removed()


def test_histories_outlive_their_jobs_until_their_own_time(ledger: HandLedger) -> None:
    job_id = ledger.create("nothing")
    finish_all(ledger)
    ledger.advance(31 * DAY)

    assert ledger.bus.handle(Prune(scope=SYSTEM, retention=Retention())) == Removed(jobs=1)
    assert ledger.triggers(job_id) == [Trigger.CREATE, Trigger.CLAIM, Trigger.SUCCEED]


def test_a_prune_that_fails_is_done_by_the_next(full: HandLedger) -> None:
    finish_all(full)
    full.advance(40 * DAY)
    command = Prune(scope=SYSTEM, retention=Retention())
    full.faults.plan(Prune, None, before_commit(CUT))

    with pytest.raises(TransientDatabaseError):
        full.bus.handle(command)
    assert full.counts() == {Status.SUCCEEDED: JOBS - STEP}
    assert full.bus.handle(command) == Removed(jobs=JOBS - STEP)
    assert full.counts() == {}


def test_a_step_of_a_prune_that_fails_is_retried_alone_and_every_row_is_counted(full: HandLedger) -> None:
    finish_all(full)
    full.advance(400 * DAY)
    # Three steps of jobs; then those of histories.
    full.faults.plan(Prune, None, before_commit(CUT), None, None, None, before_commit(CUT))

    removed = full.patient_bus.handle(Prune(scope=SYSTEM, retention=Retention()))

    assert removed == Removed(jobs=JOBS, events=3 * JOBS)


# Erasing


def test_an_organisation_is_erased_in_steps_and_others_are_not(full: HandLedger) -> None:
    with full.store.unit_of_work(OTHER) as uow:
        foreign = uow.jobs.create("nothing").job.id

    removed = full.bus.handle(EraseOrg(scope=SYSTEM, org_id=ORG, reason="they left us"))

    assert removed == Removed(jobs=JOBS, events=JOBS)
    assert full.counts() == {Status.QUEUED: 1}
    assert full.triggers(foreign) == [Trigger.CREATE]
    [erasure] = erasures(full)
    assert (erasure.org_id, erasure.reason, erasure.removed) == (ORG, "they left us", removed)


def test_an_erasure_that_was_interrupted_goes_on_under_its_own_id(full: HandLedger) -> None:
    command = EraseOrg(scope=SYSTEM, org_id=ORG, reason="they left us").settled(full.ids)
    full.faults.plan(EraseOrg, None, before_commit(CUT))

    with pytest.raises(TransientDatabaseError):
        full.bus.handle(command)
    [begun] = erasures(full)
    assert (begun.id, begun.removed) == (command.id, Removed(jobs=STEP, events=STEP))

    full.bus.handle(command)
    [ended] = erasures(full)
    assert (ended.id, ended.removed) == (command.id, Removed(jobs=JOBS, events=JOBS))


def test_the_patient_bus_erases_under_one_id_however_often_it_tries(full: HandLedger) -> None:
    full.faults.plan(EraseOrg, None, before_commit(CUT), None, before_commit(CUT))

    removed = full.patient_bus.handle(EraseOrg(scope=SYSTEM, org_id=ORG, reason="they left us"))

    [erasure] = erasures(full)
    assert removed == erasure.removed == Removed(jobs=JOBS, events=JOBS)
    assert full.counts() == {}


def test_an_erasure_draws_its_id_once() -> None:
    drawn = iter(UUID(int=number) for number in range(10, 20))
    command = EraseOrg(scope=SYSTEM, org_id=ORG, reason="they left us")

    settled = command.settled(lambda: next(drawn))

    assert (command.id, settled.id) == (None, UUID(int=10))
    assert settled.settled(lambda: next(drawn)) == settled
    assert next(drawn) == UUID(int=11)


def test_an_erasure_without_an_id_erases_nothing(ledger: HandLedger) -> None:
    ledger.create("nothing")

    with pytest.raises(InvalidInput, match="hand the command to the bus"):
        erase_org(
            EraseOrg(scope=SYSTEM, org_id=ORG, reason="they left us"),
            start_uow=ledger.faults.start_for(EraseOrg),
            retry=once,
        )
    assert ledger.counts() == {Status.QUEUED: 1}
