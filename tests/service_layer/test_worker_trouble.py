"""A database that fails: what has ended is kept and written later, nothing counts twice, and the log stays quiet."""

from datetime import timedelta

import pytest

from heimdex.domain.commands import (
    ClaimJobs,
    CreateChildren,
    ExpireLeases,
    ExpireOneByOne,
    FinishJobs,
    MarkWorkerSeen,
    RenewLeases,
    ReportJobs,
)
from heimdex.domain.errors import (
    CommitOutcomeUnknown,
    DatabaseUnavailable,
    DataRejected,
    HeimdexError,
    IllegalTransition,
    InvalidInput,
    LeaseLost,
    TransientDatabaseError,
    UniqueViolation,
)
from heimdex.domain.new_job import NewJob
from heimdex.domain.transitions import Status, Trigger
from heimdex.service_layer.job_context import CreatedCounts, JobContext
from heimdex.service_layer.pace import WorkerSettings
from tests.service_layer.faults import Fault, after_commit, before_commit
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
    # The first was committed, and found when it was looked for.
    assert [ledger.refusals(job_id) for job_id in ids] == [0, 0]


@pytest.mark.parametrize("fault", [before_commit(CUT), after_commit(CUT)], ids=["before", "after"])
def test_a_claim_whose_commit_is_unknown_is_looked_for_and_counts_no_crash(fault: Fault) -> None:
    ledger = HandLedger(registry(nothing=nothing))
    job_id = ledger.create("nothing")
    ledger.faults.plan(ClaimJobs, fault)
    worker = HandWorker(ledger)
    worker.pass_time(2)
    worker.settle()

    assert ledger.triggers(job_id) == [Trigger.CREATE, Trigger.CLAIM, Trigger.SUCCEED]
    assert ledger.job(job_id).crashes == 0


def test_a_claim_that_can_be_looked_for_only_after_its_lease_is_given_back() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    job_id = ledger.create("nothing")
    ledger.faults.plan(ClaimJobs, after_commit(CUT))
    worker = HandWorker(ledger)
    worker.step()
    ledger.faults.down = DOWN
    worker.pass_time(40)
    ledger.faults.down = None
    worker.pass_time(2)
    worker.settle()

    assert ledger.triggers(job_id)[:3] == [Trigger.CREATE, Trigger.CLAIM, Trigger.RELEASE]
    assert ledger.job(job_id).crashes == 0


def test_a_claim_that_was_in_doubt_when_the_worker_was_stopped_is_given_back() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    job_id = ledger.create("nothing")
    ledger.faults.plan(ClaimJobs, after_commit(CUT))
    worker = HandWorker(ledger)
    worker.step()
    worker.stop()
    worker.run_until_stopped()

    assert ledger.triggers(job_id) == [Trigger.CREATE, Trigger.CLAIM, Trigger.RELEASE]


@pytest.mark.parametrize("fault", [before_commit(CUT), after_commit(CUT)], ids=["before", "after"])
def test_reports_whose_commit_is_unknown_are_written_once(fault: Fault) -> None:
    def talk(payload: Payload, ctx: JobContext) -> None:
        ctx.log({"n": 1})
        ctx.progress(10)
        worker.pass_time(5)
        ctx.log({"n": 1})

    ledger = HandLedger(registry(talk=talk))
    worker = HandWorker(ledger)
    job_id = ledger.create("talk")
    ledger.faults.plan(ReportJobs, fault)
    worker.settle()
    worker.pass_time(2)

    assert ledger.triggers(job_id)[2:] == [Trigger.LOG, Trigger.PROGRESS, Trigger.LOG, Trigger.SUCCEED]


def test_of_many_ends_the_one_that_cannot_be_written_fails_alone_though_the_line_is_cut_meanwhile() -> None:
    def make(payload: Payload, ctx: JobContext) -> None:
        if payload["n"] == 1:
            ctx.create("nothing", {"other": "payload"}, idempotency_key="taken")

    ledger = HandLedger(registry(make=make, nothing=nothing))
    ledger.create("nothing", idempotency_key="taken", queue="nobody's")
    ids = ledger.create_many(NewJob("make", {"n": n}) for n in range(3))
    worker = HandWorker(ledger, slots=4)
    worker.claim()
    worker.runner.run_all()
    # The batch, the first alone, the second alone and as a failure, and then the line is cut.
    ledger.faults.plan(FinishJobs, None, None, None, after_commit(CUT))
    worker.pass_time(5)

    assert [ledger.job(job_id).status for job_id in ids] == [Status.SUCCEEDED, Status.FAILED, Status.SUCCEEDED]
    assert ledger.job(ids[1]).last_error_code == "effects_refused"
    assert [ledger.refusals(job_id) for job_id in ids] == [0, 0, 0]


def test_an_end_that_cannot_be_written_at_all_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    ledger = HandLedger(registry(nothing=nothing))
    ids = [ledger.create("nothing") for _ in range(2)]
    worker = HandWorker(ledger)
    worker.claim()
    worker.runner.run_all()
    refused = before_commit(UniqueViolation("pk_job_event"))
    # The batch, the first alone, and the first as a failure.
    ledger.faults.plan(FinishJobs, refused, refused, refused)
    worker.pass_time(2)

    assert [ledger.job(job_id).status for job_id in ids] == [Status.RUNNING, Status.SUCCEEDED]
    assert f"job {ids[0]} cannot be ended, so its lease will run out" in caplog.text


@pytest.mark.parametrize("error", [UniqueViolation("pk_job_event"), IllegalTransition(None, "queued", "x", ())])
def test_claims_and_expiries_go_on_one_by_one_when_a_batch_fails_for_one_row(error: HeimdexError) -> None:
    ledger = HandLedger(registry(nothing=nothing))
    left, due = ledger.create("nothing"), ledger.create("nothing")
    ledger.claim_elsewhere(left)
    ledger.advance(timedelta(seconds=31))
    ledger.faults.plan(ClaimJobs, *[before_commit(error)] * 9)
    ledger.faults.plan(ExpireLeases, *[before_commit(error)] * 9)
    worker = HandWorker(ledger)
    worker.settle()
    worker.settle()

    assert ledger.triggers(due) == [Trigger.CREATE, Trigger.CLAIM, Trigger.SUCCEED]
    assert Trigger.EXPIRE in ledger.triggers(left)


def test_pages_of_rows_that_cannot_be_written_hide_no_expired_job_behind_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ledger = HandLedger(registry(nothing=nothing))
    bad = ledger.create_many(NewJob("nothing") for _ in range(250))
    left = ledger.create("nothing")
    for job_id in [*bad, left]:
        ledger.claim_elsewhere(job_id)
    for job_id in bad:
        ledger.spoil(job_id)
    ledger.advance(timedelta(seconds=31))
    worker = HandWorker(ledger)
    worker.settle()
    # Again from the first at the next sweep.
    worker.pass_time(6)

    assert Trigger.EXPIRE in ledger.triggers(left)
    assert ledger.faults.begun[ExpireOneByOne] == 6
    assert ledger.faults.begun[MarkWorkerSeen] == 2
    assert "100 jobs cannot be written and are passed over" in caplog.text


def test_a_database_that_nobody_could_write_to_for_long_leaves_holders_the_first_turn() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    left = ledger.create("nothing")
    ledger.claim_elsewhere(left)
    worker = HandWorker(ledger, settings=WorkerSettings(queues=frozenset({"others"})))
    worker.settle()
    ledger.delay(MarkWorkerSeen, timedelta(seconds=31))
    worker.pass_time(5)
    worker.pass_time(9)
    assert Trigger.EXPIRE not in ledger.triggers(left)
    worker.pass_time(2)
    assert Trigger.EXPIRE in ledger.triggers(left)


def test_a_sweep_that_the_database_interrupts_goes_on_where_it_was() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    ids = ledger.create_many(NewJob("nothing") for _ in range(150))
    for job_id in ids:
        ledger.claim_elsewhere(job_id)
    ledger.advance(timedelta(seconds=31))
    ledger.faults.plan(ExpireLeases, None, before_commit(LOST))
    worker = HandWorker(ledger, settings=WorkerSettings(queues=frozenset({"others"})))
    worker.settle()
    worker.pass_time(4)

    assert [Trigger.EXPIRE in ledger.triggers(job_id) for job_id in ids] == [True] * 150
    assert ledger.faults.begun[ExpireLeases] == 3


def test_an_error_of_ours_in_one_duty_costs_no_lease(caplog: pytest.LogCaptureFixture) -> None:
    ledger = HandLedger(registry())
    worker = HandWorker(ledger)

    def long(payload: Payload, ctx: JobContext) -> None:
        ledger.faults.plan(MarkWorkerSeen, *[before_commit(InvalidInput("name", "w", "give another"))] * 60)
        worker.pass_time(90)
        ctx.check()

    ledger.jobs.register("long")(long)
    job_id = ledger.create("long")
    worker.settle()
    worker.pass_time(2)

    assert ledger.triggers(job_id) == [Trigger.CREATE, Trigger.CLAIM, Trigger.SUCCEED]
    assert "the ledger refused what this worker asked for" in caplog.text


def test_a_worker_that_an_unforeseen_error_ends_gives_back_what_it_holds() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    ids = [ledger.create("nothing") for _ in range(2)]
    worker = HandWorker(ledger)
    worker.claim()

    def fail() -> None:
        raise RuntimeError("nobody foresaw this")

    worker.inbox.put(fail)
    with pytest.raises(RuntimeError, match="nobody foresaw this"):
        worker.step()

    for job_id in ids:
        assert ledger.triggers(job_id) == [Trigger.CREATE, Trigger.CLAIM, Trigger.RELEASE]


def test_reports_that_the_database_rejects_are_dropped_and_hold_nothing_up(caplog: pytest.LogCaptureFixture) -> None:
    def talk(payload: Payload, ctx: JobContext) -> None:
        ctx.log({"n": 1})

    ledger = HandLedger(registry(talk=talk))
    job_id = ledger.create("talk")
    ledger.faults.plan(ReportJobs, before_commit(DataRejected("value out of range")))
    HandWorker(ledger).settle()

    assert ledger.job(job_id).status is Status.SUCCEEDED
    assert "was rejected and is lost: value out of range" in caplog.text


def test_only_the_report_that_is_at_fault_is_lost() -> None:
    def talk(payload: Payload, ctx: JobContext) -> None:
        for n in range(3):
            ctx.log({"n": n})

    ledger = HandLedger(registry(talk=talk))
    job_id = ledger.create("talk")
    rejected = before_commit(DataRejected("value out of range"))
    # The three together, and the first alone.
    ledger.faults.plan(ReportJobs, rejected, rejected)
    HandWorker(ledger).settle()

    assert ledger.details(job_id, Trigger.LOG) == [{"n": 1}, {"n": 2}]


def test_children_whose_commit_is_unknown_are_created_once() -> None:
    counts = []

    def fan_out(payload: Payload, ctx: JobContext) -> None:
        counts.append(ctx.create_many(NewJob("nothing", idempotency_key=f"k-{n}") for n in range(3)))

    ledger = HandLedger(registry(fan_out=fan_out, nothing=nothing))
    ledger.create("fan_out")
    ledger.faults.plan(CreateChildren, after_commit(CUT), before_commit(LOST))
    HandWorker(ledger).settle()

    assert ledger.counts() == {Status.SUCCEEDED: 4}
    # The second try found what the first had made, and it is the same request.
    assert counts == [CreatedCounts(created=3, replayed=0)]


def test_many_notes_are_written_in_parts_and_stay_with_their_run_while_the_database_is_away() -> None:
    def talk(payload: Payload, ctx: JobContext) -> None:
        ledger.faults.down = DOWN
        for n in range(3):
            for m in range(300):
                ctx.log({"n": n, "m": m})
            worker.pass_time(3)
        ledger.faults.down = None
        ledger.faults.begun.clear()

    ledger = HandLedger(registry(talk=talk))
    worker = HandWorker(ledger)
    job_id = ledger.create("talk")
    worker.settle()
    worker.pass_time(3)

    expected = [{"n": n, "m": m} for n in range(3) for m in range(300)]
    assert ledger.details(job_id, Trigger.LOG) == expected
    assert ledger.faults.begun[ReportJobs] == 2
