"""The command handlers where something goes wrong: commits of unknown outcome, effects that are refused, lost holds."""

from datetime import timedelta
from uuid import UUID

import pytest
from attrs import evolve

from heimdex.domain.asset import NewAsset
from heimdex.domain.commands import (
    ClaimJobs,
    CreateChildren,
    CreateJobs,
    FinishJobs,
    MarkWorkerGone,
    MarkWorkerSeen,
    WasCommitted,
)
from heimdex.domain.errors import (
    OF_ONE_ROW,
    CommitOutcomeUnknown,
    ConnectionLost,
    DatabaseUnavailable,
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
from heimdex.domain.job import Job
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.new_job import NewJob
from heimdex.domain.outcomes import Fail, Progress, Succeed
from heimdex.domain.results import Created, Effects, Ending
from heimdex.domain.scope import Scope, Tenant
from heimdex.domain.transitions import Status
from heimdex.service_layer.handlers import create_jobs
from heimdex.service_layer.ports import UnitOfWork
from tests.service_layer.faults import FaultyUnitOfWork, after_commit, before_commit
from tests.service_layer.worker_harness import ORG, SYSTEM, TENANT, HandLedger, nothing, registry

CUT = CommitOutcomeUnknown("the line was cut")
WORKER = UUID(int=99)
GIVEN = UUID("018f3c6e-0000-7000-8000-000000000077")
LEASE = timedelta(seconds=30)


@pytest.fixture
def ledger() -> HandLedger:
    return HandLedger(registry(nothing=nothing, other=nothing))


def command(*new_jobs: NewJob) -> CreateJobs:
    return CreateJobs(scope=TENANT, new_jobs=new_jobs)


def claimed(ledger: HandLedger, count: int) -> list[Job]:
    ledger.create_many(NewJob("nothing", {"n": n}) for n in range(count))
    types = frozenset({"nothing"})
    return ledger.bus.handle(ClaimJobs(scope=SYSTEM, worker=WORKER, types=types, lease=LEASE, limit=count))


def jobs_of(ledger: HandLedger) -> tuple[Job, ...]:
    with ledger.store.views(SYSTEM) as views:
        return views.page(JobFilter()).jobs


# Creating


def test_jobs_are_created_in_one_unit_of_work(ledger: HandLedger) -> None:
    created = ledger.bus.handle(command(NewJob("nothing", {"n": 1}), NewJob("other")))

    assert [one.job.type for one in created] == ["nothing", "other"]
    assert ledger.faults.begun[CreateJobs] == 1


def test_system_creates_for_an_organisation_that_it_names(ledger: HandLedger) -> None:
    [created] = ledger.bus.handle(CreateJobs(scope=SYSTEM, new_jobs=[NewJob("nothing")], org_id=ORG))

    assert created.job.org_id == ORG


def test_a_commit_that_was_made_before_the_line_was_cut_is_found(ledger: HandLedger) -> None:
    ledger.faults.plan(CreateJobs, after_commit(CUT))
    [created] = ledger.bus.handle(command(NewJob("nothing")))

    assert not created.replayed
    assert [job.id for job in jobs_of(ledger)] == [created.job.id]


def test_a_commit_that_is_not_there_when_it_is_looked_for_may_still_come(ledger: HandLedger) -> None:
    ledger.faults.plan(CreateJobs, before_commit(CUT))

    with pytest.raises(CommitOutcomeUnknown, match="what was written is not there"):
        ledger.bus.handle(command(NewJob("nothing")))
    assert jobs_of(ledger) == ()


@pytest.mark.parametrize("fault", [before_commit(CUT), after_commit(CUT)], ids=["before", "after"])
def test_whichever_way_a_commit_went_the_patient_bus_creates_once(ledger: HandLedger, fault: object) -> None:
    assert isinstance(fault, type(before_commit(CUT)))
    ledger.faults.plan(CreateJobs, fault)
    [created] = ledger.patient_bus.handle(command(NewJob("nothing")))

    assert [job.id for job in jobs_of(ledger)] == [created.job.id]


def test_a_replay_beside_a_new_job_is_answered_as_a_replay_after_the_line_was_cut(ledger: HandLedger) -> None:
    earlier = ledger.create("nothing", idempotency_key="k")
    ledger.faults.plan(CreateJobs, after_commit(CUT))
    answers = ledger.bus.handle(command(NewJob("other"), NewJob("nothing", idempotency_key="k")))

    assert [answer.replayed for answer in answers] == [False, True]
    assert answers[1].job.id == earlier
    assert len(jobs_of(ledger)) == 2


def test_replays_alone_are_tried_again_after_the_line_was_cut(ledger: HandLedger) -> None:
    earlier = ledger.create("nothing", idempotency_key="k")
    ledger.faults.plan(CreateJobs, after_commit(CUT))
    [answer] = ledger.patient_bus.handle(command(NewJob("nothing", idempotency_key="k")))

    assert answer == Created(answer.job, replayed=True)
    assert answer.job.id == earlier


@pytest.mark.parametrize("error", [ConnectionLost("gone"), DatabaseUnavailable("nobody answers")], ids=repr)
def test_an_outcome_that_cannot_be_looked_up_stays_unknown_and_is_not_tried_again(
    ledger: HandLedger, error: TransientDatabaseError
) -> None:
    ledger.faults.plan(CreateJobs, after_commit(CUT), before_commit(error))

    with pytest.raises(CommitOutcomeUnknown) as caught:
        ledger.patient_bus.handle(command(NewJob("nothing")))
    assert caught.value is CUT
    assert ledger.faults.begun[CreateJobs] == 2
    assert len(jobs_of(ledger)) == 1


def test_a_commit_that_arrives_after_it_was_looked_for_is_found_by_the_next_try(ledger: HandLedger) -> None:
    new = NewJob("nothing", id=GIVEN)
    begun: list[Scope] = []

    def start(scope: Scope) -> UnitOfWork:
        begun.append(scope)
        if len(begun) == 3:
            ledger.create_many([new])
        return FaultyUnitOfWork(ledger.store.unit_of_work(scope), before_commit(CUT) if len(begun) == 1 else None)

    same = command(new)
    with pytest.raises(TransientDatabaseError):
        create_jobs(same, start_uow=start, start_one_write=start)
    [created] = create_jobs(same, start_uow=start, start_one_write=start)

    assert (created.job.id, created.replayed) == (new.id, False)
    assert len(jobs_of(ledger)) == 1


def test_an_id_that_belongs_to_another_request_is_no_answer(ledger: HandLedger) -> None:
    ledger.create_many([NewJob("nothing", id=GIVEN)])

    with pytest.raises(UniqueViolation) as caught:
        ledger.bus.handle(command(NewJob("other", id=GIVEN)))
    assert caught.value.constraint_name == "pk_job"


@pytest.mark.parametrize(
    ("payload", "parents"),
    [({"n": 2}, 0), ({"n": 1}, 1)],
    ids=["payload", "parent"],
)
def test_an_id_that_was_taken_meanwhile_by_another_request_is_no_answer(
    ledger: HandLedger, payload: dict[str, int], parents: int
) -> None:
    parent_id = ledger.create("other") if parents else None
    ledger.create_many([NewJob("nothing", payload, id=GIVEN)])
    asked = CreateJobs(scope=TENANT, new_jobs=[NewJob("nothing", {"n": 1}, id=GIVEN)], parent_id=parent_id)
    asked.draft.unknown = True

    with pytest.raises(UniqueViolation, match="pk_job"):
        ledger.bus.handle(asked)


def test_a_request_that_saw_no_unknown_commit_is_not_answered_with_a_job_that_is_there(ledger: HandLedger) -> None:
    ledger.create_many([NewJob("nothing", id=GIVEN)])

    with pytest.raises(UniqueViolation, match="pk_job"):
        ledger.bus.handle(command(NewJob("nothing", id=GIVEN)))


def test_many_jobs_are_looked_for_in_one_question(ledger: HandLedger) -> None:
    ledger.faults.plan(CreateJobs, after_commit(CUT))
    created = ledger.bus.handle(command(*[NewJob("nothing", {"n": n}) for n in range(50)]))

    assert len({one.job.id for one in created}) == 50
    assert [one.job.payload for one in created] == [{"n": n} for n in range(50)]


def test_another_constraint_is_told_as_it_is(ledger: HandLedger) -> None:
    ledger.faults.plan(CreateJobs, before_commit(UniqueViolation("uq_of_somebody")))

    with pytest.raises(UniqueViolation, match="uq_of_somebody"):
        ledger.bus.handle(command(NewJob("nothing")))
    assert ledger.faults.begun[CreateJobs] == 1


# Finishing


def ending(job: Job, **effects: tuple[object, ...]) -> Ending:
    return Ending(job, Succeed(), effects=Effects(**effects))  # type: ignore[arg-type]  # as the test names them


def asset(uri: str = "file:///a") -> NewAsset:
    return NewAsset.of(uri, media_type="text/plain", size=1, sha256="0" * 64)


def test_effects_of_accepted_successes_are_written_with_them(ledger: HandLedger) -> None:
    job, lost = claimed(ledger, 2)
    ledger.expire_elsewhere(lost.id)
    child = NewJob("other", requested_by="somebody@example.com")
    endings = [ending(job, assets=(asset(),), children=(child, NewJob("other"))), ending(lost, assets=(asset(),))]
    written = ledger.bus.handle(FinishJobs(scope=SYSTEM, endings=endings))

    assert [one.id for one in written.jobs] == [job.id]
    assert [refusal.job_id for refusal in written.refusals] == [lost.id]
    assert (len(ledger.assets(job.id)), len(ledger.assets(lost.id))) == (1, 0)
    children = [one for one in jobs_of(ledger) if one.parent_id == job.id]
    assert sorted(one.requested_by for one in children) == ["somebody@example.com", "user@example.com"]
    assert {one.org_id for one in children} == {ORG}


@pytest.mark.parametrize(
    ("effects", "message"),
    [
        ({"assets": (asset(), asset())}, "UniqueViolation: "),
        ({"children": (NewJob("nothing", {"n": 9}, idempotency_key="taken"),)}, "IdempotencyConflict: "),
        ({"children": (NewJob("elsewhere"),)}, "UnknownJobType: "),
        ({"children": (NewJob("nothing", ["no object"]),)}, "InvalidPayload: payload: at $"),
    ],
    ids=["asset", "key", "type", "payload"],
)
def test_an_ending_whose_effects_are_refused_fails_alone(
    ledger: HandLedger, effects: dict[str, tuple[object, ...]], message: str
) -> None:
    ledger.create("other", idempotency_key="taken")
    jobs = claimed(ledger, 3)
    endings = [ending(job, **(effects if job is jobs[1] else {"assets": (asset(),)})) for job in jobs]
    with pytest.raises(OF_ONE_ROW):
        ledger.bus.handle(FinishJobs(scope=SYSTEM, endings=endings))
    for one in endings:
        ledger.bus.handle(FinishJobs(scope=SYSTEM, endings=[one]))

    stored = [ledger.job(job.id) for job in jobs]
    assert [job.status for job in stored] == [Status.SUCCEEDED, Status.FAILED, Status.SUCCEEDED]
    assert stored[1].last_error_code == "effects_refused"
    assert str(stored[1].last_error_message).startswith(message)
    assert [len(ledger.assets(job.id)) for job in jobs] == [1, 0, 1]


@pytest.mark.parametrize(
    "error",
    [
        DataRejected("value out of range"),
        InvalidInput("size", 1, "give less"),
        InvalidPayload("payload", "$", "no"),
        JobNotFound(WORKER),
        UnknownJobType("a", ()),
        IdempotencyConflict("k", WORKER, "a", "b"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_ending_that_the_store_refuses_fails_without_what_may_be_at_fault(
    ledger: HandLedger, error: DataRejected
) -> None:
    [job] = claimed(ledger, 1)
    ledger.faults.plan(FinishJobs, before_commit(error))
    refused = evolve(ending(job, assets=(asset(),)), progress=Progress("arriving", 99))
    ledger.bus.handle(FinishJobs(scope=SYSTEM, endings=[refused]))

    assert ledger.job(job.id).last_error_code == "effects_refused"
    assert ledger.job(job.id).progress == 0
    assert ledger.assets(job.id) == ()


def test_a_failure_whose_backoff_has_no_length_is_not_retried_and_keeps_what_it_says(ledger: HandLedger) -> None:
    [job] = claimed(ledger, 1)
    ledger.faults.plan(FinishJobs, before_commit(InvalidInput("backoff.factor", 0.5, "give a number from 1 to 100")))
    ledger.bus.handle(FinishJobs(scope=SYSTEM, endings=[Ending(job, Fail("RuntimeError", "boom"))]))

    stored = ledger.job(job.id)
    assert (stored.status, stored.last_error_code) == (Status.FAILED, "RuntimeError")
    assert str(stored.last_error_message).startswith("boom (no retry: backoff.factor: 0.5")


def test_whether_a_transaction_was_committed_is_told_by_the_event_of_its_job(ledger: HandLedger) -> None:
    [job] = claimed(ledger, 1)
    ask = WasCommitted(scope=SYSTEM, job=job)

    assert ledger.bus.handle(ask)
    assert not ledger.bus.handle(evolve(ask, scope=evolve(SYSTEM, source="somebody else")))
    assert not ledger.bus.handle(evolve(ask, job=evolve(job, version=job.version + 1)))


def test_effects_of_a_lost_run_are_not_written_beside_a_later_run_of_the_same_job(ledger: HandLedger) -> None:
    [lost] = claimed(ledger, 1)
    ledger.expire_elsewhere(lost.id)
    types = frozenset({"nothing"})
    [held] = ledger.bus.handle(ClaimJobs(scope=SYSTEM, worker=WORKER, types=types, lease=LEASE, limit=1))
    endings = [ending(lost, assets=(asset("file:///old"),)), ending(held, assets=(asset("file:///new"),))]
    written = ledger.bus.handle(FinishJobs(scope=SYSTEM, endings=endings))

    assert [refusal.lease_seq for refusal in written.refusals] == [lost.lease_seq]
    assert [one.uri for one in ledger.assets(held.id)] == ["file:///new"]


def test_a_failure_is_written_without_effects(ledger: HandLedger) -> None:
    [job] = claimed(ledger, 1)
    failed = Ending(job, Fail("code", "message", permanent=True), effects=Effects(assets=(asset(),)))
    ledger.bus.handle(FinishJobs(scope=SYSTEM, endings=[failed]))

    assert ledger.job(job.id).status is Status.FAILED
    assert ledger.assets(job.id) == ()


# Children at once


def children_of(job: Job, *new_jobs: NewJob) -> CreateChildren:
    scope = Tenant(job.org_id, actor=job.requested_by, source=f"job {job.id}")
    return CreateChildren(scope=scope, parent=job, new_jobs=new_jobs, lease=timedelta(minutes=2))


def test_children_are_created_while_their_parent_is_held(ledger: HandLedger) -> None:
    [parent] = claimed(ledger, 1)
    keyed = [NewJob("other", idempotency_key=f"k-{n}") for n in range(2)]
    created = ledger.bus.handle(children_of(parent, *keyed, evolve(keyed[0], idempotency_key="k-2", requested_by="me")))

    assert [one.job.parent_id for one in created] == [parent.id] * 3
    assert [one.job.requested_by for one in created] == ["user@example.com", "user@example.com", "me"]
    assert ledger.job(parent.id).lease_until == ledger.clock.now() + timedelta(minutes=2)


def test_a_parent_that_is_no_longer_held_gets_no_children_and_the_refusal_is_recorded(ledger: HandLedger) -> None:
    [parent] = claimed(ledger, 1)
    ledger.expire_elsewhere(parent.id)

    with pytest.raises(LeaseLost) as caught:
        ledger.bus.handle(children_of(parent, NewJob("other", idempotency_key="k")))
    assert (caught.value.job_id, caught.value.lease_seq) == (parent.id, parent.lease_seq)
    assert len(jobs_of(ledger)) == 1
    assert ledger.refusals(parent.id) == 1


def test_a_parent_that_does_not_run_is_refused(ledger: HandLedger) -> None:
    parent = ledger.job(ledger.create("nothing"))

    with pytest.raises(InvalidInput, match="give the running job as its claim returned it"):
        ledger.bus.handle(children_of(parent, NewJob("other", idempotency_key="k")))


@pytest.mark.parametrize("fault", [before_commit(CUT), after_commit(CUT)], ids=["before", "after"])
def test_children_are_created_once_whichever_way_a_commit_went(ledger: HandLedger, fault: object) -> None:
    assert isinstance(fault, type(before_commit(CUT)))
    [parent] = claimed(ledger, 1)
    ledger.faults.plan(CreateChildren, fault)
    [created] = ledger.patient_bus.handle(children_of(parent, NewJob("other", idempotency_key="k")))

    assert [job.id for job in jobs_of(ledger) if job.parent_id] == [created.job.id]


def test_a_child_whose_key_means_another_job_is_refused_and_nothing_is_created(ledger: HandLedger) -> None:
    [parent] = claimed(ledger, 1)
    ledger.create("nothing", idempotency_key="k")

    with pytest.raises(IdempotencyConflict):
        ledger.bus.handle(
            children_of(parent, NewJob("other", idempotency_key="new"), NewJob("other", idempotency_key="k"))
        )
    assert len(jobs_of(ledger)) == 2


# Workers on record


def test_a_worker_comes_and_goes(ledger: HandLedger) -> None:
    seen = MarkWorkerSeen(scope=SYSTEM, worker=WORKER, name="w", types=frozenset({"b", "a"}), queues=frozenset())
    ledger.bus.handle(seen)
    with ledger.store.views(SYSTEM) as views:
        assert [(worker.id, worker.types) for worker in views.workers()] == [(WORKER, ("a", "b"))]
    ledger.bus.handle(MarkWorkerGone(scope=SYSTEM, worker=WORKER))
    with ledger.store.views(SYSTEM) as views:
        assert views.workers() == ()
