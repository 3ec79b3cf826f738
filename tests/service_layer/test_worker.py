"""The worker's way with jobs: claim, start, run, write. What goes wrong has its own files."""

from collections.abc import Mapping
from datetime import timedelta

import pytest

from heimdex.domain import new_job
from heimdex.domain.backoff import Fixed
from heimdex.domain.commands import ClaimJobs, ExpireLeases, FinishJobs, RenewLeases
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.new_job import NewJob
from heimdex.domain.outcomes import Cancel, Fail, Snooze
from heimdex.domain.transitions import Status, Trigger
from heimdex.service_layer.job_context import JobContext
from heimdex.service_layer.job_registry import JobRegistry
from heimdex.service_layer.pace import WorkerSettings
from tests.service_layer.worker_harness import SYSTEM, HandLedger, HandWorker, Payload, nothing, registry


def test_jobs_run_in_claim_order_and_succeed() -> None:
    ran = []

    def note(payload: Payload, ctx: JobContext) -> dict[str, int]:
        ran.append(payload["n"])
        return {"n": payload["n"]}

    ledger = HandLedger(registry(note=note))
    ids = [ledger.create("note", {"n": n}, priority=5 if n == 3 else 0) for n in range(5)]
    HandWorker(ledger).settle()

    assert ran == [3, 0, 1, 2, 4]
    assert [ledger.job(job_id).result for job_id in ids] == [{"n": n} for n in range(5)]
    assert ledger.triggers(ids[0]) == [Trigger.CREATE, Trigger.CLAIM, Trigger.SUCCEED]


@pytest.mark.parametrize(
    ("outcome", "status", "code"),
    [
        (Snooze(timedelta(hours=1)), Status.QUEUED, None),
        (Cancel("not wanted"), Status.CANCELED, None),
        (Fail("no_luck", "try again"), Status.QUEUED, "no_luck"),
        (Fail("no_sense", "never again", permanent=True), Status.FAILED, "no_sense"),
    ],
)
def test_a_function_may_return_how_its_run_ends(outcome: object, status: Status, code: str | None) -> None:
    ledger = HandLedger(registry(end=lambda payload, ctx: outcome))
    job_id = ledger.create("end")
    HandWorker(ledger).settle()

    assert (ledger.job(job_id).status, ledger.job(job_id).last_error_code) == (status, code)


def test_an_exception_is_retried_after_the_backoff_until_the_attempts_are_used_up() -> None:
    jobs = JobRegistry()

    @jobs.register("break", max_attempts=3, backoff=Fixed(base=timedelta(seconds=60), jitter=0))
    def break_(payload: Payload, ctx: JobContext) -> None:
        raise RuntimeError("it broke")

    ledger = HandLedger(jobs)
    worker = HandWorker(ledger)
    job_id = ledger.create("break")
    attempts = []
    for _ in range(3):
        worker.settle()
        attempts.append(ledger.job(job_id).attempt)
        worker.pass_time(61)

    assert attempts == [1, 2, 3]
    assert ledger.job(job_id).status is Status.DEAD_LETTER
    assert ledger.job(job_id).last_error_message == "it broke"


def test_a_type_that_no_worker_knows_stays_queued_and_shows_in_the_statistics() -> None:
    ledger = HandLedger(registry(nothing=nothing), specify=new_job.specify)
    known, unknown = ledger.create("nothing"), ledger.create("elsewhere")
    HandWorker(ledger).settle()

    assert [ledger.job(job_id).status for job_id in (known, unknown)] == [Status.SUCCEEDED, Status.QUEUED]
    with ledger.store.views(SYSTEM) as views:
        assert views.statistics().unserved_types == ("elsewhere",)


def test_a_worker_claims_only_from_its_queues() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    slow, other = ledger.create("nothing", queue="slow"), ledger.create("nothing")
    HandWorker(ledger, settings=WorkerSettings(queues=frozenset({"slow"}))).settle()

    assert [ledger.job(job_id).status for job_id in (slow, other)] == [Status.SUCCEEDED, Status.QUEUED]
    with ledger.store.views(SYSTEM) as views:
        assert [worker.queues for worker in views.workers()] == [("slow",)]


def test_a_payload_that_no_longer_fits_ends_its_own_job_alone() -> None:
    ledger = HandLedger(registry(nothing=nothing), specify=new_job.specify)
    bad = ledger.create("nothing", ["not an object"])
    good = ledger.create("nothing")
    HandWorker(ledger).settle()

    assert (ledger.job(bad).status, ledger.job(bad).last_error_code) == (Status.FAILED, "bad_payload")
    assert ledger.job(good).status is Status.SUCCEEDED


def test_no_transaction_is_open_while_a_function_runs() -> None:
    ledger = HandLedger(registry(nothing=nothing))

    def create(payload: Payload, ctx: JobContext) -> None:
        # Opened inside another one of this thread, it would be refused.
        ledger.create("nothing")

    ledger.jobs.register("create")(create)
    ledger.create("create")
    HandWorker(ledger).settle()

    assert ledger.counts() == {Status.SUCCEEDED: 2}


# Batches and pace


def test_finished_jobs_are_written_together() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger, slots=10)
    for _ in range(10):
        ledger.create("nothing")
    worker.settle()

    assert ledger.counts() == {Status.SUCCEEDED: 10}
    assert ledger.faults.begun[FinishJobs] == 1


def test_more_ends_than_a_batch_are_written_in_several_transactions() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger, slots=10, settings=WorkerSettings(batch=4))
    for _ in range(10):
        ledger.create("nothing")
    worker.settle()

    assert ledger.counts() == {Status.SUCCEEDED: 10}
    assert ledger.faults.begun[FinishJobs] == 3


def test_a_worker_claims_no_more_than_its_slots_before_it_knows_how_long_jobs_take() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    for _ in range(10):
        ledger.create("nothing")
    HandWorker(ledger, slots=3).claim()

    assert ledger.counts() == {Status.RUNNING: 3, Status.QUEUED: 7}


def test_a_worker_claims_short_jobs_ahead_but_never_holds_more_than_a_batch() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger, slots=2, settings=WorkerSettings(batch=20))
    ledger.create_many(NewJob("nothing") for _ in range(70))
    held = []
    while ledger.counts().get(Status.QUEUED):
        worker.runner.run_all()
        worker.step()
        held.append(ledger.counts().get(Status.RUNNING, 0))

    assert max(held) == 20


def test_a_slot_that_becomes_free_gets_a_job_while_the_others_run_on() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger, slots=2)
    seen: list[Mapping[Status, int]] = []

    def long(payload: Payload, ctx: JobContext) -> None:
        for _ in range(2):
            worker.pass_time(2)
            worker.runner.run_next()
        worker.pass_time(2)
        seen.append(ledger.counts())

    ledger.jobs.register("long")(long)
    ledger.create("long", priority=1)
    ids = [ledger.create("nothing") for _ in range(5)]
    worker.settle()

    assert seen == [{Status.SUCCEEDED: 2, Status.RUNNING: 2, Status.QUEUED: 2}]
    assert {ledger.job(job_id).status for job_id in ids} == {Status.SUCCEEDED}


def test_what_was_claimed_ahead_is_given_back_when_the_jobs_before_it_take_long() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger, slots=1)
    seen = []

    def long(payload: Payload, ctx: JobContext) -> None:
        worker.pass_time(30)
        seen.append(ledger.counts()[Status.QUEUED])

    ledger.jobs.register("long")(long)
    for _ in range(40):
        ledger.create("nothing")
    worker.settle()
    ledger.create("long", priority=1)
    waiting = [ledger.create("nothing") for _ in range(10)]
    worker.settle()

    assert seen == [10]
    assert ledger.triggers(waiting[0])[1:4] == [Trigger.CLAIM, Trigger.RELEASE, Trigger.CLAIM]
    assert ledger.job(waiting[0]).attempt == 1
    assert ledger.counts() == {Status.SUCCEEDED: 51}


# When the worker looks for work


def test_a_wake_up_makes_the_worker_claim_at_once() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger, settings=WorkerSettings(poll=timedelta(hours=1)))
    worker.settle()
    job_id = ledger.create("nothing")
    before = ledger.clock.now()
    worker.claim()

    assert ledger.job(job_id).status is Status.RUNNING
    assert ledger.job(job_id).started_at == before


def test_without_a_wake_up_work_is_found_at_the_next_poll() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger, settings=WorkerSettings(poll=timedelta(seconds=7)))
    worker.settle()
    # Nobody is woken for a job that is not due yet.
    job_id = ledger.create("nothing", scheduled_at=ledger.clock.now() + timedelta(seconds=1))
    worker.pass_time(8)

    assert ledger.job(job_id).status is Status.RUNNING


def test_a_finish_that_queues_the_job_again_makes_the_worker_look_at_once() -> None:
    runs = []

    def twice(payload: Payload, ctx: JobContext) -> Snooze | None:
        runs.append(ctx.job.id)
        return Snooze(timedelta(0)) if len(runs) == 1 else None

    ledger = HandLedger(registry(twice=twice))
    job_id = ledger.create("twice")
    HandWorker(ledger, settings=WorkerSettings(poll=timedelta(hours=1))).settle()

    assert ledger.job(job_id).status is Status.SUCCEEDED
    assert ledger.job(job_id).attempt == 1


def test_an_idle_hour_takes_no_more_steps_than_there_are_things_due() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    every = WorkerSettings(
        poll=timedelta(seconds=10), sweep=timedelta(seconds=60), renew=timedelta(seconds=15), lease=timedelta(minutes=1)
    )
    worker = HandWorker(ledger, settings=every)
    worker.settle()
    ledger.faults.begun.clear()

    assert worker.pass_time(3_600) <= 360 + 60 + 240
    assert ledger.faults.begun[ClaimJobs] == 360
    assert ledger.faults.begun[ExpireLeases] == 60
    assert ledger.faults.begun[RenewLeases] == ledger.faults.begun[FinishJobs] == 0


def test_a_busy_minute_takes_no_more_steps_than_there_are_things_due() -> None:
    ledger = HandLedger(registry())
    worker = HandWorker(ledger, slots=1)
    steps = []

    def long(payload: Payload, ctx: JobContext) -> None:
        steps.append(worker.pass_time(60))

    ledger.jobs.register("long")(long)
    ledger.create("long")
    worker.settle()

    # The reports each second, the sweep each fifth, the renewal each tenth.
    assert 60 <= steps[0] <= 60 + 12 + 6
    assert ledger.faults.begun[RenewLeases] == 6
    assert ledger.counts() == {Status.SUCCEEDED: 1}


# Progress and notes


def test_progress_is_written_once_a_second_and_the_last_one_with_the_finish() -> None:
    ledger = HandLedger(registry())
    worker = HandWorker(ledger)

    def walk(payload: Payload, ctx: JobContext) -> None:
        for step in range(50):
            ctx.progress(step, stage="walking")
            worker.pass_time(0.1)
        ctx.progress(99, stage="arriving")

    ledger.jobs.register("walk")(walk)
    job_id = ledger.create("walk")
    worker.settle()

    written = [detail["progress"] for detail in ledger.details(job_id, Trigger.PROGRESS)]
    assert 4 <= len(written) <= 6
    assert written == sorted(written)
    [end] = ledger.details(job_id, Trigger.SUCCEED)
    assert (end["stage"], end["progress"]) == ("arriving", 99)
    assert ledger.job(job_id).progress == 100


def test_a_progress_that_was_written_is_not_written_again() -> None:
    ledger = HandLedger(registry())
    worker = HandWorker(ledger)

    def walk(payload: Payload, ctx: JobContext) -> None:
        ctx.progress(10)
        worker.pass_time(20)

    ledger.jobs.register("walk")(walk)
    job_id = ledger.create("walk")
    worker.settle()

    assert [detail["progress"] for detail in ledger.details(job_id, Trigger.PROGRESS)] == [10]
    assert "progress" not in ledger.details(job_id, Trigger.SUCCEED)[0]


def test_notes_are_written_within_a_second_or_before_the_finish() -> None:
    ledger = HandLedger(registry())
    worker = HandWorker(ledger)
    seen = []

    def talk(payload: Payload, ctx: JobContext) -> None:
        ctx.log({"n": 1})
        worker.pass_time(1.1)
        seen.extend(ledger.details(ctx.job.id, Trigger.LOG))
        ctx.log({"n": 2})

    ledger.jobs.register("talk")(talk)
    job_id = ledger.create("talk")
    worker.settle()

    assert seen == [{"n": 1}]
    assert ledger.triggers(job_id)[-3:] == [Trigger.LOG, Trigger.LOG, Trigger.SUCCEED]


# Effects


def test_assets_and_children_are_written_with_the_success() -> None:
    def make(payload: Payload, ctx: JobContext) -> None:
        ctx.assets.add("file:///a", media_type="text/plain", size=1, sha256="0" * 64)
        ctx.create("nothing", {"n": 1})

    ledger = HandLedger(registry(make=make, nothing=nothing))
    worker = HandWorker(ledger)
    job_id = ledger.create("make", requested_by="somebody@example.com")
    worker.claim()
    assert ledger.assets(job_id) == ()
    worker.settle()

    assert [asset.uri for asset in ledger.assets(job_id)] == ["file:///a"]
    with ledger.store.views(SYSTEM) as views:
        [child] = views.page(JobFilter(parent_id=job_id)).jobs
    assert (child.status, child.requested_by) == (Status.SUCCEEDED, "somebody@example.com")


def test_assets_and_children_of_a_failure_are_not_written() -> None:
    def make(payload: Payload, ctx: JobContext) -> None:
        ctx.assets.add("file:///a", media_type="text/plain", size=1, sha256="0" * 64)
        ctx.create("nothing")
        raise RuntimeError("after all")

    ledger = HandLedger(registry(make=make, nothing=nothing))
    job_id = ledger.create("make")
    HandWorker(ledger).settle()

    assert ledger.assets(job_id) == ()
    assert ledger.counts() == {Status.QUEUED: 1}


def test_children_with_keys_are_there_at_once_and_only_once() -> None:
    seen = []

    def fan_out(payload: Payload, ctx: JobContext) -> None:
        for _ in range(2):
            counts = ctx.create_many(NewJob("nothing", idempotency_key=f"k-{n}") for n in range(3))
            seen.append((counts.created, counts.replayed, ledger.counts()[Status.QUEUED]))

    ledger = HandLedger(registry(fan_out=fan_out, nothing=nothing))
    ledger.create("fan_out")
    worker = HandWorker(ledger)
    worker.claim()
    worker.runner.run_next()

    assert seen == [(3, 0, 3), (0, 3, 3)]


# Workers on record


def test_a_worker_is_on_record_while_it_works() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger)
    worker.settle()
    with ledger.store.views(SYSTEM) as views:
        [record] = views.workers()
    assert (record.id, record.types) == (worker.worker.id, ("nothing",))
    worker.worker.close()

    with ledger.store.views(SYSTEM) as views:
        assert views.workers() == ()
    assert worker.runner.closed


def test_a_closed_worker_is_woken_no_more() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    worker = HandWorker(ledger)
    worker.settle()
    worker.worker.close()
    ledger.create("nothing")

    assert worker.inbox.get(timedelta(0)) is None


# All of it


def test_a_thousand_jobs_through_four_slots_all_end_once() -> None:
    runs: list[int] = []

    def work(payload: Payload, ctx: JobContext) -> None:
        runs.append(payload["n"])
        if payload["n"] % 50 == 0 and ctx.job.attempt == 1:
            raise RuntimeError("the first time it breaks")

    jobs = JobRegistry()
    jobs.register("work", backoff=Fixed(base=timedelta(seconds=1)))(work)
    ledger = HandLedger(jobs)
    ids = ledger.create_many(NewJob("work", {"n": n}) for n in range(1_000))
    worker = HandWorker(ledger, slots=4)
    while ledger.counts() != {Status.SUCCEEDED: 1_000}:
        worker.settle()

    assert len(runs) == 1_000 + 20
    with ledger.store.views(SYSTEM) as views:
        histories = views.histories(ids).values()
    assert all([event.trigger for event in events].count(Trigger.SUCCEED) == 1 for events in histories)


def test_two_workers_share_the_work_and_no_job_runs_twice() -> None:
    runs: list[int] = []
    ledger = HandLedger(registry(work=lambda payload, ctx: runs.append(payload["n"])))
    ledger.create_many(NewJob("work", {"n": n}) for n in range(30))
    workers = [HandWorker(ledger) for _ in range(2)]
    while ledger.counts() != {Status.SUCCEEDED: 30}:
        for worker in workers:
            worker.step()
            worker.runner.run_all()

    assert sorted(runs) == list(range(30))
