"""Finishing: what becomes of a run after each outcome, in the row and in the history."""

from datetime import timedelta

import pytest

from heimdex.domain.backoff import Fixed, NoRetry
from heimdex.domain.errors import InvalidInput
from heimdex.domain.job import Job
from heimdex.domain.json_text import digest
from heimdex.domain.new_job import JobLimits
from heimdex.domain.outcomes import Cancel, Fail, Outcome, Progress, Release, Snooze, Succeed
from heimdex.domain.results import Ending, Refusal
from heimdex.domain.rules import to_text
from heimdex.domain.transitions import Status
from tests.contract.steps import (
    LEASE,
    OURS,
    SYSTEM,
    TYPE,
    WORKER,
    claim_by_id,
    columns,
    create,
    every_job,
    finish,
    history,
    running,
    stored,
    triggers,
)
from tests.stores import START, StoreHarness

WAIT = Fixed(base=timedelta(seconds=10), jitter=0.0)
BOOM = Fail("boom", "it broke", traceback="line 1")
A_SECOND = timedelta(seconds=1)


def changed(before: Job, after: Job) -> dict[str, object]:
    old = columns(before)
    return {name: value for name, value in columns(after).items() if value != old[name]}


def released(**also: object) -> dict[str, object]:
    """Return the columns that change whenever a hold ends, and those given."""
    return {"claimed_by": None, "lease_seq": None, "lease_until": None, "updated_at": START + A_SECOND} | also


def test_a_success_keeps_the_result(store: StoreHarness) -> None:
    held = running(store)
    store.advance(A_SECOND)
    written = finish(store, held, Succeed('{"n":1e+16}'))

    job = stored(store, held)
    assert changed(held, job) == released(
        status=Status.SUCCEEDED,
        result_json='{"n":1e+16}',
        progress=100,
        finished_at=START + A_SECOND,
        version=3,
    )
    assert [columns(one) for one in written.jobs] == [columns(job)]
    assert written.refusals == ()
    event = history(store, held)[-1]
    assert (event.prev_status, event.next_status) == (Status.RUNNING, Status.SUCCEEDED)
    assert event.detail == {
        "lease_seq": 2,
        "attempt": 1,
        "result_sha256": digest('{"n":1e+16}'),
        "result_bytes": 11,
    }


def test_a_success_may_have_no_result(store: StoreHarness) -> None:
    held = running(store)
    finish(store, held, Succeed())

    assert (stored(store, held).result_json, stored(store, held).result) == (None, None)
    assert history(store, held)[-1].detail == {"lease_seq": 2, "attempt": 1}


def test_a_retryable_error_writes_two_events_in_one_transaction(store: StoreHarness) -> None:
    held = running(store, limits=JobLimits(backoff=WAIT))
    store.advance(A_SECOND)
    finish(store, held, BOOM)

    job = stored(store, held)
    assert changed(held, job) == released(
        status=Status.QUEUED,
        scheduled_at=START + A_SECOND + WAIT.base,
        last_error_code="boom",
        last_error_message="it broke",
        version=4,
    )
    failed, retried = history(store, held)[-2:]
    assert (failed.seq, failed.trigger, failed.prev_status, failed.next_status, failed.ts) == (
        3,
        "fail",
        Status.RUNNING,
        Status.FAILED,
        START + A_SECOND,
    )
    assert failed.detail == {
        "lease_seq": 2,
        "attempt": 1,
        "last_error_code": "boom",
        "last_error_message": "it broke",
        "traceback": "line 1",
    }
    assert (retried.seq, retried.trigger, retried.prev_status, retried.next_status, retried.ts) == (
        4,
        "retry",
        Status.FAILED,
        Status.QUEUED,
        START + A_SECOND,
    )
    assert retried.detail == {
        "delay_ms": 10_000,
        "attempt": 1,
        "crashes": 0,
        "scheduled_at": to_text(job.scheduled_at),
    }


def test_the_backoff_grows_with_each_attempt(store: StoreHarness) -> None:
    job = create(store)
    waits = []
    for _ in range(3):
        finish(store, claim_by_id(store, job), BOOM)
        waits.append(stored(store, job).scheduled_at - START)

    # 5, 10 and 20 seconds, each lengthened by up to a half.
    assert [5 * 2**n <= wait.total_seconds() <= 7.5 * 2**n for n, wait in enumerate(waits)] == [True] * 3
    assert stored(store, job).attempt == 3


def test_a_permanent_error_rests_in_failed(store: StoreHarness) -> None:
    held = running(store)
    store.advance(A_SECOND)
    finish(store, held, Fail("bad_input", "never again", permanent=True))

    assert changed(held, stored(store, held)) == released(
        status=Status.FAILED,
        last_error_code="bad_input",
        last_error_message="never again",
        finished_at=START + A_SECOND,
        version=3,
    )
    assert triggers(store, held) == ["create", "claim", "fail"]


def test_a_job_without_retries_rests_in_failed(store: StoreHarness) -> None:
    held = running(store, limits=JobLimits(backoff=NoRetry()))
    finish(store, held, BOOM)

    assert stored(store, held).status is Status.FAILED


def test_used_up_attempts_end_in_the_dead_letter(store: StoreHarness) -> None:
    job = create(store, limits=JobLimits(max_attempts=2, backoff=WAIT))
    finish(store, claim_by_id(store, job), BOOM)
    finish(store, claim_by_id(store, job), BOOM)

    end = stored(store, job)
    assert (end.status, end.attempt, end.finished_at, end.last_error_code) == (Status.DEAD_LETTER, 2, START, "boom")
    assert triggers(store, job) == ["create", "claim", "fail", "retry", "claim", "fail", "bury"]


def test_a_snooze_spends_no_attempt(store: StoreHarness) -> None:
    held = running(store)
    store.advance(A_SECOND)
    finish(store, held, Snooze(timedelta(seconds=20)))

    assert changed(held, stored(store, held)) == released(
        status=Status.QUEUED, attempt=0, scheduled_at=START + timedelta(seconds=21), version=3
    )
    assert triggers(store, held) == ["create", "claim", "snooze"]


def test_a_release_spends_no_attempt_and_is_due_at_once(store: StoreHarness) -> None:
    held = running(store)
    store.advance(A_SECOND)
    finish(store, held, Release("the worker stops"))

    assert changed(held, stored(store, held)) == released(
        status=Status.QUEUED, attempt=0, scheduled_at=START + A_SECOND, version=3
    )
    event = history(store, held)[-1]
    assert (event.trigger, event.reason) == ("release", "the worker stops")


def test_a_cancel_by_the_holder_ends_the_job(store: StoreHarness) -> None:
    held = running(store)
    store.advance(A_SECOND)
    finish(store, held, Cancel("not wanted"))

    assert changed(held, stored(store, held)) == released(
        status=Status.CANCELED, finished_at=START + A_SECOND, version=3
    )
    assert history(store, held)[-1].reason == "not wanted"


def test_the_last_error_stays_when_a_later_attempt_succeeds(store: StoreHarness) -> None:
    job = create(store)
    finish(store, claim_by_id(store, job), BOOM)
    finish(store, claim_by_id(store, job), Succeed())

    end = stored(store, job)
    assert (end.status, end.attempt, end.last_error_code) == (Status.SUCCEEDED, 2, "boom")


def test_what_is_too_long_in_an_error_is_cut(store: StoreHarness) -> None:
    held = running(store)
    finish(store, held, Fail("c" * 100, "m\0" * 2_000, permanent=True, traceback="t" * 20_000))

    job = stored(store, held)
    assert (job.last_error_code, job.last_error_message) == ("c" * 64, "m\ufffd" * 1_024)
    assert len(str(history(store, held)[-1].detail["traceback"])) == 16_384


@pytest.mark.parametrize(
    ("outcome", "progress"),
    [(Fail("boom", "no", permanent=True), 40), (Snooze(LEASE), 40), (Cancel("not wanted"), 40), (Succeed(), 100)],
)
def test_a_progress_not_yet_written_goes_in_with_the_finish(
    store: StoreHarness, outcome: Outcome, progress: int
) -> None:
    held = running(store)
    finish(store, held, outcome, progress=Progress("reading", 40))

    job = stored(store, held)
    assert (job.stage, job.progress) == ("reading", progress)
    assert len(history(store, held)) == 3
    assert history(store, held)[-1].detail["stage"] == "reading"


def test_a_batch_is_answered_in_the_order_of_ids_whatever_the_order_given(store: StoreHarness) -> None:
    held = [running(store) for _ in range(4)]
    outcomes: list[Outcome] = [Succeed('"a"'), BOOM, Snooze(LEASE), Cancel("not wanted")]
    endings = [Ending(job, outcome) for job, outcome in zip(held, outcomes, strict=True)]

    with store.unit_of_work(SYSTEM) as uow:
        written = uow.jobs.finish([endings[2], endings[0], endings[3], endings[1]])

    assert [job.id for job in written.jobs] == [job.id for job in held]
    assert [columns(job) for job in written.jobs] == [columns(job) for job in every_job(store)]
    assert [job.status for job in written.jobs] == ["succeeded", "queued", "queued", "canceled"]


@pytest.mark.parametrize(
    ("first", "second"),
    [(Succeed('"a"'), Succeed('"b"')), (Succeed('"a"'), Snooze(LEASE)), (Snooze(LEASE), Succeed('"b"'))],
    ids=["success, success", "success, snooze", "snooze, success"],
)
def test_of_two_ends_of_one_run_the_first_counts(store: StoreHarness, first: Outcome, second: Outcome) -> None:
    held = running(store)
    with store.unit_of_work(SYSTEM) as uow:
        written = uow.jobs.finish([Ending(held, first), Ending(held, second)])

    assert [columns(job) for job in written.jobs] == [columns(stored(store, held))]
    assert triggers(store, held)[2:] == [type(first).__name__.lower()]
    assert written.refusals == (Refusal(held.id, 2, type(second).__name__.lower()),)


def test_an_empty_batch_is_nothing(store: StoreHarness) -> None:
    with store.unit_of_work(SYSTEM) as uow:
        written = uow.jobs.finish([])

    assert (written.jobs, written.refusals) == ((), ())


def test_only_a_claimed_job_can_be_finished_and_nothing_of_the_batch_is_written(store: StoreHarness) -> None:
    held, waiting = running(store), create(store)

    with store.unit_of_work(SYSTEM) as uow, pytest.raises(InvalidInput, match="as its claim returned it"):
        uow.jobs.finish([Ending(held, Succeed()), Ending(waiting, Succeed())])

    assert stored(store, held).status is Status.RUNNING


def test_a_run_can_end_in_the_unit_of_work_that_claimed_it(store: StoreHarness) -> None:
    with store.unit_of_work(OURS) as uow:
        job = uow.jobs.create(TYPE).job
        held = uow.jobs.claim(job.id, worker=WORKER, lease=LEASE)
        uow.jobs.log(job.id, {})
        uow.jobs.finish([Ending(held, Succeed())])

    assert triggers(store, job) == ["create", "claim", "log", "succeed"]


def test_a_queued_again_job_wakes_workers_only_when_it_is_due(store: StoreHarness) -> None:
    wakes: list[str] = []
    first, second = running(store), running(store)
    unsubscribe = store.wakeups.subscribe(lambda: wakes.append("woken"))

    finish(store, first, Snooze(LEASE))
    assert wakes == []
    finish(store, second, Release("the worker stops"))
    assert wakes == ["woken"]
    unsubscribe()
