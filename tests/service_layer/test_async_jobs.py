"""Async job functions: first driven by hand, each `Pause` being an await; then on a real event loop, on memory."""

import asyncio
import threading
import time
from datetime import timedelta
from typing import Any, NoReturn
from uuid import UUID

import pytest

from heimdex.domain.backoff import NoRetry
from heimdex.domain.errors import LeaseLost
from heimdex.domain.new_job import NewJob
from heimdex.domain.transitions import Status, Trigger
from heimdex.service_layer.job_context import JobContext
from heimdex.service_layer.job_registry import JobRegistry
from heimdex.service_layer.pace import WorkerSettings
from tests.service_layer.test_worker_threads import PATIENCE, TENANT, Ran, application, counts, working
from tests.service_layer.worker_harness import HandLedger, HandWorker, Pause, Payload, nothing, registry

GRACE = WorkerSettings(grace=timedelta(seconds=20))
LONG_TIMEOUT = timedelta(hours=1)


async def pause(payload: Payload, ctx: JobContext) -> str:
    await Pause()
    return "done"


def test_an_async_function_runs_like_a_plain_one() -> None:
    ledger = HandLedger(registry(nothing=nothing))

    async def work(payload: Payload, ctx: JobContext) -> dict[str, int]:
        ctx.progress(50, stage="half way")
        ctx.log({"n": payload["n"]})
        ctx.assets.add("file:///a", media_type="text/plain", size=1, sha256="0" * 64)
        ctx.create("nothing")
        return {"n": payload["n"] + 1}

    ledger.jobs.register("work")(work)
    job_id = ledger.create("work", {"n": 1})
    HandWorker(ledger).settle()

    assert ledger.job(job_id).result == {"n": 2}
    assert ledger.triggers(job_id) == [Trigger.CREATE, Trigger.CLAIM, Trigger.LOG, Trigger.SUCCEED]
    assert [asset.uri for asset in ledger.assets(job_id)] == ["file:///a"]
    assert ledger.counts() == {Status.SUCCEEDED: 2}


def test_an_async_function_that_raises_fails_with_a_traceback_of_its_own() -> None:
    async def break_(payload: Payload, ctx: JobContext) -> NoReturn:
        await Pause()
        raise RuntimeError("it broke")

    ledger = HandLedger(JobRegistry())
    ledger.jobs.register("break", backoff=NoRetry())(break_)
    job_id = ledger.create("break")
    worker = HandWorker(ledger)
    worker.settle()
    worker.runner.resume()
    worker.settle()

    [detail] = ledger.details(job_id, Trigger.FAIL)
    assert (ledger.job(job_id).status, ledger.job(job_id).last_error_code) == (Status.FAILED, "RuntimeError")
    assert (detail["traceback"].count("File "), "in break_" in detail["traceback"]) == (1, True)


def test_a_payload_that_no_longer_fits_ends_an_async_job_too() -> None:
    ledger = HandLedger(registry(pause=pause))
    job_id = ledger.create("pause")
    worker = HandWorker(ledger)
    worker.claim()
    [run] = worker.worker._runs.held.values()
    run.job.payload_json = "no JSON"
    worker.settle()

    assert (ledger.job(job_id).status, ledger.job(job_id).last_error_code) == (Status.FAILED, "bad_payload")


def test_async_functions_of_one_worker_run_beside_each_other() -> None:
    ledger = HandLedger(registry(pause=pause))
    ids = [ledger.create("pause") for _ in range(3)]
    worker = HandWorker(ledger, slots=3)
    worker.settle()

    assert len(worker.runner.paused) == 3
    worker.runner.resume()
    worker.settle()
    assert [ledger.job(job_id).result for job_id in ids] == ["done"] * 3


def test_an_async_job_takes_a_slot_like_a_plain_one() -> None:
    ledger = HandLedger(registry(nothing=nothing, pause=pause))
    ledger.create("pause", priority=1)
    ledger.create_many(NewJob("nothing") for _ in range(3))
    worker = HandWorker(ledger, slots=2)
    worker.claim()
    worker.runner.run_next()
    worker.pass_time(2)

    assert ledger.counts() == {Status.RUNNING: 2, Status.QUEUED: 2}


def test_a_cancellation_that_nobody_requested_is_a_failure() -> None:
    async def work(payload: Payload, ctx: JobContext) -> NoReturn:
        raise asyncio.CancelledError

    ledger = HandLedger(registry(work=work))
    job_id = ledger.create("work")
    HandWorker(ledger).settle()

    assert (ledger.job(job_id).status, ledger.job(job_id).last_error_code) == (Status.QUEUED, "CancelledError")


# What ends a hold cancels the task


class Told:
    """An async function that waits for ever, and notes how it was told to end."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def wait(self, payload: Payload, ctx: JobContext) -> None:
        try:
            await Pause()
        except asyncio.CancelledError:
            self.calls.append("cancelled")
            try:
                ctx.log({"too": "late"})
            except LeaseLost:
                self.calls.append("and refused")
            raise


def test_a_timeout_cancels_the_task_and_its_slot_comes_back_at_once() -> None:
    told = Told()
    ledger = HandLedger(registry(nothing=nothing))
    ledger.jobs.register("wait", timeout=timedelta(seconds=10), max_attempts=1)(told.wait)
    job_id = ledger.create("wait", priority=1)
    other = ledger.create("nothing")
    worker = HandWorker(ledger, slots=1)
    worker.claim()
    worker.runner.run_next()
    worker.pass_time(9.9)
    assert (told.calls, ledger.job(job_id).status) == ([], Status.RUNNING)
    worker.pass_time(0.2)

    assert (told.calls, worker.runner.paused) == (["cancelled", "and refused"], [])
    assert (ledger.job(job_id).status, ledger.job(job_id).last_error_code) == (Status.DEAD_LETTER, "timeout")
    assert ledger.job(other).status is Status.RUNNING


def test_an_async_function_that_swallows_its_cancellation_keeps_its_slot() -> None:
    async def stubborn(payload: Payload, ctx: JobContext) -> str:
        try:
            await Pause()
        except asyncio.CancelledError:
            await Pause()
        return "too late"

    ledger = HandLedger(registry(nothing=nothing))
    ledger.jobs.register("stubborn", timeout=timedelta(seconds=10), max_attempts=1)(stubborn)
    job_id = ledger.create("stubborn", priority=1)
    other = ledger.create("nothing")
    worker = HandWorker(ledger, slots=1)
    worker.claim()
    worker.runner.run_next()
    worker.pass_time(15)

    assert ledger.job(job_id).last_error_code == "timeout"
    assert ledger.job(other).status is Status.QUEUED
    worker.runner.resume()
    worker.settle()
    assert (ledger.job(job_id).result, ledger.job(other).status) == (None, Status.SUCCEEDED)


def test_a_lost_lease_cancels_the_task() -> None:
    told = Told()
    ledger = HandLedger(registry())
    ledger.jobs.register("wait", timeout=LONG_TIMEOUT)(told.wait)
    job_id = ledger.create("wait")
    worker = HandWorker(ledger)
    worker.settle()
    ledger.expire_elsewhere(job_id)
    ledger.claim_elsewhere(job_id)
    worker.pass_time(11)

    assert (told.calls, worker.runner.paused) == (["cancelled", "and refused"], [])
    assert ledger.triggers(job_id)[-1] is Trigger.CLAIM


def test_a_stop_lets_an_async_job_end_within_the_grace() -> None:
    ledger = HandLedger(registry(pause=pause))
    job_id = ledger.create("pause")
    worker = HandWorker(ledger, settings=GRACE)
    worker.settle()
    worker.stop()
    worker.pass_time(19)
    worker.runner.resume()
    worker.run_until_stopped()

    assert ledger.job(job_id).result == "done"


def test_a_stop_cancels_the_task_when_the_grace_is_over() -> None:
    told = Told()
    ledger = HandLedger(registry())
    ledger.jobs.register("wait", timeout=LONG_TIMEOUT)(told.wait)
    job_id = ledger.create("wait")
    worker = HandWorker(ledger, settings=GRACE)
    worker.settle()
    worker.stop()
    worker.pass_time(19)
    assert told.calls == []
    worker.run_until_stopped()

    assert told.calls == ["cancelled", "and refused"]
    assert ledger.triggers(job_id) == [Trigger.CREATE, Trigger.CLAIM, Trigger.RELEASE]
    assert ledger.job(job_id).attempt == 0


def test_an_async_job_that_was_given_back_never_begins() -> None:
    ledger = HandLedger(registry(pause=pause))
    job_id = ledger.create("pause")
    worker = HandWorker(ledger)
    worker.claim()
    worker.stop()
    worker.step()
    worker.runner.run_all()

    assert worker.worker.stopped
    assert [task.begun for task in worker.runner.tasks] == [False]
    assert ledger.triggers(job_id) == [Trigger.CREATE, Trigger.CLAIM, Trigger.RELEASE]


# On a real event loop


def run_one(function: Any, **limits: Any) -> tuple[Status, str | None, Any]:  # noqa: ANN401 - any job function
    """Let a worker run one job of this function until it has ended, and return how."""
    jobs = JobRegistry()
    ended = threading.Event()

    async def work(payload: Payload, ctx: JobContext) -> object:
        try:
            return await function(payload, ctx)
        finally:
            ended.set()

    jobs.register("note", **limits)(work)
    jobs.register("child")(nothing)
    with application(jobs) as app:
        with app.unit_of_work(TENANT) as uow:
            job_id = uow.jobs.create("note").job.id
        with working(app.worker()):
            assert ended.wait(PATIENCE)
        with app.views(TENANT) as views:
            job = views.find(job_id)
    assert job is not None
    return job.status, job.last_error_code, job.result


def test_fifty_async_jobs_that_sleep_run_at_once_in_one_thread() -> None:
    ran = Ran(50)
    together = asyncio.Event()
    begun = []

    async def note(payload: Payload, ctx: JobContext) -> None:
        begun.append(payload["n"])
        if len(begun) == 50:
            together.set()
        # Passed only when all fifty are there.
        await asyncio.wait_for(together.wait(), PATIENCE)
        await asyncio.sleep(0.05)
        ran.note(payload, ctx)

    with application(registry(note=note)) as app:
        with app.unit_of_work(TENANT) as uow:
            uow.jobs.create_many(NewJob("note", {"n": n}) for n in range(50))
        with working(app.worker(concurrency=50)):
            assert ran.enough.wait(PATIENCE)

        assert counts(app) == {Status.SUCCEEDED: 50}
    assert ran.threads == {"heimdex-loop"}


def test_plain_and_async_jobs_share_the_slots() -> None:
    ran = Ran(40)
    busy: list[int] = []
    most = []

    def plain(payload: Payload, ctx: JobContext) -> None:
        busy.append(1)
        most.append(len(busy))
        busy.pop()
        ran.note(payload, ctx)

    async def note(payload: Payload, ctx: JobContext) -> None:
        busy.append(1)
        await asyncio.sleep(0.001)
        most.append(len(busy))
        busy.pop()
        ran.note(payload, ctx)

    with application(registry(note=note, plain=plain)) as app:
        with app.unit_of_work(TENANT) as uow:
            uow.jobs.create_many(NewJob("note" if n % 2 else "plain", {"n": n}) for n in range(40))
        with working(app.worker(concurrency=1)):
            assert ran.enough.wait(PATIENCE)

        assert counts(app) == {Status.SUCCEEDED: 40}
    # One slot: in the order of the queue, and never two at a time.
    assert (ran.numbers, set(most)) == (list(range(40)), {1})


def test_a_timeout_ends_a_task_that_waits_for_ever() -> None:
    async def wait(payload: Payload, ctx: JobContext) -> None:
        await asyncio.Event().wait()

    outcome = run_one(wait, timeout=timedelta(milliseconds=50), max_attempts=1)
    assert outcome == (Status.DEAD_LETTER, "timeout", None)


def test_a_worker_that_is_stopped_cancels_a_task_that_waits_for_ever() -> None:
    told: list[UUID] = []

    async def wait(payload: Payload, ctx: JobContext) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.append(ctx.job.id)
            raise
        finally:
            ended.set()

    begun, ended = threading.Event(), threading.Event()
    with application(registry(note=wait), grace_seconds=0.05) as app:
        with app.unit_of_work(TENANT) as uow:
            job_id = uow.jobs.create("note").job.id
        with working(app.worker()):
            assert begun.wait(PATIENCE)

        assert ended.wait(PATIENCE)
        assert (told, counts(app)) == ([job_id], {Status.QUEUED: 1})


def test_many_children_are_created_in_a_thread() -> None:
    async def parent(payload: Payload, ctx: JobContext) -> int:
        children = [NewJob("child", idempotency_key=f"k-{n}") for n in range(1_001)]
        return (await asyncio.to_thread(ctx.create_many, children)).created

    assert run_one(parent) == (Status.SUCCEEDED, None, 1_001)


@pytest.mark.parametrize("raised", [SystemExit("enough"), KeyboardInterrupt()])
def test_the_loop_survives_what_a_task_of_a_job_function_raises(raised: BaseException) -> None:
    async def leave() -> NoReturn:
        raise raised

    async def work(payload: Payload, ctx: JobContext) -> None:
        await asyncio.gather(leave())

    outcome = run_one(work, backoff=NoRetry())
    assert outcome == (Status.FAILED, type(raised).__name__, None)


def test_a_function_that_blocks_the_loop_is_timed_out_and_holds_up_async_jobs_alone() -> None:
    """Nothing can cancel it: its job fails in the ledger at its time, its slot comes back when it lets go."""
    release, blocked, other = threading.Event(), threading.Event(), threading.Event()
    ran = Ran(3)

    async def block(payload: Payload, ctx: JobContext) -> None:
        blocked.set()
        release.wait(PATIENCE)

    async def late(payload: Payload, ctx: JobContext) -> None:
        other.set()

    jobs = registry(note=ran.note, late=late)
    jobs.register("block", timeout=timedelta(milliseconds=50), backoff=NoRetry())(block)
    with application(jobs) as app:
        with app.unit_of_work(TENANT) as uow:
            job_id = uow.jobs.create("block").job.id
        with working(app.worker(concurrency=3)):
            assert blocked.wait(PATIENCE)
            with app.unit_of_work(TENANT) as uow:
                uow.jobs.create("late")
                uow.jobs.create_many(NewJob("note", {"n": n}) for n in range(3))
            assert ran.enough.wait(PATIENCE)
            while counts(app).get(Status.FAILED) is None:
                time.sleep(0.01)
            assert not other.is_set()
            release.set()
            assert other.wait(PATIENCE)

        assert counts(app) == {Status.SUCCEEDED: 4, Status.FAILED: 1}
        with app.views(TENANT) as views:
            assert [event.reason or event.detail["last_error_code"] for event in views.history(job_id)[2:]] == [
                "timeout"
            ]
