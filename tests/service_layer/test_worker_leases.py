"""Whether a worker still holds what it runs: timeouts, renewals and lost leases."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import pytest

from heimdex.domain.errors import LeaseLost
from heimdex.domain.new_job import NewJob
from heimdex.domain.transitions import Status, Trigger
from heimdex.service_layer.job_context import JobContext
from heimdex.service_layer.pace import WorkerSettings
from tests.service_layer.worker_harness import SYSTEM, HandLedger, HandWorker, Payload, nothing, put_forward, registry
from tests.stores import HandClock

LONG_TIMEOUT = timedelta(hours=2)
# The loop counts in milliseconds.
A_MOMENT = timedelta(milliseconds=5)


def calls_of(ctx: JobContext) -> list[str]:
    """Return the names of the calls of a context that do not raise LeaseLost."""
    calls: dict[str, Callable[[], object]] = {
        "check": ctx.check,
        "progress": lambda: ctx.progress(1),
        "log": lambda: ctx.log({}),
        "create": lambda: ctx.create("nothing"),
        "create_many": lambda: ctx.create_many([NewJob("nothing", idempotency_key="k")]),
        "assets": lambda: ctx.assets.add("file:///a", media_type="text/plain", size=1, sha256="0" * 64),
    }
    passed = []
    for name, call in calls.items():
        try:
            call()
        except LeaseLost:
            continue
        passed.append(name)
    return passed


def step_while_held(worker: HandWorker, ctx: JobContext) -> None:
    while True:
        ctx.check()
        worker.step()


# Timeouts


def test_a_timeout_ends_the_hold_and_the_job_fails() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger)
    seen: list[object] = []

    def slow(payload: Payload, ctx: JobContext) -> None:
        ctx.log({"n": 1})
        worker.pass_time(9)
        seen.append(ledger.job(ctx.job.id).status)
        worker.pass_time(2)
        job = ledger.job(ctx.job.id)
        seen.append((job.status, job.last_error_code, job.attempt))
        seen.append(calls_of(ctx))

    ledger.jobs.register("slow", timeout=timedelta(seconds=10))(slow)
    job_id = ledger.create("slow")
    worker.settle()

    assert seen == [Status.RUNNING, (Status.QUEUED, "timeout", 1), []]
    assert ledger.triggers(job_id)[2:4] == [Trigger.LOG, Trigger.FAIL]
    assert "it ran longer than 0:00:10" in str(ledger.job(job_id).last_error_message)


def test_a_timeout_is_kept_to_the_moment() -> None:
    ledger = HandLedger(registry())
    worker = HandWorker(ledger)

    def slow(payload: Payload, ctx: JobContext) -> None:
        worker.pass_time(60)

    ledger.jobs.register("slow", timeout=timedelta(seconds=2.7), max_attempts=1)(slow)
    job_id = ledger.create("slow")
    worker.claim()
    deadline = ledger.clock.now() + timedelta(seconds=2.7)
    worker.runner.run_next()
    finished_at = ledger.job(job_id).finished_at

    assert finished_at is not None
    assert timedelta(0) <= finished_at - deadline <= A_MOMENT


def test_the_slot_of_a_timed_out_function_comes_back_when_it_returns() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger, slots=2)
    seen = []

    def slow(payload: Payload, ctx: JobContext) -> None:
        worker.pass_time(11)
        ledger.create_many(NewJob("nothing") for _ in range(5))
        worker.claim()
        seen.append(ledger.counts()[Status.RUNNING])

    ledger.jobs.register("slow", timeout=timedelta(seconds=10), max_attempts=1)(slow)
    ledger.create("slow")
    worker.claim()
    worker.runner.run_next()
    worker.claim()
    seen.append(ledger.counts()[Status.RUNNING])

    assert seen == [1, 2]


def test_what_a_timed_out_function_returns_is_dropped() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger)

    def slow(payload: Payload, ctx: JobContext) -> dict[str, str]:
        ctx.assets.add("file:///a", media_type="text/plain", size=1, sha256="0" * 64)
        worker.pass_time(11)
        return {"too": "late"}

    ledger.jobs.register("slow", timeout=timedelta(seconds=10), max_attempts=1)(slow)
    job_id = ledger.create("slow")
    worker.settle()

    assert ledger.job(job_id).status is Status.DEAD_LETTER
    assert ledger.job(job_id).result is None
    assert ledger.assets(job_id) == ()
    assert ledger.refusals(job_id) == 0


def test_time_that_a_job_waits_for_a_slot_does_not_count_as_its_timeout() -> None:
    ledger = HandLedger(registry())
    worker = HandWorker(ledger, slots=2)

    def short(payload: Payload, ctx: JobContext) -> None:
        worker.pass_time(8)

    ledger.jobs.register("short", timeout=timedelta(seconds=10))(short)
    ids = [ledger.create("short") for _ in range(2)]
    worker.settle()

    assert [ledger.triggers(job_id) for job_id in ids] == [[Trigger.CREATE, Trigger.CLAIM, Trigger.SUCCEED]] * 2


def test_a_worker_whose_slots_are_all_stuck_gives_back_the_rest_and_ends(caplog: pytest.LogCaptureFixture) -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger, slots=2)
    depth: list[object] = []
    seen: list[object] = []

    def hang(payload: Payload, ctx: JobContext) -> None:
        depth.append(ctx.job.id)
        if len(depth) == 1:
            worker.runner.run_next()
            return
        worker.pass_time(11)
        seen.append((worker.worker.stopped, ledger.counts()[Status.QUEUED]))
        began = ledger.clock.now()
        worker.pass_time(60)
        seen.append(ledger.clock.now() - began < timedelta(seconds=20))

    ledger.jobs.register("hang", timeout=timedelta(seconds=10), max_attempts=1)(hang)
    # Short ones first, so that the worker claims ahead.
    ledger.create_many(NewJob("nothing") for _ in range(40))
    worker.settle()
    hanging = [ledger.create("hang", priority=1) for _ in range(2)]
    waiting = [ledger.create("nothing") for _ in range(3)]
    worker.claim()
    worker.runner.run_next()

    # The rest is given back at once; the functions get the grace to return.
    assert seen == [(False, 3), True]
    assert worker.worker.stopped
    assert worker.worker.exit_code == 1
    assert [ledger.job(job_id).last_error_code for job_id in hanging] == ["timeout", "timeout"]
    assert [ledger.job(job_id).status for job_id in waiting] == [Status.QUEUED] * 3
    assert [ledger.job(job_id).attempt for job_id in waiting] == [0] * 3
    assert [record.levelname for record in caplog.records].count("CRITICAL") == 1


def test_a_worker_of_one_slot_survives_a_function_that_returns_soon_after_its_timeout() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger, slots=1)

    def slow(payload: Payload, ctx: JobContext) -> None:
        while True:
            worker.pass_time(3)
            ctx.check()

    ledger.jobs.register("slow", timeout=timedelta(seconds=10), max_attempts=1)(slow)
    job_id = ledger.create("slow")
    other = ledger.create("nothing")
    worker.settle()
    worker.pass_time(60)

    assert ledger.job(job_id).last_error_code == "timeout"
    assert not worker.worker.stopped
    worker.settle()
    assert ledger.job(other).status is Status.SUCCEEDED


def test_a_worker_with_one_stuck_slot_goes_on_with_the_others() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger, slots=2)
    seen = []

    def hang(payload: Payload, ctx: JobContext) -> None:
        worker.pass_time(20)
        ledger.create_many(NewJob("nothing") for _ in range(10))
        worker.settle()
        seen.append(ledger.counts()[Status.SUCCEEDED])

    ledger.jobs.register("hang", timeout=timedelta(seconds=10), max_attempts=1)(hang)
    ledger.create("hang")
    worker.settle()

    assert seen == [10]
    assert not worker.worker.stopped


# Renewals and lost leases


def test_renewals_keep_a_job_that_runs_longer_than_its_lease() -> None:
    ledger = HandLedger(registry())
    worker, other = HandWorker(ledger), HandWorker(ledger)

    def long(payload: Payload, ctx: JobContext) -> None:
        for _ in range(10):
            worker.pass_time(15)
            other.step()

    ledger.jobs.register("long", timeout=LONG_TIMEOUT)(long)
    job_id = ledger.create("long")
    worker.settle()

    assert ledger.triggers(job_id) == [Trigger.CREATE, Trigger.CLAIM, Trigger.SUCCEED]


def test_what_was_claimed_ahead_is_renewed_too() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger, slots=2)
    job_id = ledger.create("nothing")
    worker.claim()
    worker.pass_time(11)
    lease_until = ledger.job(job_id).lease_until

    assert lease_until is not None
    assert lease_until - ledger.clock.now() > timedelta(seconds=28)


def test_a_job_that_another_worker_has_taken_is_let_go(caplog: pytest.LogCaptureFixture) -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger)
    seen = []

    def long(payload: Payload, ctx: JobContext) -> str:
        ledger.expire_elsewhere(ctx.job.id)
        ledger.claim_elsewhere(ctx.job.id)
        worker.pass_time(11)
        seen.append(calls_of(ctx))
        return "mine"

    ledger.jobs.register("long", timeout=LONG_TIMEOUT)(long)
    job_id = ledger.create("long")
    worker.settle()

    assert seen == [[]]
    assert ledger.job(job_id).status is Status.RUNNING
    assert ledger.triggers(job_id)[-1] is Trigger.CLAIM
    assert [record.getMessage() for record in caplog.records] == [f"lost the leases of 1 jobs: '{job_id}'"]


def test_the_end_of_a_run_that_was_taken_away_unseen_is_refused_and_recorded(caplog: pytest.LogCaptureFixture) -> None:
    ledger = HandLedger(registry())
    worker = HandWorker(ledger)

    def long(payload: Payload, ctx: JobContext) -> str:
        ctx.assets.add("file:///a", media_type="text/plain", size=1, sha256="0" * 64)
        ledger.expire_elsewhere(ctx.job.id)
        ledger.claim_elsewhere(ctx.job.id)
        return "mine"

    ledger.jobs.register("long")(long)
    job_id = ledger.create("long")
    worker.settle()

    assert (ledger.job(job_id).status, ledger.job(job_id).result) == (Status.RUNNING, None)
    assert ledger.refusals(job_id) == 1
    assert ledger.assets(job_id) == ()
    assert "was no longer held" in caplog.text


def test_progress_of_a_job_that_was_taken_away_changes_nothing() -> None:
    ledger = HandLedger(registry())
    worker = HandWorker(ledger)

    def long(payload: Payload, ctx: JobContext) -> None:
        ledger.expire_elsewhere(ctx.job.id)
        ctx.progress(50)
        ctx.log({"n": 1})
        worker.pass_time(2)

    ledger.jobs.register("long")(long)
    job_id = ledger.create("long")
    worker.claim()
    worker.runner.run_next()

    assert ledger.job(job_id).progress == 0
    assert Trigger.LOG not in ledger.triggers(job_id)
    assert ledger.refusals(job_id) == 2


def test_a_job_that_is_lost_and_claimed_again_by_the_same_worker_ends_once() -> None:
    ledger = HandLedger(registry())
    worker = HandWorker(ledger, slots=2)
    runs = []

    def long(payload: Payload, ctx: JobContext) -> int:
        runs.append(ctx.job.lease_seq)
        if len(runs) == 1:
            ledger.expire_elsewhere(ctx.job.id)
            # The worker claims it again before it knows that it has lost it.
            worker.claim()
        return len(runs)

    ledger.jobs.register("long", timeout=LONG_TIMEOUT)(long)
    job_id = ledger.create("long")
    worker.settle()

    assert runs == [2, 5]
    assert (ledger.job(job_id).status, ledger.job(job_id).result) == (Status.SUCCEEDED, 2)
    assert ledger.refusals(job_id) == 1


def test_a_lease_that_ended_by_the_own_clock_is_given_up_without_asking() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    clock = HandClock()
    worker = HandWorker(ledger, clock=clock)
    seen = []

    def frozen(payload: Payload, ctx: JobContext) -> None:
        # The whole process stood still, and the ledger's clock with it.
        put_forward(clock, timedelta(seconds=31))
        worker.step()
        seen.append(calls_of(ctx))

    ledger.jobs.register("frozen", timeout=LONG_TIMEOUT)(frozen)
    job_id = ledger.create("frozen")
    worker.claim()
    worker.runner.run_next()
    worker.claim()

    assert seen == [[]]
    assert ledger.triggers(job_id) == [Trigger.CREATE, Trigger.CLAIM]
    assert ledger.refusals(job_id) == 0


def test_the_end_of_a_lease_is_kept_to_the_moment() -> None:
    ledger = HandLedger(registry())
    worker = HandWorker(ledger, settings=WorkerSettings(lease=timedelta(seconds=2.7), renew=timedelta(seconds=5)))
    held_until = []

    def long(payload: Payload, ctx: JobContext) -> None:
        with suppress(LeaseLost):
            step_while_held(worker, ctx)
        held_until.append(ledger.clock.now())

    ledger.jobs.register("long")(long)
    job_id = ledger.create("long")
    worker.claim()
    lease_until = ledger.job(job_id).lease_until
    worker.runner.run_next()

    assert lease_until is not None
    assert timedelta(0) <= held_until[0] - lease_until <= A_MOMENT


def test_a_job_whose_lease_ended_before_it_was_started_is_given_back_and_is_no_suspect() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    clock = HandClock()
    worker = HandWorker(ledger, clock=clock)
    job_id = ledger.create("nothing")
    worker.claim()
    put_forward(clock, timedelta(seconds=31))
    put_forward(ledger.clock, timedelta(seconds=31))
    worker.claim()

    assert ledger.triggers(job_id) == [Trigger.CREATE, Trigger.CLAIM, Trigger.RELEASE, Trigger.CLAIM]
    assert (ledger.job(job_id).crashes, ledger.job(job_id).attempt) == (0, 1)
    worker.settle()
    assert ledger.job(job_id).status is Status.SUCCEEDED


def test_a_job_whose_lease_ended_before_its_thread_came_to_it_is_given_back_and_counts_for_no_short_run() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger, slots=2)
    ids = [ledger.create("nothing") for _ in range(2)]
    worker.claim()
    put_forward(ledger.clock, timedelta(seconds=31))
    # The threads go on before the loop does.
    worker.runner.run_all()
    ledger.create_many([NewJob("nothing")] * 10)
    worker.claim()

    for job_id in ids:
        assert ledger.triggers(job_id)[:3] == [Trigger.CREATE, Trigger.CLAIM, Trigger.RELEASE]
        with ledger.store.views(SYSTEM) as views:
            assert views.history(job_id)[2].reason == "the worker stood still before it was started"
    assert ledger.counts()[Status.RUNNING] == 2


def test_a_lease_of_the_settings_is_what_a_claim_asks_for() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    job_id = ledger.create("nothing")
    HandWorker(ledger, settings=WorkerSettings(lease=timedelta(seconds=77))).claim()

    assert ledger.job(job_id).lease_until == ledger.job(job_id).updated_at + timedelta(seconds=77)
