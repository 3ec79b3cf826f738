"""Cancel and retry by hand: one job, and many by filter."""

from datetime import timedelta
from uuid import UUID

import pytest

from heimdex.domain.errors import IllegalTransition, InvalidInput, JobNotFound
from heimdex.domain.fold import explains
from heimdex.domain.job import Job
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.outcomes import Fail, Snooze, Succeed
from heimdex.domain.transitions import Status, Trigger
from tests.contract.steps import NOBODY, OURS, SYSTEM, THEIRS, claim, crash, create, finish, history, running, stored
from tests.stores import StoreHarness

BROKEN = Fail("boom", "it broke", permanent=True)


def cancel(store: StoreHarness, job: Job, reason: str = "not wanted") -> Job:
    with store.unit_of_work(OURS) as uow:
        return uow.jobs.cancel(job.id, reason=reason)


def retry(store: StoreHarness, job: Job, reason: str = "mended") -> Job:
    with store.unit_of_work(OURS) as uow:
        return uow.jobs.retry_by_hand(job.id, reason=reason)


def failed(store: StoreHarness) -> Job:
    job = running(store)
    finish(store, job, BROKEN)
    return job


def test_a_queued_job_is_canceled_at_once_and_says_why_and_by_whom(store: StoreHarness) -> None:
    job = create(store)

    canceled = cancel(store, job)

    event = history(store, job)[-1]
    assert canceled.status is stored(store, job).status is Status.CANCELED
    assert canceled.finished_at == store.clock.now()
    assert (event.trigger, event.reason, event.actor, event.source) == (
        Trigger.CANCEL,
        "not wanted",
        OURS.actor,
        OURS.source,
    )
    assert claim(store) == []


def test_a_running_job_is_asked_to_cancel_and_goes_on(store: StoreHarness) -> None:
    job = running(store)

    asked = cancel(store, job)

    assert asked.status is Status.RUNNING
    assert asked.cancel_requested_at == store.clock.now()
    assert asked.lease_seq == job.lease_seq


def test_asked_twice_a_running_job_has_one_event_of_it(store: StoreHarness) -> None:
    job = running(store)

    first, second = cancel(store, job), cancel(store, job, "again")

    assert first.version == second.version
    assert [event.trigger for event in history(store, job)].count(Trigger.REQUEST_CANCEL) == 1


@pytest.mark.parametrize("outcome", [Fail("boom", "it broke"), Snooze(timedelta(hours=1))])
def test_a_requested_cancel_ends_a_run_that_would_come_back(store: StoreHarness, outcome: Fail | Snooze) -> None:
    job = running(store)
    cancel(store, job)

    finish(store, job, outcome)

    assert stored(store, job).status is Status.CANCELED


def test_a_success_beats_a_requested_cancel(store: StoreHarness) -> None:
    job = running(store)
    cancel(store, job)

    finish(store, job, Succeed())

    assert stored(store, job).status is Status.SUCCEEDED


def test_a_failed_job_is_queued_again_and_starts_anew(store: StoreHarness) -> None:
    job = failed(store)
    store.advance(timedelta(hours=1))

    again = retry(store, job)

    assert (again.status, again.attempt, again.crashes) == (Status.QUEUED, 0, 0)
    assert again.scheduled_at == store.clock.now()
    assert again.finished_at is None
    assert (again.last_error_code, again.last_error_message) == ("boom", "it broke")
    assert [claimed.id for claimed in claim(store)] == [job.id]


def test_a_dead_job_is_queued_again_without_its_crashes(store: StoreHarness) -> None:
    job = create(store)
    assert crash(store, job, times=3).status is Status.DEAD_LETTER

    assert not retry(store, job).suspect


def test_a_retry_by_hand_forgets_that_a_cancel_was_asked_for(store: StoreHarness) -> None:
    job = running(store)
    cancel(store, job)
    finish(store, job, BROKEN)

    assert retry(store, job).cancel_requested_at is None


def test_what_has_ended_cannot_be_canceled(store: StoreHarness) -> None:
    job = failed(store)

    with pytest.raises(IllegalTransition, match="cancel is not possible"):
        cancel(store, job)


def test_what_is_queued_or_has_succeeded_cannot_be_retried(store: StoreHarness) -> None:
    queued, succeeded = create(store), running(store)
    finish(store, succeeded, Succeed())

    for job in (queued, succeeded):
        with pytest.raises(IllegalTransition, match="retry_by_hand is not possible"):
            retry(store, job)


@pytest.mark.parametrize("reason", ["", "x" * 1001, "two\nlines"])
def test_a_reason_that_is_no_line_of_text_is_refused(store: StoreHarness, reason: str) -> None:
    job = create(store)

    with pytest.raises(InvalidInput, match="reason"):
        cancel(store, job, reason)

    assert stored(store, job).version == 1


def test_another_organisations_job_is_not_found(store: StoreHarness) -> None:
    job = create(store)
    with store.unit_of_work(THEIRS) as uow:
        for missing in (job.id, NOBODY):
            with pytest.raises(JobNotFound):
                uow.jobs.cancel(missing, reason="not mine")
            with pytest.raises(JobNotFound):
                uow.jobs.retry_by_hand(missing, reason="not mine")


def test_only_the_matching_jobs_that_can_be_are_canceled(store: StoreHarness) -> None:
    wanted = [create(store, queue="slow"), running(store, queue="slow")]
    ended, other = failed(store), create(store)
    theirs = create(store, queue="slow", scope=THEIRS)

    with store.unit_of_work(OURS) as uow:
        canceled = uow.jobs.cancel_matching(JobFilter(queue="slow"), reason="too slow")

    assert [job.id for job in canceled] == sorted(job.id for job in wanted)
    assert [stored(store, job).status for job in (*wanted, ended, other, theirs)] == [
        Status.CANCELED,
        Status.RUNNING,
        Status.FAILED,
        Status.QUEUED,
        Status.QUEUED,
    ]


def test_a_bulk_goes_on_after_the_last_job_of_the_step_before(store: StoreHarness) -> None:
    jobs = [failed(store) for _ in range(5)]
    steps: list[list[UUID]] = []
    after = None
    while not steps or len(steps[-1]) == 2:
        with store.unit_of_work(OURS) as uow:
            done = uow.jobs.retry_matching(JobFilter(), reason="mended", after=after, limit=2)
        steps.append([job.id for job in done])
        after = done[-1].id

    assert [len(step) for step in steps] == [2, 2, 1]
    assert sorted(job_id for step in steps for job_id in step) == sorted(job.id for job in jobs)
    assert {stored(store, job).status for job in jobs} == {Status.QUEUED}


def test_the_count_before_a_bulk_is_what_it_then_reaches(store: StoreHarness) -> None:
    create(store, queue="slow"), create(store), running(store, queue="slow")
    with store.views(OURS) as views:
        assert views.count(JobFilter(queue="slow")) == 2
        assert views.count(JobFilter(queue="slow"), {Status.QUEUED}) == 1
    with store.views(THEIRS) as views:
        assert views.count(JobFilter(queue="slow")) == 0


def test_every_history_explains_its_row_after_a_cancel_and_a_retry(store: StoreHarness) -> None:
    job = running(store)
    cancel(store, job)
    finish(store, job, Fail("boom", "it broke"))
    retry(store, job)
    cancel(store, job)
    with store.views(SYSTEM) as views:
        assert explains(stored(store, job), views.history(job.id)) == ()
