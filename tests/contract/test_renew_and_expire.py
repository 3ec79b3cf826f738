"""Leases: prolonged by their holder, ended by anybody once they have run out."""

from datetime import timedelta

import pytest

from heimdex.domain.errors import InvalidInput
from heimdex.domain.job import WORKER_LOST
from heimdex.domain.new_job import JobLimits
from heimdex.domain.outcomes import Fail, Succeed
from heimdex.domain.transitions import Status
from tests.contract.steps import (
    LEASE,
    OTHER_WORKER,
    OURS,
    SYSTEM,
    THEIRS,
    claim_by_id,
    columns,
    crash,
    create,
    expire,
    finish,
    history,
    hold_of,
    refusals,
    running,
    stored,
    triggers,
)
from tests.stores import START, StoreHarness

SOON = timedelta(microseconds=1)


def test_a_renewal_moves_the_end_of_the_lease_and_nothing_else(store: StoreHarness) -> None:
    held = running(store)
    store.advance(timedelta(seconds=10))
    with store.unit_of_work(SYSTEM) as uow:
        kept = uow.jobs.renew([hold_of(held)], lease=timedelta(seconds=60))

    assert kept == {hold_of(held)}
    assert columns(stored(store, held)) == columns(held) | {"lease_until": START + timedelta(seconds=70)}
    assert triggers(store, held) == ["create", "claim"]


def test_many_leases_are_renewed_at_once_and_the_lost_ones_are_told(store: StoreHarness) -> None:
    jobs = [running(store) for _ in range(4)]
    finish(store, jobs[2], Succeed())

    with store.unit_of_work(SYSTEM) as uow:
        kept = uow.jobs.renew([hold_of(job) for job in reversed(jobs)], lease=LEASE)

    assert kept == {hold_of(jobs[n]) for n in (0, 1, 3)}
    assert [refusals(store, job) for job in jobs] == [0, 0, 1, 0]


def test_no_holds_are_no_holds(store: StoreHarness) -> None:
    with store.unit_of_work(SYSTEM) as uow:
        assert uow.jobs.renew([], lease=LEASE) == frozenset()


def test_a_lease_that_ran_out_but_was_not_expired_is_renewed(store: StoreHarness) -> None:
    held = running(store)
    store.advance(LEASE * 2)
    with store.unit_of_work(SYSTEM) as uow:
        assert uow.jobs.renew([hold_of(held)], lease=LEASE) == {hold_of(held)}

    assert expire(store) == []
    assert stored(store, held).lease_until == START + LEASE * 3


def test_a_run_whose_lease_ran_out_may_still_be_finished(store: StoreHarness) -> None:
    held = running(store)
    store.advance(LEASE * 2)

    assert finish(store, held, Succeed()).refusals == ()
    assert expire(store) == []


@pytest.mark.parametrize("lease", [timedelta(0), timedelta(seconds=-1), timedelta(days=366)])
def test_a_lease_out_of_bounds_is_refused(store: StoreHarness, lease: timedelta) -> None:
    held = running(store)
    with store.unit_of_work(SYSTEM) as uow, pytest.raises(InvalidInput, match="lease"):
        uow.jobs.renew([hold_of(held)], lease=lease)

    assert columns(stored(store, held)) == columns(held)


def test_a_lease_expires_at_its_very_moment_and_not_before(store: StoreHarness) -> None:
    held = running(store)

    store.set_time(START + LEASE - SOON)
    assert expire(store) == []
    store.set_time(START + LEASE)
    assert [job.id for job in expire(store)] == [held.id]


def test_an_expired_run_gives_its_attempt_back_and_counts_a_crash(store: StoreHarness) -> None:
    held = running(store)
    store.advance(LEASE)
    [expired] = expire(store)

    job = stored(store, held)
    assert columns(job) == columns(held) | {
        "status": Status.QUEUED,
        "attempt": 0,
        "crashes": 1,
        "claimed_by": None,
        "lease_seq": None,
        "lease_until": None,
        "scheduled_at": START + LEASE,
        "updated_at": START + LEASE,
        "last_error_code": "worker_lost",
        "last_error_message": WORKER_LOST.message,
        "version": 4,
    }
    assert columns(expired) == columns(job)
    assert triggers(store, held) == ["create", "claim", "expire", "retry"]
    failed, retried = history(store, held)[-2:]
    assert (failed.prev_status, failed.next_status, retried.next_status) == ("running", "failed", "queued")
    assert (failed.detail["lease_seq"], retried.detail["delay_ms"]) == (2, 0)


def test_the_third_crash_ends_in_the_dead_letter(store: StoreHarness) -> None:
    job = create(store)

    assert [(crash(store, job).status, stored(store, job).crashes) for _ in range(3)] == [
        (Status.QUEUED, 1),
        (Status.QUEUED, 2),
        (Status.DEAD_LETTER, 3),
    ]
    end = stored(store, job)
    assert (end.attempt, end.finished_at) == (0, START + 3 * LEASE)
    assert triggers(store, job)[-3:] == ["claim", "expire", "bury"]


def test_crashes_count_across_failed_attempts(store: StoreHarness) -> None:
    job = create(store)
    crash(store, job, times=2)
    finish(store, claim_by_id(store, job), Fail("boom", "it broke"))

    between = stored(store, job)
    assert (between.status, between.attempt, between.crashes) == (Status.QUEUED, 1, 2)
    assert crash(store, job).status is Status.DEAD_LETTER


def test_a_job_with_one_attempt_is_not_run_again_after_a_crash(store: StoreHarness) -> None:
    job = create(store, limits=JobLimits(max_attempts=1))
    end = crash(store, job)

    assert (end.status, end.attempt, end.crashes) == (Status.DEAD_LETTER, 0, 1)
    assert triggers(store, job) == ["create", "claim", "expire", "bury"]


def test_no_more_than_the_limit_expire_in_the_order_of_ids(store: StoreHarness) -> None:
    jobs = [running(store, priority=n) for n in range(3)]
    store.advance(LEASE)

    assert expire(store, 0) == []
    assert [job.id for job in expire(store, 2)] == [jobs[0].id, jobs[1].id]
    assert [job.id for job in expire(store, 2)] == [jobs[2].id]


@pytest.mark.parametrize("limit", [-1, 1_001])
def test_a_limit_out_of_bounds_is_refused(store: StoreHarness, limit: int) -> None:
    with store.unit_of_work(SYSTEM) as uow, pytest.raises(InvalidInput, match="limit"):
        uow.jobs.expire(limit=limit)


def test_only_running_jobs_expire(store: StoreHarness) -> None:
    create(store)
    finish(store, running(store), Succeed())
    renewed = running(store)
    store.advance(LEASE)
    with store.unit_of_work(SYSTEM) as uow:
        uow.jobs.renew([hold_of(renewed)], lease=LEASE)

    assert expire(store) == []


def test_a_tenant_expires_only_its_own(store: StoreHarness) -> None:
    ours, theirs = running(store), running(store, scope=THEIRS)
    store.advance(LEASE)

    with store.unit_of_work(OURS) as uow:
        assert [job.id for job in uow.jobs.expire(limit=10)] == [ours.id]
    assert stored(store, theirs).status is Status.RUNNING


def test_an_expired_job_can_be_claimed_at_once_and_wakes_workers(store: StoreHarness) -> None:
    held = running(store)
    store.advance(LEASE)
    wakes: list[str] = []
    unsubscribe = store.wakeups.subscribe(lambda: wakes.append("woken"))
    expire(store)
    unsubscribe()

    again = claim_by_id(store, held, worker=OTHER_WORKER)

    assert wakes == ["woken"]
    assert (again.attempt, again.lease_seq, again.started_at) == (1, 5, START)


def test_the_clock_of_the_database_decides_even_when_it_goes_back(store: StoreHarness) -> None:
    held = running(store)
    store.set_time(START - timedelta(seconds=10))
    with store.unit_of_work(SYSTEM) as uow:
        uow.jobs.renew([hold_of(held)], lease=LEASE)

    assert stored(store, held).lease_until == START + timedelta(seconds=20)
    store.set_time(START + timedelta(seconds=20))
    assert [job.id for job in expire(store)] == [held.id]


def test_a_sweep_goes_on_after_the_last_id_of_the_page_before(store: StoreHarness) -> None:
    jobs = [running(store) for _ in range(4)]
    store.advance(LEASE)

    with store.unit_of_work(SYSTEM) as uow:
        second = uow.jobs.expire(limit=2, after=jobs[0].id)
    with store.unit_of_work(SYSTEM) as uow:
        third = uow.jobs.expire(limit=2, after=jobs[2].id)

    assert [job.id for job in second] == [jobs[1].id, jobs[2].id]
    assert [job.id for job in third] == [jobs[3].id]
    assert [job.id for job in expire(store)] == [jobs[0].id]
