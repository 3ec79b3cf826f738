"""Claims beside the loop: it goes on while one is under way, and takes the answer when it comes, whatever it is.

With nothing held the loop claims, so that here a worker holds a job before a test begins.
"""

from datetime import timedelta

import pytest

from heimdex.domain.commands import ClaimJobs, ClaimOneByOne, FinishJobs
from heimdex.domain.errors import CommitOutcomeUnknown, DataRejected, TransientDatabaseError
from heimdex.domain.new_job import NewJob
from heimdex.domain.transitions import Status, Trigger
from heimdex.service_layer.pace import WorkerSettings
from tests.service_layer.faults import after_commit, before_commit
from tests.service_layer.worker_harness import HandLedger, HandRunner, HandWorker, nothing, registry

LOST = TransientDatabaseError("deadlock detected")
CUT = CommitOutcomeUnknown("the line was cut")
HOUR = timedelta(hours=1)


@pytest.fixture
def ledger() -> HandLedger:
    return HandLedger(registry(nothing=nothing))


@pytest.fixture
def claims() -> HandRunner:
    return HandRunner(1)


@pytest.fixture
def worker(ledger: HandLedger, claims: HandRunner) -> HandWorker:
    return holding_one(HandWorker(ledger, slots=4, claims=claims))


def holding_one(worker: HandWorker) -> HandWorker:
    worker.ledger.create("nothing", priority=9)
    worker.step()
    assert worker.ledger.counts() == {Status.RUNNING: 1}
    return worker


def test_the_loop_writes_ends_while_a_claim_is_under_way(
    ledger: HandLedger, worker: HandWorker, claims: HandRunner
) -> None:
    second = ledger.create("nothing")
    worker.step()
    worker.runner.run_next()
    worker.step()
    assert ledger.counts() == {Status.SUCCEEDED: 1, Status.QUEUED: 1}
    claims.run_next()
    worker.step()
    worker.runner.run_next()
    worker.step()

    assert ledger.job(second).status is Status.SUCCEEDED


def test_a_claim_that_may_find_nothing_has_no_other_behind_it(worker: HandWorker, claims: HandRunner) -> None:
    worker.pass_time(5)

    assert len(claims.waiting) == 1


def test_while_claims_bring_all_they_ask_for_one_waits_behind_another(ledger: HandLedger, claims: HandRunner) -> None:
    ledger.create_many([NewJob("nothing")] * 100)
    worker = HandWorker(ledger, slots=1, claims=claims, settings=WorkerSettings(batch=8, poll=HOUR))
    waiting, running = set(), set()
    while ledger.counts() != {Status.SUCCEEDED: 100}:
        worker.step()
        waiting.add(len(claims.waiting))
        running.add(ledger.counts().get(Status.RUNNING, 0))
        if claims.waiting:
            claims.run_next()
        worker.runner.run_all()

    assert waiting == {0, 1, 2}
    assert max(running) <= 8


def test_both_of_two_claims_are_waited_for_and_given_back(ledger: HandLedger, claims: HandRunner) -> None:
    ledger.create_many([NewJob("nothing")] * 100)
    worker = HandWorker(ledger, slots=1, claims=claims, settings=WorkerSettings(batch=8, poll=HOUR))
    while len(claims.waiting) < 2:
        worker.step()
        worker.runner.run_all()
        if len(claims.waiting) == 1:
            claims.run_next()
    worker.stop()
    worker.step()
    claims.run_all()
    worker.run_until_stopped()

    assert set(ledger.counts()) == {Status.SUCCEEDED, Status.QUEUED}


def test_a_lease_counts_from_when_its_claim_begins(ledger: HandLedger, worker: HandWorker, claims: HandRunner) -> None:
    worker.pass_time(2)
    job_id = ledger.create("nothing")
    claims.run_next()
    worker.step()
    [run] = [run for run in worker.worker._runs.held.values() if run.job.id == job_id]

    assert run.lease_ends == worker.clock.monotonic() + WorkerSettings().lease.total_seconds()


def test_a_wake_up_during_a_claim_asks_again(ledger: HandLedger, worker: HandWorker, claims: HandRunner) -> None:
    worker.step()
    claims.run_next()
    job_id = ledger.create("nothing")
    worker.step()
    worker.step()
    claims.run_next()
    worker.step()

    assert ledger.job(job_id).status is Status.RUNNING


def test_what_comes_after_a_stop_is_given_back(ledger: HandLedger, worker: HandWorker, claims: HandRunner) -> None:
    job_id = ledger.create("nothing")
    worker.step()
    worker.stop()
    worker.step()
    claims.run_next()
    worker.run_until_stopped()

    assert ledger.triggers(job_id) == [Trigger.CREATE, Trigger.CLAIM, Trigger.RELEASE]


def test_a_claim_that_is_never_answered_does_not_keep_a_worker_from_ending(
    worker: HandWorker, caplog: pytest.LogCaptureFixture
) -> None:
    worker.step()
    worker.stop()
    worker.pass_time(60)

    assert worker.worker.stopped
    assert "a claim was not answered" in caplog.text


def test_a_claim_that_fails_is_tried_again_after_a_second(
    ledger: HandLedger, worker: HandWorker, claims: HandRunner
) -> None:
    ledger.faults.plan(ClaimJobs, before_commit(LOST))
    job_id = ledger.create("nothing")
    worker.step()
    claims.run_next()
    worker.pass_time(0.9)
    assert not claims.waiting
    worker.pass_time(0.2)
    claims.run_next()
    worker.step()

    assert ledger.triggers(job_id) == [Trigger.CREATE, Trigger.CLAIM]


@pytest.mark.parametrize("fault", [before_commit(CUT), after_commit(CUT)])
def test_a_claim_in_doubt_is_looked_for_and_claimed_once(
    ledger: HandLedger, worker: HandWorker, claims: HandRunner, fault: object
) -> None:
    ledger.faults.plan(ClaimJobs, fault)  # type: ignore[arg-type]  # as parametrize gives it
    job_id = ledger.create("nothing")
    for _ in range(30):
        worker.pass_time(0.2)
        claims.run_all()
        worker.runner.run_all()

    assert ledger.triggers(job_id) == [Trigger.CREATE, Trigger.CLAIM, Trigger.SUCCEED]


def test_rows_that_cannot_be_claimed_are_passed_over(
    ledger: HandLedger, worker: HandWorker, claims: HandRunner
) -> None:
    ledger.faults.plan(ClaimJobs, before_commit(DataRejected("no such value")))
    job_id = ledger.create("nothing")
    worker.step()
    claims.run_next()
    worker.step()

    assert ledger.faults.begun[ClaimOneByOne] == 1
    assert ledger.job(job_id).status is Status.RUNNING


def test_an_error_that_nobody_foresaw_ends_the_worker_and_gives_back_what_it_holds(
    ledger: HandLedger, claims: HandRunner
) -> None:
    worker = holding_one(HandWorker(ledger, slots=4, claims=claims))

    def fail(_: object) -> object:
        raise RuntimeError("a bug")

    ledger.handlers[ClaimJobs] = fail
    worker.pass_time(1)
    claims.run_all()
    with pytest.raises(RuntimeError, match="a bug"):
        worker.pass_time(1)

    assert ledger.counts() == {Status.QUEUED: 1}
    assert worker.worker.stopped


def test_with_nothing_held_the_loop_claims(ledger: HandLedger, claims: HandRunner) -> None:
    holding_one(HandWorker(ledger, claims=claims))

    assert not claims.waiting


def test_a_suspect_waits_until_what_ended_before_it_is_written(ledger: HandLedger) -> None:
    worker = HandWorker(ledger, settings=WorkerSettings(poll=HOUR))
    first, second = ledger.create_many([NewJob("nothing"), NewJob("nothing")])
    worker.claim()
    ledger.make_suspect(ledger.create("nothing"))
    ledger.faults.plan(FinishJobs, *[before_commit(LOST)] * 3)
    worker.runner.run_all()
    worker.pass_time(0.5)
    assert not worker.runner.waiting
    worker.pass_time(10)

    assert [ledger.job(job_id).status for job_id in (first, second)] == [Status.SUCCEEDED] * 2
