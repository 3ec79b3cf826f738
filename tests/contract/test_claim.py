"""Claiming: which jobs are due, in what order they come, and what a claim writes."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import pytest

from heimdex.domain.errors import IllegalTransition, InvalidInput, JobNotFound
from heimdex.domain.fold import apply
from heimdex.domain.job import Job
from heimdex.domain.outcomes import Cancel, Fail, Progress, Snooze, Succeed
from heimdex.domain.rules import to_text
from heimdex.domain.transitions import Status
from tests.contract.steps import (
    LEASE,
    NOBODY,
    ORG,
    OTHER_ORG,
    OTHER_WORKER,
    OURS,
    SYSTEM,
    THEIRS,
    TYPE,
    WORKER,
    claim,
    claim_by_id,
    columns,
    counts,
    crash,
    create,
    every_job,
    finish,
    history,
    running,
    stored,
)
from tests.stores import START, StoreHarness

SOON = timedelta(microseconds=1)


def ids(jobs: Sequence[Job]) -> list[UUID]:
    return [job.id for job in jobs]


def claim_as(
    store: StoreHarness, *, types: Sequence[str] = (TYPE,), queues: Sequence[str] | None = None, limit: int = 10
) -> list[Job]:
    with store.unit_of_work(SYSTEM) as uow:
        return uow.jobs.claim_due(worker=WORKER, types=types, lease=LEASE, limit=limit, queues=queues)


def create_in_disorder(store: StoreHarness) -> list[Job]:
    """Create jobs that differ in priority, time and id; return them as they are to be claimed."""
    last = create(store, scheduled_at=START - SOON, priority=-1)
    fourth = create(store, scheduled_at=START)
    fifth = create(store, scheduled_at=START)
    second = create(store, scheduled_at=START - timedelta(days=1))
    third = create(store, scheduled_at=START - SOON)
    first = create(store, scheduled_at=START, priority=1)

    return [first, second, third, fourth, fifth, last]


def test_the_highest_priority_comes_first_then_the_oldest_time_then_the_smallest_id(store: StoreHarness) -> None:
    jobs = create_in_disorder(store)

    assert ids(claim(store, 10)) == ids(jobs)


def test_the_first_ones_in_that_order_are_taken(store: StoreHarness) -> None:
    jobs = create_in_disorder(store)

    assert [ids(claim(store, 2)) for _ in range(4)] == [ids(jobs[:2]), ids(jobs[2:4]), ids(jobs[4:]), []]


def test_a_job_is_due_at_its_very_moment_and_not_before(store: StoreHarness) -> None:
    job = create(store, scheduled_at=START + LEASE)

    store.set_time(START + LEASE - SOON)
    assert claim(store) == []
    store.set_time(START + LEASE)
    assert ids(claim(store)) == [job.id]


def test_jobs_for_later_do_not_hide_one_that_is_due(store: StoreHarness) -> None:
    for _ in range(5):
        create(store, priority=9, scheduled_at=START + LEASE)
    due = create(store)

    assert ids(claim(store, 2)) == [due.id]


def test_no_more_than_the_limit_are_taken(store: StoreHarness) -> None:
    for _ in range(3):
        create(store)

    assert [len(claim(store, limit)) for limit in (0, 1, 5)] == [0, 1, 2]


@pytest.mark.parametrize("limit", [-1, 1_001, True, 1.0])
def test_a_limit_out_of_bounds_is_refused(store: StoreHarness, limit: int) -> None:
    with store.unit_of_work(SYSTEM) as uow, pytest.raises(InvalidInput, match="limit"):
        uow.jobs.claim_due(worker=WORKER, types={TYPE}, lease=LEASE, limit=limit)


@pytest.mark.parametrize("lease", [timedelta(0), timedelta(days=366)])
def test_a_lease_out_of_bounds_is_refused(store: StoreHarness, lease: timedelta) -> None:
    job = create(store)

    with store.unit_of_work(SYSTEM) as uow:
        with pytest.raises(InvalidInput, match="lease"):
            uow.jobs.claim_due(worker=WORKER, types={TYPE}, lease=lease, limit=1)
        with pytest.raises(InvalidInput, match="lease"):
            uow.jobs.claim(job.id, worker=WORKER, lease=lease)

    assert columns(stored(store, job)) == columns(job)


def test_only_the_types_asked_for_are_taken(store: StoreHarness) -> None:
    mail = create(store, "mail")
    create(store, "mail.send")
    drive = create(store, "drive")

    assert ids(claim_as(store, types=["drive", "mail", "unheard of"])) == ids([mail, drive])
    assert claim_as(store, types=[]) == []


def test_only_the_queues_asked_for_are_taken(store: StoreHarness) -> None:
    slow, fast, default = create(store, queue="slow"), create(store, queue="fast"), create(store)

    assert claim_as(store, queues=[]) == []
    assert ids(claim_as(store, queues=["slow", "default", "none"])) == ids([slow, default])
    assert ids(claim_as(store)) == [fast.id]


def test_only_queued_jobs_are_taken(store: StoreHarness) -> None:
    running(store)
    for outcome in (Succeed(), Fail("boom", "no", permanent=True), Cancel("not wanted")):
        finish(store, running(store), outcome)
    waits = running(store)
    finish(store, waits, Snooze(LEASE))

    assert claim(store, 10) == []
    store.advance(LEASE)
    assert ids(claim(store, 10)) == [waits.id]


def test_a_claim_writes_the_hold_and_one_event(store: StoreHarness) -> None:
    job = create(store)
    store.advance(timedelta(seconds=1))
    [held] = claim(store)
    now = START + timedelta(seconds=1)

    changed = {name: value for name, value in columns(held).items() if value != columns(job)[name]}
    assert changed == {
        "status": Status.RUNNING,
        "attempt": 1,
        "claimed_by": WORKER,
        "lease_seq": 2,
        "lease_until": now + LEASE,
        "updated_at": now,
        "started_at": now,
        "version": 2,
    }
    assert columns(stored(store, job)) == columns(held)
    event = history(store, job)[-1]
    assert (event.seq, event.ts, event.trigger) == (2, now, "claim")
    assert (event.prev_status, event.next_status) == (Status.QUEUED, Status.RUNNING)
    assert (event.actor, event.source, event.reason) == (SYSTEM.actor, SYSTEM.source, None)
    assert event.detail_json == (f'{{"attempt":1,"claimed_by":"{WORKER}","lease_until":"2026-01-01T12:00:31.000000Z"}}')


def test_a_claim_equals_the_domains_claim(store: StoreHarness) -> None:
    jobs = {job.id: job for job in (create(store, priority=n, payload={"n": n}) for n in range(3))}
    store.advance(timedelta(microseconds=7))

    for held in claim(store, 10):
        job, event = jobs[held.id], history(store, held)[-1]
        [decision] = job.claim(worker=WORKER, lease=LEASE)
        assert event.detail == dict(decision.detail) | {"lease_until": to_text(store.clock.now() + LEASE)}
        assert columns(apply(job, event)) == columns(held)


def test_a_second_run_starts_its_progress_anew_and_keeps_its_first_start(store: StoreHarness) -> None:
    held = running(store)
    finish(store, held, Snooze(timedelta(0)), progress=Progress("reading", 40))
    assert (stored(store, held).stage, stored(store, held).progress) == ("reading", 40)
    store.advance(LEASE)
    [again] = claim(store, worker=OTHER_WORKER)

    assert (again.attempt, again.claimed_by, again.lease_seq) == (1, OTHER_WORKER, 4)
    assert (again.started_at, again.updated_at) == (START, START + LEASE)
    assert (again.stage, again.progress) == (None, 0)


def test_the_system_claims_for_every_organisation_and_a_tenant_for_its_own(store: StoreHarness) -> None:
    ours, theirs = create(store), create(store, scope=THEIRS)
    with store.unit_of_work(OURS) as uow:
        mine = uow.jobs.claim_due(worker=WORKER, types={TYPE}, lease=LEASE, limit=10)
    rest = claim(store, 10)

    assert ids(mine) == [ours.id]
    assert [(job.id, job.org_id) for job in rest] == [(theirs.id, OTHER_ORG)]
    assert ours.org_id == ORG


def test_jobs_of_the_same_unit_of_work_can_be_claimed(store: StoreHarness) -> None:
    old = create(store)
    with store.unit_of_work(OURS) as uow:
        new = uow.jobs.create(TYPE, priority=1).job
        claimed = uow.jobs.claim_due(worker=WORKER, types={TYPE}, lease=LEASE, limit=10)
        assert uow.jobs.claim_due(worker=WORKER, types={TYPE}, lease=LEASE, limit=10) == []

    assert ids(claimed) == ids([new, old])
    assert counts(store) == {Status.RUNNING: 2}


def test_a_suspect_that_comes_first_comes_alone(store: StoreHarness) -> None:
    suspect = crash(store, create(store, priority=1))
    sound = create(store)

    assert ids(claim(store, 10)) == [suspect.id]
    assert ids(claim(store, 10)) == [sound.id]


def test_a_batch_ends_before_the_first_suspect(store: StoreHarness) -> None:
    suspect = crash(store, create(store, priority=1))
    first, second = create(store, priority=3), create(store, priority=2)
    last = create(store, priority=0)

    assert ids(claim(store, 10)) == ids([first, second])
    assert ids(claim(store, 10)) == [suspect.id]
    assert ids(claim(store, 10)) == [last.id]


def test_two_suspects_come_one_at_a_time(store: StoreHarness) -> None:
    jobs = [create(store, priority=n) for n in (2, 1)]
    for job in jobs:
        crash(store, job)

    assert [ids(claim(store, 10)) for _ in range(3)] == [[jobs[0].id], [jobs[1].id], []]


def test_a_suspect_beyond_the_limit_does_not_matter(store: StoreHarness) -> None:
    crash(store, create(store))
    first, second = create(store, priority=2), create(store, priority=1)

    assert ids(claim(store, 2)) == ids([first, second])


def test_a_suspect_that_is_not_a_candidate_does_not_matter(store: StoreHarness) -> None:
    crash(store, create(store, "other.type", priority=9))
    jobs = [create(store), create(store)]

    assert ids(claim(store, 10)) == ids(jobs)


def test_a_job_can_be_claimed_by_its_id_before_it_is_due(store: StoreHarness) -> None:
    job = create(store, scheduled_at=START + LEASE)
    held = claim_by_id(store, job)

    assert (held.id, held.status, held.lease_until) == (job.id, Status.RUNNING, START + LEASE)
    assert columns(stored(store, job)) == columns(held)


@pytest.mark.parametrize(
    ("outcome", "possible"),
    [
        (None, "succeed, fail"),
        (Succeed(), "nothing"),
        (Cancel("not wanted"), "retry_by_hand"),
        (Fail("boom", "no", permanent=True), "retry, bury, retry_by_hand"),
    ],
)
def test_a_job_that_is_not_queued_cannot_be_claimed_and_the_error_names_what_is_possible(
    store: StoreHarness, outcome: Succeed | Cancel | Fail | None, possible: str
) -> None:
    held = running(store)
    if outcome is not None:
        finish(store, held, outcome)
    before = stored(store, held)

    with store.unit_of_work(SYSTEM) as uow, pytest.raises(IllegalTransition, match=f"possible: {possible}") as raised:
        uow.jobs.claim(held.id, worker=OTHER_WORKER, lease=LEASE)

    assert (raised.value.job_id, raised.value.status, raised.value.trigger) == (held.id, before.status, "claim")
    assert columns(stored(store, held)) == columns(before)


def test_an_unknown_job_cannot_be_claimed(store: StoreHarness) -> None:
    with store.unit_of_work(SYSTEM) as uow, pytest.raises(JobNotFound):
        uow.jobs.claim(NOBODY, worker=WORKER, lease=LEASE)


def test_a_worker_that_is_no_uuid_is_refused(store: StoreHarness) -> None:
    job = create(store)

    with store.unit_of_work(SYSTEM) as uow, pytest.raises(InvalidInput, match="worker"):
        uow.jobs.claim(job.id, worker="me", lease=LEASE)  # type: ignore[arg-type]  # the mistake under test

    assert ids(every_job(store)) == [job.id]
