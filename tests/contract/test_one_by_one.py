"""Claims and expiries row by row, for when a batch fails for one row."""

from heimdex.domain.job import Job
from heimdex.domain.transitions import Status
from tests.contract.steps import LEASE, SYSTEM, TYPE, WORKER, claim_by_id, create, expire, running, stored
from tests.stores import StoreHarness


def claim_one_by_one(store: StoreHarness, limit: int) -> tuple[Job, ...]:
    with store.unit_of_work(SYSTEM) as uow:
        answer = uow.jobs.claim_one_by_one(worker=WORKER, types=[TYPE], lease=LEASE, limit=limit)
    assert answer.passed_over == ()
    return answer.jobs


def suspect(store: StoreHarness, priority: int = 0) -> Job:
    job = create(store, priority=priority)
    claim_by_id(store, job)
    store.advance(LEASE)
    expire(store)
    return job


def test_jobs_are_claimed_in_the_order_of_a_batch_and_up_to_the_limit(store: StoreHarness) -> None:
    low, high, middle = (create(store, priority=priority) for priority in (1, 9, 5))

    assert [job.id for job in claim_one_by_one(store, 2)] == [high.id, middle.id]
    assert stored(store, high).claimed_by == WORKER
    assert stored(store, low).status is Status.QUEUED


def test_a_suspect_is_claimed_alone(store: StoreHarness) -> None:
    first = suspect(store, priority=9)
    other = create(store)

    assert [job.id for job in claim_one_by_one(store, 9)] == [first.id]
    assert [job.id for job in claim_one_by_one(store, 9)] == [other.id]


def test_a_claim_ends_before_a_suspect(store: StoreHarness) -> None:
    later = suspect(store)
    first = create(store, priority=9)

    assert [job.id for job in claim_one_by_one(store, 9)] == [first.id]
    assert stored(store, later).status is Status.QUEUED


def test_leases_that_have_run_out_are_ended(store: StoreHarness) -> None:
    jobs = [running(store) for _ in range(3)]
    store.advance(LEASE)
    with store.unit_of_work(SYSTEM) as uow:
        answer = uow.jobs.expire_one_by_one(limit=2)

    assert ([job.id for job in answer.jobs], answer.passed_over) == ([job.id for job in jobs[:2]], ())
    assert [stored(store, job).status for job in jobs] == [Status.QUEUED, Status.QUEUED, Status.RUNNING]


def test_a_sweep_one_by_one_goes_on_after_the_last_id_of_the_page_before(store: StoreHarness) -> None:
    jobs = [running(store) for _ in range(4)]
    store.advance(LEASE)
    with store.unit_of_work(SYSTEM) as uow:
        page = uow.jobs.expire_one_by_one(limit=2, after=jobs[0].id)

    assert [job.id for job in page.jobs] == [jobs[1].id, jobs[2].id]
    assert [stored(store, jobs[n]).status for n in (0, 3)] == [Status.RUNNING, Status.RUNNING]
