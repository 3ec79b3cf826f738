"""A database that fails: what has ended is kept and written later, nothing counts twice, and the log stays quiet."""

from datetime import timedelta

import pytest

from heimdex.domain.commands import ClaimJobs, CreateChildren, ExpireLeases, FinishJobs, RenewLeases, ReportJobs
from heimdex.domain.errors import (
    CommitOutcomeUnknown,
    DatabaseUnavailable,
    DataRejected,
    LeaseLost,
    TransientDatabaseError,
)
from heimdex.domain.new_job import NewJob
from heimdex.domain.transitions import Status, Trigger
from heimdex.service_layer.job_context import CreatedCounts, JobContext
from heimdex.service_layer.pace import WorkerSettings
from tests.service_layer.faults import after_commit, before_commit
from tests.service_layer.worker_harness import HandLedger, HandWorker, Payload, nothing, registry

DOWN = DatabaseUnavailable("nobody answers")
LOST = TransientDatabaseError("deadlock detected")
CUT = CommitOutcomeUnknown("the line was cut")


def test_the_end_of_a_run_is_kept_until_it_can_be_written() -> None:
    ledger = HandLedger(registry(answer=lambda payload, ctx: 42))
    worker = HandWorker(ledger)
    job_id = ledger.create("answer")
    ledger.faults.plan(FinishJobs, *[before_commit(LOST)] * 5)
    worker.claim()
    worker.runner.run_all()
    worker.pass_time(4.5)
    assert ledger.job(job_id).status is Status.RUNNING
    worker.pass_time(1)

    assert ledger.job(job_id).result == 42
    assert ledger.triggers(job_id) == [Trigger.CREATE, Trigger.CLAIM, Trigger.SUCCEED]


def test_what_failed_is_tried_again_after_a_second_whatever_else_is_due() -> None:
    ledger = HandLedger(registry(answer=lambda payload, ctx: 42))
    hour = timedelta(hours=1)
    worker = HandWorker(ledger, settings=WorkerSettings(poll=hour, sweep=hour, renew=hour, lease=3 * hour))
    worker.settle()
    ledger.faults.plan(ClaimJobs, before_commit(LOST))
    ledger.faults.plan(FinishJobs, before_commit(LOST))
    job_id = ledger.create("answer")
    created_at = ledger.clock.now()
    worker.pass_time(5)
    assert ledger.job(job_id).started_at == created_at + timedelta(seconds=1)
    worker.runner.run_all()
    ended_at = ledger.clock.now()
    worker.pass_time(60)

    assert ledger.job(job_id).finished_at == ended_at + timedelta(seconds=1)


def test_nothing_is_lost_or_done_twice_when_every_other_transaction_fails() -> None:
    runs: list[int] = []

    def work(payload: Payload, ctx: JobContext) -> None:
        runs.append(payload["n"])
        ctx.log({"n": payload["n"]})

    ledger = HandLedger(registry(work=work))
    ids = ledger.create_many(NewJob("work", {"n": n}) for n in range(20))
    for command in (ClaimJobs, FinishJobs, ReportJobs, RenewLeases, ExpireLeases):
        ledger.faults.plan(command, *[before_commit(LOST), None] * 20)
    worker = HandWorker(ledger)
    while ledger.counts() != {Status.SUCCEEDED: 20}:
        worker.settle()

    assert sorted(runs) == list(range(20))
    assert [ledger.details(job_id, Trigger.LOG) for job_id in ids] == [[{"n": n}] for n in range(20)]


def test_an_outage_is_logged_at_most_once_a_second_and_asked_about_no_more_often(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger)
    worker.settle()
    ledger.faults.down = DOWN
    ledger.faults.begun.clear()
    steps = worker.pass_time(60)

    assert len(caplog.records) <= 61
    assert ledger.faults.begun.total() <= 61
    assert steps <= 130


def test_work_goes_on_when_the_database_comes_back() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger)
    ledger.faults.down = DOWN
    worker.pass_time(90)
    ledger.faults.down = None
    job_id = ledger.create("nothing")
    worker.pass_time(1.1)
    worker.settle()

    assert ledger.job(job_id).status is Status.SUCCEEDED


def test_an_outage_shorter_than_the_lease_costs_no_run() -> None:
    ledger = HandLedger(registry())
    worker = HandWorker(ledger)

    def long(payload: Payload, ctx: JobContext) -> None:
        worker.pass_time(5)
        ledger.faults.down = DOWN
        worker.pass_time(23)
        ledger.faults.down = None
        worker.pass_time(60)
        ctx.check()

    ledger.jobs.register("long")(long)
    job_id = ledger.create("long")
    worker.settle()

    assert ledger.triggers(job_id) == [Trigger.CREATE, Trigger.CLAIM, Trigger.SUCCEED]


def test_an_outage_longer_than_the_lease_ends_the_hold_in_time_and_nothing_hangs() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger)
    held_for = []

    def long(payload: Payload, ctx: JobContext) -> None:
        if ctx.job.crashes:
            return
        began = ledger.clock.now()
        ledger.faults.down = DOWN
        try:
            while True:
                worker.pass_time(1)
                ctx.check()
        except LeaseLost:
            held_for.append(ledger.clock.now() - began)
        worker.pass_time(60)
        ledger.faults.down = None

    ledger.jobs.register("long", timeout=timedelta(hours=1))(long)
    job_id = ledger.create("long")
    while ledger.job(job_id).status is not Status.SUCCEEDED:
        worker.settle()

    assert held_for == [timedelta(seconds=30)]
    assert ledger.triggers(job_id).count(Trigger.EXPIRE) == 1


def test_what_ended_or_never_started_in_a_long_outage_is_no_crash() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker, other = HandWorker(ledger), HandWorker(ledger)
    ended, waiting = ledger.create("nothing"), ledger.create("nothing")
    worker.claim()
    other.settle()
    ledger.faults.down = DOWN
    worker.runner.run_next()
    for _ in range(30):
        worker.pass_time(1)
        other.pass_time(1)
    ledger.faults.down = None
    # The other one finds the database back first, and leaves what it finds to whoever holds it.
    other.pass_time(1)
    worker.pass_time(1)
    for _ in range(30):
        worker.step()
        other.step()

    assert ledger.triggers(ended) == [Trigger.CREATE, Trigger.CLAIM, Trigger.SUCCEED]
    assert ledger.triggers(waiting)[:3] == [Trigger.CREATE, Trigger.CLAIM, Trigger.RELEASE]
    assert ledger.job(waiting).crashes == 0


def test_leases_are_renewed_while_ends_cannot_be_written() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger)

    def long(payload: Payload, ctx: JobContext) -> None:
        # Somebody keeps a row locked that another run of this worker wants to write.
        ledger.faults.plan(FinishJobs, *[before_commit(LOST)] * 60)
        worker.runner.run_next()
        worker.pass_time(55)
        ctx.check()

    ledger.jobs.register("long")(long)
    job_id = ledger.create("long")
    ledger.create("nothing")
    worker.settle()
    worker.pass_time(10)

    assert ledger.job(job_id).status is Status.SUCCEEDED


def test_a_finish_whose_commit_is_unknown_is_tried_again_and_counts_once() -> None:
    def make(payload: Payload, ctx: JobContext) -> int:
        ctx.assets.add("file:///a", media_type="text/plain", size=1, sha256="0" * 64)
        ctx.create("nothing", queue="nobody's")
        return 42

    ledger = HandLedger(registry(make=make, nothing=nothing))
    ids = [ledger.create("make", {"n": n}) for n in range(2)]
    ledger.faults.plan(FinishJobs, after_commit(CUT), before_commit(CUT))
    worker = HandWorker(ledger, slots=1)
    worker.settle()
    worker.pass_time(5)
    worker.settle()
    worker.pass_time(5)

    for job_id in ids:
        assert ledger.triggers(job_id) == [Trigger.CREATE, Trigger.CLAIM, Trigger.SUCCEED]
        assert len(ledger.assets(job_id)) == 1
    # The first was committed: the second time it was refused.
    assert [ledger.refusals(job_id) for job_id in ids] == [1, 0]


def test_a_claim_whose_commit_is_unknown_is_run_after_its_lease() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    job_id = ledger.create("nothing")
    ledger.faults.plan(ClaimJobs, after_commit(CUT))
    worker = HandWorker(ledger)
    worker.pass_time(36)
    worker.settle()

    assert ledger.job(job_id).status is Status.SUCCEEDED
    assert ledger.job(job_id).crashes == 1


def test_reports_that_the_database_rejects_are_dropped_and_hold_nothing_up(caplog: pytest.LogCaptureFixture) -> None:
    def talk(payload: Payload, ctx: JobContext) -> None:
        ctx.log({"n": 1})

    ledger = HandLedger(registry(talk=talk))
    job_id = ledger.create("talk")
    ledger.faults.plan(ReportJobs, before_commit(DataRejected("value out of range")))
    HandWorker(ledger).settle()

    assert ledger.job(job_id).status is Status.SUCCEEDED
    assert "were rejected and are lost: value out of range" in caplog.text


def test_children_whose_commit_is_unknown_are_created_once() -> None:
    counts = []

    def fan_out(payload: Payload, ctx: JobContext) -> None:
        counts.append(ctx.create_many(NewJob("nothing", idempotency_key=f"k-{n}") for n in range(3)))

    ledger = HandLedger(registry(fan_out=fan_out, nothing=nothing))
    ledger.create("fan_out")
    ledger.faults.plan(CreateChildren, after_commit(CUT), before_commit(LOST))
    HandWorker(ledger).settle()

    assert ledger.counts() == {Status.SUCCEEDED: 4}
    # The second try found what the first had made.
    assert counts == [CreatedCounts(created=0, replayed=3)]
