"""The store in memory: what it costs, what its locks do, and what a commit refuses."""

import sys
from collections.abc import Callable
from datetime import timedelta
from threading import Thread
from types import FrameType
from uuid import UUID

import pytest
from attrs import evolve

from heimdex.adapters.memory import MemoryUnitOfWork
from heimdex.adapters.memory_store import MemoryStore
from heimdex.domain.asset import NewAsset
from heimdex.domain.errors import TransientDatabaseError, UniqueViolation
from heimdex.domain.job import Job
from heimdex.domain.new_job import NewJob
from heimdex.domain.outcomes import Snooze, Succeed
from heimdex.domain.results import Ending
from heimdex.domain.scope import System, Tenant
from tests.actors import Actor
from tests.memory_stores import MemoryHarness
from tests.stores import StoreHarness

OURS = Tenant(UUID(int=1), actor="a")
WORKER = System(actor="worker", reason="a worker serves every organisation")
LEASE = timedelta(seconds=30)
ASSET = NewAsset.of("file:///a", media_type="text/plain", size=1, sha256="0" * 64)


def create(store: StoreHarness, count: int = 1) -> list[Job]:
    with store.unit_of_work(OURS) as uow:
        return [created.job for created in uow.jobs.create_many([NewJob("t")] * count)]


def calls(act: Callable[[], object]) -> int:
    """Return how many calls `act` makes, of Python's and of C's functions."""
    number = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal number
        number += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(None)
    return number


def life_of_a_job(store: StoreHarness) -> None:
    """Create a job with a key, claim it before all others, and finish it: three small units of work."""
    with store.unit_of_work(OURS) as uow:
        job = uow.jobs.create("t", priority=9, idempotency_key=f"k-{store.tools.ids()}").job
    with store.unit_of_work(WORKER) as uow:
        [held] = uow.jobs.claim_due(worker=UUID(int=9), types={"t"}, lease=LEASE, limit=1)
        assert held.id == job.id
    with store.unit_of_work(WORKER) as uow:
        uow.jobs.finish([Ending(held, Succeed())])
        uow.assets.add(held, ASSET)
        uow.jobs.expire(limit=10)
        uow.jobs.queued()


def test_a_small_unit_of_work_costs_the_same_whatever_the_store_holds(memory_store: MemoryHarness) -> None:
    create(memory_store, 10)
    in_a_small_store = calls(lambda: life_of_a_job(memory_store))
    for _ in range(3):
        create(memory_store, 1_000)
    in_a_large_store = calls(lambda: life_of_a_job(memory_store))

    # Twice as many would be something that looks at each job.
    assert in_a_large_store < in_a_small_store * 1.1


def test_a_unit_of_work_with_many_keys_costs_the_same_for_each(memory_store: MemoryHarness) -> None:
    def create_keyed(first: int, count: int) -> int:
        new = [NewJob("t", idempotency_key=f"k-{n}") for n in range(first, first + count)]
        return calls(lambda: create_all(new))

    def create_all(new: list[NewJob]) -> None:
        with memory_store.unit_of_work(OURS) as uow:
            uow.jobs.create_many(new)

    assert create_keyed(0, 400) < create_keyed(1_000, 100) * 4.4


def test_a_row_that_stays_locked_is_transient_and_others_locks_are_released() -> None:
    harness = MemoryHarness()
    harness.store = MemoryStore(harness.clock, lock_timeout=timedelta(milliseconds=20))
    first, second = create(harness, 2)

    def finish_both() -> None:
        with harness.unit_of_work(WORKER) as uow:
            uow.jobs.claim(first.id, worker=UUID(int=9), lease=LEASE)
            uow.jobs.claim(second.id, worker=UUID(int=9), lease=LEASE)

    with Actor(harness, WORKER) as one:
        one.does(lambda uow: uow.jobs.claim(second.id, worker=UUID(int=8), lease=LEASE))
        with pytest.raises(TransientDatabaseError, match="locked"):
            finish_both()
        one.rolls_back()

    assert harness.store.locked_things() == 0
    finish_both()


def test_every_way_out_of_a_unit_of_work_releases_its_locks(memory_store: MemoryHarness) -> None:
    [job] = create(memory_store)

    def claim_and(then: Callable[[MemoryUnitOfWork], object]) -> None:
        with memory_store.unit_of_work(WORKER) as uow:
            uow.jobs.create_many([NewJob("t", idempotency_key="k")], org_id=OURS.org_id)
            uow.jobs.claim(job.id, worker=UUID(int=9), lease=LEASE)
            assert memory_store.store.locked_things() == 2
            then(uow)

    def fail(_: MemoryUnitOfWork) -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        claim_and(fail)
    assert memory_store.store.locked_things() == 0
    claim_and(lambda uow: uow.rollback())
    assert memory_store.store.locked_things() == 0
    with pytest.raises(UniqueViolation):
        claim_and(lambda uow: add_behind_its_back(memory_store, uow, job))
    assert memory_store.store.locked_things() == 0
    claim_and(lambda _: None)
    assert memory_store.store.locked_things() == 0


def add_behind_its_back(store: MemoryHarness, uow: MemoryUnitOfWork, job: Job) -> None:
    """Make the commit of a unit of work fail: somebody else commits the asset that it adds."""
    uow.assets.add(job, ASSET)
    with Actor(store, OURS) as other:
        other.does(lambda theirs: theirs.assets.add(job, ASSET))
        other.commits()


def test_a_commit_that_fails_keeps_nothing(memory_store: MemoryHarness) -> None:
    [job] = create(memory_store)

    def commit() -> None:
        with memory_store.unit_of_work(OURS) as uow:
            uow.jobs.create("never kept")
            add_behind_its_back(memory_store, uow, job)

    with pytest.raises(UniqueViolation, match="uq_asset_org_job_uri"):
        commit()

    with memory_store.views(OURS) as views:
        assert views.history_ids() == [job.id]
        assert len(views.assets([job.id])[job.id]) == 1


def test_a_row_that_moved_although_it_was_locked_is_not_overwritten(memory_store: MemoryHarness) -> None:
    [job] = create(memory_store)

    def claim() -> None:
        with memory_store.unit_of_work(OURS) as uow:
            uow.jobs.claim(job.id, worker=UUID(int=9), lease=LEASE)
            rows = memory_store.store.rows
            rows.jobs[job.id] = evolve(rows.jobs[job.id], version=7)

    with pytest.raises(TransientDatabaseError, match="moved"):
        claim()


def test_a_job_that_others_take_between_looking_and_locking_is_left_out() -> None:
    harness = MemoryHarness()
    first, second, third = create(harness, 3)
    taken: list[UUID] = []

    def act_as_others() -> None:
        if not taken:
            taken.append(first.id)
            thread = Thread(target=others)
            thread.start()
            thread.join()

    def others() -> None:
        with harness.unit_of_work(WORKER) as uow:
            held = uow.jobs.claim(first.id, worker=UUID(int=8), lease=LEASE)
            uow.jobs.finish([Ending(held, Snooze(LEASE))])
            uow.jobs.claim(second.id, worker=UUID(int=8), lease=LEASE)

    harness.store.between = act_as_others
    with harness.unit_of_work(WORKER) as uow:
        claimed = uow.jobs.claim_due(worker=UUID(int=9), types={"t"}, lease=LEASE, limit=3)

    assert [job.id for job in claimed] == [third.id]


def test_a_run_that_is_renewed_between_looking_and_locking_does_not_expire() -> None:
    harness = MemoryHarness()
    [job] = create(harness)
    with harness.unit_of_work(WORKER) as uow:
        held = uow.jobs.claim(job.id, worker=UUID(int=9), lease=LEASE)
    hold = held.hold
    assert hold is not None

    def renew() -> None:
        with harness.unit_of_work(WORKER) as uow:
            uow.jobs.renew([hold], lease=LEASE)

    def act_as_others() -> None:
        thread = Thread(target=renew)
        thread.start()
        thread.join()

    harness.advance(LEASE)
    harness.store.between = act_as_others
    with harness.unit_of_work(WORKER) as uow:
        assert uow.jobs.expire(limit=9) == []
