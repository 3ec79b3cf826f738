"""How a requested cancel reaches a function that runs: driven by hand, and once with real threads and a real loop."""

import asyncio
import threading
from datetime import timedelta
from typing import NoReturn
from uuid import UUID

import pytest

from heimdex.domain.commands import FindCancelRequests
from heimdex.domain.errors import CancelRequested, DatabaseUnavailable
from heimdex.domain.new_job import NewJob
from heimdex.domain.transitions import Status, Trigger
from heimdex.service_layer.job_context import JobContext
from heimdex.service_layer.pace import WorkerSettings
from tests.service_layer.faults import before_commit
from tests.service_layer.test_worker_threads import PATIENCE, application, counts, working
from tests.service_layer.test_worker_threads import TENANT as REAL_TENANT
from tests.service_layer.worker_harness import TENANT, HandLedger, HandWorker, Pause, Payload, nothing, registry

CANCELED = [Trigger.CREATE, Trigger.CLAIM, Trigger.REQUEST_CANCEL, Trigger.CANCEL]
LONG_TIMEOUT = timedelta(hours=1)


@pytest.fixture
def ledger() -> HandLedger:
    return HandLedger(registry(nothing=nothing))


@pytest.fixture
def worker(ledger: HandLedger) -> HandWorker:
    return HandWorker(ledger)


def cancel(ledger: HandLedger, job_id: UUID) -> None:
    with ledger.store.unit_of_work(TENANT) as uow:
        uow.jobs.cancel(job_id, reason="not wanted")


def reason_of_cancel(ledger: HandLedger, job_id: UUID) -> str | None:
    with ledger.store.unit_of_work(TENANT) as uow:
        event = uow.jobs.latest_event(job_id)
    assert event is not None
    assert event.trigger is Trigger.CANCEL
    return event.reason


def test_a_function_that_lets_the_request_out_ends_its_job_as_canceled(ledger: HandLedger, worker: HandWorker) -> None:
    seen: list[object] = []

    def long(payload: Payload, ctx: JobContext) -> None:
        seen.append(ctx.cancel_requested)
        cancel(ledger, ctx.job.id)
        ctx.check()
        worker.pass_time(2)
        seen.append(ctx.cancel_requested)
        ctx.check()
        seen.append("not reached")

    ledger.jobs.register("long")(long)
    job_id = ledger.create("long")
    worker.settle()

    job = ledger.job(job_id)
    assert seen == [False, True]
    assert (job.status, job.last_error_code, job.attempt) == (Status.CANCELED, None, 1)
    assert ledger.triggers(job_id) == CANCELED


def test_after_a_request_a_function_may_still_write_what_helps_to_clean_up(
    ledger: HandLedger, worker: HandWorker
) -> None:
    def long(payload: Payload, ctx: JobContext) -> None:
        cancel(ledger, ctx.job.id)
        worker.pass_time(2)
        try:
            ctx.check()
        except CancelRequested as error:
            ctx.log({"told": str(error.job_id == ctx.job.id)})
            raise

    ledger.jobs.register("long")(long)
    job_id = ledger.create("long")
    worker.settle()

    assert ledger.details(job_id, Trigger.LOG) == [{"told": "True"}]
    assert ledger.job(job_id).status is Status.CANCELED


def test_a_function_that_ignores_the_request_and_succeeds_has_succeeded(ledger: HandLedger, worker: HandWorker) -> None:
    def long(payload: Payload, ctx: JobContext) -> str:
        cancel(ledger, ctx.job.id)
        worker.pass_time(30)
        return "done"

    ledger.jobs.register("long")(long)
    job_id = ledger.create("long")
    worker.settle()

    assert (ledger.job(job_id).status, ledger.job(job_id).result) == (Status.SUCCEEDED, "done")


def test_a_function_that_fails_after_the_request_is_not_run_again(ledger: HandLedger, worker: HandWorker) -> None:
    def long(payload: Payload, ctx: JobContext) -> NoReturn:
        cancel(ledger, ctx.job.id)
        worker.pass_time(2)
        raise RuntimeError("it broke")

    ledger.jobs.register("long")(long)
    job_id = ledger.create("long")
    worker.settle()

    assert (ledger.job(job_id).status, ledger.job(job_id).last_error_code) == (Status.CANCELED, "RuntimeError")


# Async functions


def test_the_task_of_an_async_function_is_cancelled_and_its_job_ends_as_canceled(
    ledger: HandLedger, worker: HandWorker
) -> None:
    seen = []

    async def wait(payload: Payload, ctx: JobContext) -> None:
        try:
            await Pause()
        finally:
            seen.append(ctx.cancel_requested)
            ctx.log({"cleaned": "up"})

    ledger.jobs.register("wait", timeout=LONG_TIMEOUT)(wait)
    job_id = ledger.create("wait")
    worker.settle()
    cancel(ledger, job_id)
    worker.pass_time(2)

    assert (seen, worker.runner.paused) == ([True], [])
    assert ledger.triggers(job_id) == [*CANCELED[:-1], Trigger.LOG, Trigger.CANCEL]
    assert ledger.job(job_id).last_error_code is None


def test_an_async_function_that_catches_its_cancellation_may_still_succeed(
    ledger: HandLedger, worker: HandWorker
) -> None:
    async def wait(payload: Payload, ctx: JobContext) -> str:
        try:
            await Pause()
        except asyncio.CancelledError:
            return "as far as it came"
        return "all"

    ledger.jobs.register("wait")(wait)
    job_id = ledger.create("wait")
    worker.settle()
    cancel(ledger, job_id)
    worker.pass_time(2)

    assert (ledger.job(job_id).status, ledger.job(job_id).result) == (Status.SUCCEEDED, "as far as it came")


def test_an_async_function_may_check_between_its_awaits_too(ledger: HandLedger, worker: HandWorker) -> None:
    async def busy(payload: Payload, ctx: JobContext) -> None:
        cancel(ledger, ctx.job.id)
        worker.pass_time(2)
        ctx.check()

    ledger.jobs.register("busy")(busy)
    job_id = ledger.create("busy")
    worker.settle()

    assert ledger.triggers(job_id) == CANCELED


# Jobs that have not started


def test_a_job_that_has_not_started_is_canceled_at_once(ledger: HandLedger, worker: HandWorker) -> None:
    job_id = ledger.create("nothing")
    worker.claim()
    cancel(ledger, job_id)
    worker.pass_time(2)

    assert ledger.triggers(job_id) == CANCELED
    assert reason_of_cancel(ledger, job_id) == "its cancel was requested"
    # The runner still has the work, and it is no longer wanted.
    worker.runner.run_all()
    assert ledger.triggers(job_id) == CANCELED


def test_an_async_job_that_has_not_started_is_canceled_and_never_begins(ledger: HandLedger, worker: HandWorker) -> None:
    async def wait(payload: Payload, ctx: JobContext) -> None:
        await Pause()

    ledger.jobs.register("wait")(wait)
    job_id = ledger.create("wait")
    worker.claim()
    cancel(ledger, job_id)
    worker.pass_time(2)
    worker.runner.run_all()

    assert ledger.triggers(job_id) == CANCELED
    assert [task.begun for task in worker.runner.tasks] == [False]


def test_a_suspect_that_waits_to_run_alone_is_canceled_and_others_are_claimed_again(
    ledger: HandLedger, worker: HandWorker
) -> None:
    seen: list[object] = []

    def long(payload: Payload, ctx: JobContext) -> None:
        suspect = ledger.create("nothing")
        ledger.make_suspect(suspect)
        worker.claim()
        seen.append(ledger.job(suspect).status)
        other = ledger.create("nothing")
        cancel(ledger, suspect)
        worker.pass_time(3)
        seen.extend([ledger.job(suspect).status, ledger.job(other).status])

    ledger.jobs.register("long", timeout=LONG_TIMEOUT)(long)
    ledger.create("long")
    worker.claim()
    worker.runner.run_next()

    assert seen == [Status.RUNNING, Status.CANCELED, Status.RUNNING]


# How often is asked


def test_runs_that_end_within_a_second_are_not_asked_for(ledger: HandLedger, worker: HandWorker) -> None:
    for _ in range(20):
        ledger.create("nothing")
        worker.settle()
        worker.pass_time(0.5)

    assert ledger.faults.begun[FindCancelRequests] == 0


def test_one_question_a_second_is_for_all_runs_and_none_when_there_are_no_runs(ledger: HandLedger) -> None:
    ledger.create_many(NewJob("nothing") for _ in range(5))
    worker = HandWorker(ledger, slots=5)
    worker.claim()
    worker.pass_time(9.5)
    asked = ledger.faults.begun[FindCancelRequests]
    worker.settle()
    worker.pass_time(60)

    assert asked in {8, 9}
    assert ledger.faults.begun[FindCancelRequests] <= asked + 1


def test_a_run_whose_cancel_is_known_is_not_asked_for_again(ledger: HandLedger, worker: HandWorker) -> None:
    seen = []

    def long(payload: Payload, ctx: JobContext) -> None:
        cancel(ledger, ctx.job.id)
        worker.pass_time(3)
        seen.append(ledger.faults.begun[FindCancelRequests])
        worker.pass_time(60)
        seen.append(ledger.faults.begun[FindCancelRequests])

    ledger.jobs.register("long", timeout=LONG_TIMEOUT)(long)
    ledger.create("long")
    worker.settle()

    assert seen[0] == seen[1]


def test_a_question_that_failed_is_asked_again(ledger: HandLedger, worker: HandWorker) -> None:
    job_id = ledger.create("nothing")
    worker.claim()
    cancel(ledger, job_id)
    ledger.faults.plan(FindCancelRequests, before_commit(DatabaseUnavailable("nobody answers")))
    worker.pass_time(1.5)
    assert ledger.job(job_id).status is Status.RUNNING
    worker.pass_time(2)

    assert ledger.triggers(job_id) == CANCELED


def test_a_request_is_heard_while_the_worker_stops(ledger: HandLedger) -> None:
    worker = HandWorker(ledger, settings=WorkerSettings(grace=timedelta(seconds=20)))

    def long(payload: Payload, ctx: JobContext) -> None:
        worker.stop()
        cancel(ledger, ctx.job.id)
        worker.pass_time(3)
        ctx.check()

    ledger.jobs.register("long", timeout=LONG_TIMEOUT)(long)
    job_id = ledger.create("long")
    worker.run_until_stopped()

    assert ledger.triggers(job_id) == CANCELED


# With threads and an event loop


def test_a_plain_and_an_async_function_are_canceled_while_they_run() -> None:
    begun = threading.Barrier(3, timeout=PATIENCE)
    ended = threading.Semaphore(0)

    def plain(payload: Payload, ctx: JobContext) -> None:
        begun.wait()
        try:
            while True:
                ctx.check()
                threading.Event().wait(0.01)
        finally:
            ended.release()

    async def note(payload: Payload, ctx: JobContext) -> None:
        await asyncio.to_thread(begun.wait)
        try:
            await asyncio.Event().wait()
        finally:
            ended.release()

    with application(registry(plain=plain, note=note)) as app:
        with app.unit_of_work(REAL_TENANT) as uow:
            ids = [uow.jobs.create(type).job.id for type in ("plain", "note")]
        with working(app.worker()):
            begun.wait()
            with app.unit_of_work(REAL_TENANT) as uow:
                for job_id in ids:
                    uow.jobs.cancel(job_id, reason="not wanted")
            assert all(ended.acquire(timeout=PATIENCE) for _ in ids)

        assert counts(app) == {Status.CANCELED: 2}
