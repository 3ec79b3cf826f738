"""How a worker ends: what has not started is given back, what runs gets the grace, and nothing hangs."""

import signal
from datetime import timedelta

import pytest

from heimdex.domain.commands import ClaimJobs, FinishJobs, MarkWorkerGone
from heimdex.domain.errors import DatabaseUnavailable, LeaseLost
from heimdex.domain.new_job import NewJob
from heimdex.domain.transitions import Status, Trigger
from heimdex.service_layer.job_context import JobContext
from heimdex.service_layer.message_bus import MessageBus
from heimdex.service_layer.pace import WorkerSettings
from heimdex.service_layer.retry import once
from tests.service_layer.worker_harness import HandLedger, HandWorker, Payload, nothing, registry

DOWN = DatabaseUnavailable("nobody answers")
GRACE = WorkerSettings(grace=timedelta(seconds=20))


def test_an_idle_worker_stops_at_once() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger)
    worker.settle()
    before = ledger.clock.now()
    worker.stop()

    assert worker.worker.run() == 0
    assert ledger.clock.now() == before


def test_after_a_stop_nothing_is_claimed() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger)
    job_id = ledger.create("nothing")
    worker.stop()
    worker.run_until_stopped()

    assert ledger.faults.begun[ClaimJobs] == 0
    assert ledger.job(job_id).status is Status.QUEUED


def test_a_stop_that_comes_while_ends_are_written_is_not_followed_by_a_claim() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    bus = ledger.bus

    def finish_slowly(command: FinishJobs) -> object:
        worker.stop()
        return bus.handle(command)

    ledger.bus = MessageBus(ledger.handlers | {FinishJobs: finish_slowly}, ids=ledger.ids, retry=once)
    worker = HandWorker(ledger, slots=1)
    first = ledger.create("nothing")
    worker.claim()
    second = ledger.create("nothing")
    worker.run_until_stopped()

    assert ledger.job(first).status is Status.SUCCEEDED
    assert ledger.triggers(second) == [Trigger.CREATE]


def test_jobs_that_have_not_started_are_given_back_without_spending_an_attempt() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger)
    ids = [ledger.create("nothing") for _ in range(2)]
    worker.claim()
    worker.stop()
    worker.step()

    assert worker.worker.stopped
    for job_id in ids:
        assert ledger.triggers(job_id) == [Trigger.CREATE, Trigger.CLAIM, Trigger.RELEASE]
        assert ledger.job(job_id).attempt == 0
    # The runner still has the work, and it is no longer wanted.
    worker.runner.run_all()
    assert ledger.counts() == {Status.QUEUED: 2}


def test_a_waiting_suspect_is_given_back_too() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger)
    seen = []

    def long(payload: Payload, ctx: JobContext) -> None:
        suspect = ledger.create("nothing")
        ledger.make_suspect(suspect)
        worker.claim()
        seen.append(ledger.job(suspect).status)
        worker.stop()
        worker.claim()
        seen.append(ledger.job(suspect).status)

    ledger.jobs.register("long")(long)
    ledger.create("long")
    worker.run_until_stopped()

    assert seen == [Status.RUNNING, Status.QUEUED]


def test_a_running_job_may_end_within_the_grace() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger, settings=GRACE)

    def long(payload: Payload, ctx: JobContext) -> str:
        worker.stop()
        worker.pass_time(19)
        ctx.log({"still": "here"})
        return "done"

    ledger.jobs.register("long")(long)
    job_id = ledger.create("long")
    worker.run_until_stopped()

    assert ledger.job(job_id).result == "done"
    assert worker.worker.exit_code == 0


def test_a_job_that_runs_beyond_the_grace_is_given_back_without_spending_an_attempt() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger, settings=GRACE)
    seen = []

    def long(payload: Payload, ctx: JobContext) -> None:
        worker.stop()
        began = ledger.clock.now()
        worker.pass_time(60)
        seen.append(ledger.clock.now() - began)
        with pytest.raises(LeaseLost):
            ctx.check()

    ledger.jobs.register("long", timeout=timedelta(hours=1))(long)
    job_id = ledger.create("long")
    worker.run_until_stopped()

    assert seen == [timedelta(seconds=20)]
    assert ledger.triggers(job_id) == [Trigger.CREATE, Trigger.CLAIM, Trigger.RELEASE]
    assert ledger.job(job_id).attempt == 0
    assert worker.worker.exit_code == 0


def test_the_lease_is_renewed_during_the_grace() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger, settings=WorkerSettings(grace=timedelta(minutes=5)))

    def long(payload: Payload, ctx: JobContext) -> None:
        worker.stop()
        worker.pass_time(200)

    ledger.jobs.register("long", timeout=timedelta(hours=1))(long)
    job_id = ledger.create("long")
    worker.run_until_stopped()

    assert ledger.job(job_id).status is Status.SUCCEEDED


def test_a_second_stop_ends_the_grace() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger, settings=GRACE)
    seen = []

    def long(payload: Payload, ctx: JobContext) -> None:
        worker.stop()
        worker.pass_time(5)
        worker.stop()
        worker.pass_time(60)
        seen.append(ctx.job.updated_at + timedelta(seconds=5) == ledger.clock.now())

    ledger.jobs.register("long", timeout=timedelta(hours=1))(long)
    job_id = ledger.create("long")
    worker.run_until_stopped()

    assert seen == [True]
    assert ledger.job(job_id).status is Status.QUEUED


def test_a_stop_may_come_from_a_signal_handler() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger)
    before = signal.signal(signal.SIGUSR1, lambda *_: worker.stop())
    try:
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert worker.worker.run() == 0


# Stopping while the database is away


def test_what_ended_is_written_when_the_database_comes_back_before_the_last_moment() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger, settings=GRACE)
    job_id = ledger.create("nothing")
    worker.claim()
    worker.runner.run_all()
    ledger.faults.down = DOWN
    worker.stop()
    worker.pass_time(21)
    assert not worker.worker.stopped
    ledger.faults.down = None
    worker.run_until_stopped()

    assert ledger.job(job_id).status is Status.SUCCEEDED


def test_a_stop_during_an_outage_ends_two_seconds_after_the_grace(caplog: pytest.LogCaptureFixture) -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger, settings=GRACE)
    ids = ledger.create_many(NewJob("nothing") for _ in range(2))
    worker.claim()
    worker.runner.run_next()
    ledger.faults.down = DOWN
    worker.stop()
    before = ledger.clock.now()

    assert worker.worker.run() == 0
    assert ledger.clock.now() - before == timedelta(seconds=22)
    assert "2 ends and reports could not be written" in caplog.text
    assert [ledger.job(job_id).status for job_id in ids] == [Status.RUNNING] * 2


def test_a_worker_whose_slots_are_stuck_in_an_outage_ends_without_a_busy_loop() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger, slots=1, settings=GRACE)
    steps = []

    def hang(payload: Payload, ctx: JobContext) -> None:
        ledger.faults.down = DOWN
        steps.append(worker.pass_time(60))

    ledger.jobs.register("hang", timeout=timedelta(seconds=10))(hang)
    ledger.create("hang")
    worker.claim()
    began = ledger.clock.now()
    worker.runner.run_next()

    assert worker.worker.stopped
    assert worker.worker.exit_code == 1
    assert ledger.clock.now() - began == timedelta(seconds=10 + 20 + 2)
    assert steps[0] < 80


def test_a_second_stop_during_an_outage_ends_within_two_seconds() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger, settings=GRACE)
    ledger.create("nothing")
    worker.claim()
    ledger.faults.down = DOWN
    worker.stop()
    worker.stop()
    before = ledger.clock.now()

    assert worker.worker.run() == 0
    assert ledger.clock.now() - before == timedelta(seconds=2)


def test_a_worker_that_cannot_sign_off_stays_on_record_and_ends_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger)
    worker.settle()
    ledger.faults.down = DOWN
    worker.stop()

    assert worker.worker.run() == 0
    assert ledger.faults.begun[MarkWorkerGone] == 1
    assert "stays on record" in caplog.text


def _interrupt() -> None:
    # Not by a signal: a process that was started in the background may have to ignore it.
    raise KeyboardInterrupt


def test_a_loop_that_breaks_still_signs_off() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger)
    worker.inbox.put(_interrupt)
    with pytest.raises(KeyboardInterrupt):
        worker.worker.run()

    assert worker.runner.closed
    assert ledger.faults.begun[MarkWorkerGone] == 1
    assert ledger.faults.begun[FinishJobs] == 0


def test_a_worker_that_is_closed_twice_is_closed_once() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger)
    worker.worker.close()
    worker.worker.close()

    assert ledger.faults.begun[MarkWorkerGone] == 1


def test_a_worker_that_is_interrupted_gives_back_what_it_holds() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    ids = [ledger.create("nothing") for _ in range(2)]
    worker = HandWorker(ledger)

    def interrupt() -> None:
        if ledger.counts() == {Status.RUNNING: 2}:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        worker.worker.run(interrupt)

    for job_id in ids:
        assert ledger.triggers(job_id) == [Trigger.CREATE, Trigger.CLAIM, Trigger.RELEASE]


def test_a_worker_that_ends_gives_up_what_was_reserved_for_it() -> None:
    closed: list[bool] = []
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger, close=lambda: closed.append(True))
    worker.stop()
    worker.worker.run()

    assert closed == [True]
