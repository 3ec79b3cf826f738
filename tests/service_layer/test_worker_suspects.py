"""What is left of workers that died: their jobs are expired, and what may have killed them runs alone."""

from datetime import timedelta

from heimdex.domain.new_job import NewJob
from heimdex.domain.transitions import Status, Trigger
from heimdex.service_layer.job_context import JobContext
from tests.service_layer.worker_harness import HandLedger, HandWorker, Payload, nothing, registry

LONG_TIMEOUT = timedelta(hours=2)


# The reaper


def test_the_jobs_of_a_dead_worker_are_expired_and_run_again() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    job_id = ledger.create("nothing")
    ledger.claim_elsewhere(job_id)
    worker = HandWorker(ledger)
    worker.pass_time(29)
    assert ledger.job(job_id).status is Status.RUNNING
    worker.pass_time(7)
    assert ledger.job(job_id).crashes == 1
    worker.settle()

    assert ledger.triggers(job_id)[2:] == [Trigger.EXPIRE, Trigger.RETRY, Trigger.CLAIM, Trigger.SUCCEED]
    assert ledger.job(job_id).attempt == 1


def test_more_expired_jobs_than_one_sweep_takes_are_swept_at_once() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    ids = ledger.create_many(NewJob("nothing") for _ in range(101))
    for job_id in ids:
        ledger.claim_elsewhere(job_id)
    ledger.advance(timedelta(seconds=31))
    HandWorker(ledger, slots=1).claim()

    assert all(ledger.job(job_id).crashes == 1 for job_id in ids)


def test_a_third_crash_buries_the_job() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    job_id = ledger.create("nothing")
    worker = HandWorker(ledger)
    for _ in range(3):
        ledger.make_suspect(job_id)
    worker.settle()

    assert ledger.job(job_id).status is Status.DEAD_LETTER
    assert ledger.job(job_id).last_error_code == "worker_lost"
    assert not worker.runner.waiting


# Suspects


def test_a_suspect_starts_only_when_the_others_have_ended_and_nothing_is_claimed_meanwhile() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger, slots=4)
    order: list[object] = []

    def long(payload: Payload, ctx: JobContext) -> None:
        suspect = ledger.create("suspect")
        ledger.make_suspect(suspect)
        late = [ledger.create("nothing") for _ in range(2)]
        worker.pass_time(3)
        order.append((ledger.job(suspect).status, len(worker.runner.waiting)))
        order.extend(ledger.job(job_id).status for job_id in late)
        order.append("long has ended")

    def suspect_(payload: Payload, ctx: JobContext) -> None:
        order.append("suspect starts")
        worker.pass_time(3)
        order.append(ledger.counts()[Status.QUEUED])

    ledger.jobs.register("long", timeout=LONG_TIMEOUT)(long)
    ledger.jobs.register("suspect", timeout=LONG_TIMEOUT)(suspect_)
    ledger.create("long")
    worker.settle()

    assert order == [(Status.RUNNING, 0), Status.QUEUED, Status.QUEUED, "long has ended", "suspect starts", 2]
    assert ledger.counts() == {Status.SUCCEEDED: 4}


def test_a_suspect_alone_starts_at_once() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    job_id = ledger.create("nothing")
    ledger.make_suspect(job_id)
    HandWorker(ledger).settle()

    assert ledger.job(job_id).status is Status.SUCCEEDED


def test_a_suspect_that_waits_too_long_is_put_off_so_that_others_get_their_turn() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger, slots=2)
    of_the_suspect: list[Trigger] = []
    of_the_others: list[Status] = []

    def long(payload: Payload, ctx: JobContext) -> None:
        suspect = ledger.create("nothing")
        ledger.make_suspect(suspect)
        others = [ledger.create("nothing") for _ in range(3)]
        for _ in range(3):
            worker.pass_time(10)
            if worker.runner.waiting:
                worker.runner.run_next()
        of_the_suspect.extend(ledger.triggers(suspect)[-2:])
        of_the_others.extend(ledger.job(job_id).status for job_id in others)

    ledger.jobs.register("long", timeout=LONG_TIMEOUT)(long)
    ledger.create("long")
    while ledger.counts().get(Status.SUCCEEDED) != 5:
        worker.settle()

    assert of_the_suspect == [Trigger.CLAIM, Trigger.SNOOZE]
    assert Status.SUCCEEDED in of_the_others


def test_a_suspect_that_is_lost_while_it_waits_keeps_nobody_from_claiming() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger, slots=2)
    seen = []

    def long(payload: Payload, ctx: JobContext) -> None:
        suspect = ledger.create("nothing")
        for _ in range(2):
            ledger.make_suspect(suspect)
        other = ledger.create("nothing")
        worker.claim()
        seen.append(ledger.job(suspect).status)
        ledger.expire_elsewhere(suspect)
        worker.pass_time(11)
        seen.extend([ledger.job(suspect).status, ledger.job(other).status])

    ledger.jobs.register("long", timeout=LONG_TIMEOUT)(long)
    ledger.create("long")
    worker.claim()
    worker.runner.run_next()

    assert seen == [Status.RUNNING, Status.DEAD_LETTER, Status.RUNNING]
