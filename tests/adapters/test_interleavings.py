"""What two units of work that are open at once may do to each other, step by step, in memory and on PostgreSQL."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from itertools import product
from typing import Any
from uuid import UUID, uuid4

import pytest

from heimdex.adapters.ids import UuidSeven
from heimdex.domain.errors import IllegalTransition, UniqueViolation
from heimdex.domain.job import Job
from heimdex.domain.new_job import NewJob
from heimdex.domain.outcomes import Fail, Release, Succeed
from heimdex.domain.results import Created, Ending
from heimdex.domain.scope import System, Tenant
from heimdex.domain.transitions import Status
from heimdex.service_layer.ports import UnitOfWork
from tests.actors import PATIENCE, Actor
from tests.stores import StoreHarness

TENANT = Tenant(UUID(int=1), actor="a")
WORKER = System(actor="worker", reason="a worker serves every organisation")
LEASE = timedelta(seconds=30)
# How long a step that must wait for a lock is watched before it counts as waiting.
WATCHED = 0.2


@pytest.fixture(params=["memory_store", "postgres_store"])
def store(request: pytest.FixtureRequest) -> StoreHarness:
    harness: StoreHarness = request.getfixturevalue(request.param)
    return harness


def create(store: StoreHarness, count: int) -> list[Job]:
    with store.unit_of_work(TENANT) as uow:
        return [created.job for created in uow.jobs.create_many([NewJob("t", {"n": n}) for n in range(count)])]


def claim(limit: int) -> Callable[[UnitOfWork], list[Job]]:
    return lambda uow: uow.jobs.claim_due(worker=uuid4(), types={"t"}, lease=LEASE, limit=limit)


def claimed(store: StoreHarness, limit: int) -> list[Job]:
    with store.unit_of_work(WORKER) as uow:
        return claim(limit)(uow)


def create_keyed(uow: UnitOfWork) -> Created:
    return uow.jobs.create("t", {"n": 1}, idempotency_key="k")


def statuses(store: StoreHarness) -> dict[Status, int]:
    with store.views(WORKER) as views:
        return {status: count for status, count in views.statistics().by_status.items() if count}


def is_waiting(step: "Future[Any]") -> bool:
    time.sleep(WATCHED)
    return not step.done()


def test_a_claim_passes_over_what_another_claim_holds(store: StoreHarness) -> None:
    first, second, third = create(store, 3)
    with Actor(store, WORKER) as one, Actor(store, WORKER) as other:
        assert [job.id for job in one.does(claim(2))] == [first.id, second.id]
        assert [job.id for job in other.does(claim(1))] == [third.id]
        assert other.does(claim(1)) == []
        one.commits()
        other.commits()

    assert statuses(store) == {Status.RUNNING: 3}


def test_a_claim_that_rolls_back_leaves_its_jobs_to_the_next(store: StoreHarness) -> None:
    [job] = create(store, 1)
    with Actor(store, WORKER) as one:
        assert one.does(claim(1))
        one.rolls_back()

    assert [again.id for again in claimed(store, 1)] == [job.id]


def test_a_job_that_is_not_committed_cannot_be_claimed_or_found(store: StoreHarness) -> None:
    with Actor(store, TENANT) as creator, Actor(store, WORKER) as worker:
        job = creator.does(lambda uow: uow.jobs.create("t")).job
        assert worker.does(claim(1)) == []
        assert worker.does(lambda uow: uow.jobs.find(job.id)) is None
        creator.commits()
        assert [found.id for found in worker.does(claim(1))] == [job.id]
        worker.commits()


def test_many_claimers_at_once_never_share_a_job(store: StoreHarness) -> None:
    create(store, 200)

    def drain() -> list[UUID]:
        mine: list[UUID] = []
        while jobs := claimed(store, 7):
            mine += [job.id for job in jobs]
        return mine

    with ThreadPoolExecutor(6) as pool:
        taken = [job_id for future in [pool.submit(drain) for _ in range(6)] for job_id in future.result()]

    # A claimer may find nothing while others hold the rest, so that what is left is taken by one more look.
    taken += drain()
    assert len(taken) == len(set(taken)) == 200


@pytest.mark.parametrize("end", [Actor.commits, Actor.rolls_back])
def test_the_second_create_with_a_key_waits_for_the_first(store: StoreHarness, end: Callable[[Actor], None]) -> None:
    with Actor(store, TENANT) as one, Actor(store, TENANT) as other:
        first = one.does(create_keyed)
        step = other.begins(create_keyed)
        assert is_waiting(step)
        end(one)
        second = step.result(PATIENCE)
        other.commits()

    kept = end is Actor.commits
    assert second.replayed == kept
    assert (second.job.id == first.job.id) == kept
    assert statuses(store) == {Status.QUEUED: 1}


def test_many_creates_with_one_key_make_one_job(store: StoreHarness) -> None:
    def create_one(_: int) -> Created:
        with store.unit_of_work(TENANT) as uow:
            return create_keyed(uow)

    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(create_one, range(24)))

    assert sum(not one.replayed for one in created) == 1
    assert len({one.job.id for one in created}) == 1


def test_bulk_creates_with_the_same_keys_in_opposite_orders_do_not_deadlock(store: StoreHarness) -> None:
    def create_all(*keys: str) -> Callable[[UnitOfWork], list[bool]]:
        new = [NewJob("t", idempotency_key=key) for key in keys]
        return lambda uow: [created.replayed for created in uow.jobs.create_many(new)]

    with Actor(store, TENANT) as one, Actor(store, TENANT) as other:
        one.does(create_all("a"))
        step = other.begins(create_all("b", "a"))
        assert is_waiting(step)
        # The other one waits for "a" before it has taken "b".
        assert one.does(create_all("b")) == [False]
        one.commits()
        assert step.result(PATIENCE) == [True, True]
        other.commits()

    assert statuses(store) == {Status.QUEUED: 2}


def test_of_two_jobs_with_one_id_one_is_refused(store: StoreHarness) -> None:
    own = UuidSeven()()

    def create_own(uow: UnitOfWork) -> object:
        return uow.jobs.create_many([NewJob("t", id=own)])

    with Actor(store, TENANT) as one, Actor(store, TENANT) as other:
        one.does(create_own)
        step = other.begins(create_own)
        one.commits()
        # PostgreSQL says so as soon as the first is committed, memory when the second commits.
        with pytest.raises(UniqueViolation, match="pk_job"):
            finish_step(other, step)

    assert statuses(store) == {Status.QUEUED: 1}


def finish_step(actor: Actor, step: "Future[object]") -> None:
    step.result(PATIENCE)
    actor.commits()


def test_an_expiry_passes_over_a_run_that_is_just_finishing(store: StoreHarness) -> None:
    create(store, 1)
    [held] = claimed(store, 1)
    store.advance(LEASE)
    with Actor(store, WORKER) as holder, Actor(store, WORKER) as reaper:
        assert holder.does(lambda uow: uow.jobs.finish([Ending(held, Succeed())])).jobs
        assert reaper.does(lambda uow: uow.jobs.expire(limit=10)) == []
        holder.commits()
        reaper.commits()

    assert statuses(store) == {Status.SUCCEEDED: 1}


def test_a_finish_that_waited_for_an_expiry_is_refused(store: StoreHarness) -> None:
    create(store, 1)
    [held] = claimed(store, 1)
    store.advance(LEASE)
    with Actor(store, WORKER) as holder, Actor(store, WORKER) as reaper:
        assert reaper.does(lambda uow: uow.jobs.expire(limit=10))
        step = holder.begins(lambda uow: uow.jobs.finish([Ending(held, Succeed())]))
        assert is_waiting(step)
        reaper.commits()
        assert step.result(PATIENCE).refusals
        holder.commits()

    assert statuses(store) == {Status.QUEUED: 1}
    with store.views(WORKER) as views:
        assert views.refusals(held.id) == 1


def test_a_renewal_that_waited_for_an_expiry_is_refused(store: StoreHarness) -> None:
    create(store, 1)
    [held] = claimed(store, 1)
    hold = held.hold
    assert hold is not None
    store.advance(LEASE)
    with Actor(store, WORKER) as holder, Actor(store, WORKER) as reaper:
        assert reaper.does(lambda uow: uow.jobs.expire(limit=10))
        step = holder.begins(lambda uow: uow.jobs.renew([hold], lease=LEASE))
        assert is_waiting(step)
        reaper.commits()
        assert step.result(PATIENCE) == frozenset()
        holder.commits()

    assert statuses(store) == {Status.QUEUED: 1}


def test_an_expiry_passes_over_a_run_that_is_just_renewed(store: StoreHarness) -> None:
    create(store, 1)
    [held] = claimed(store, 1)
    hold = held.hold
    assert hold is not None
    store.advance(LEASE)
    with Actor(store, WORKER) as holder, Actor(store, WORKER) as reaper:
        assert holder.does(lambda uow: uow.jobs.renew([hold], lease=LEASE)) == {hold}
        assert reaper.does(lambda uow: uow.jobs.expire(limit=10)) == []
        holder.commits()
        assert reaper.does(lambda uow: uow.jobs.expire(limit=10)) == []
        reaper.commits()

    assert statuses(store) == {Status.RUNNING: 1}


def test_the_second_claim_by_id_waits_and_is_then_illegal(store: StoreHarness) -> None:
    [job] = create(store, 1)
    with Actor(store, TENANT) as one, Actor(store, TENANT) as other:
        one.does(lambda uow: uow.jobs.claim(job.id, worker=uuid4(), lease=LEASE))
        step = other.begins(lambda uow: uow.jobs.claim(job.id, worker=uuid4(), lease=LEASE))
        assert is_waiting(step)
        one.commits()
        with pytest.raises(IllegalTransition):
            step.result(PATIENCE)


def test_batches_finished_in_opposite_orders_do_not_deadlock(store: StoreHarness) -> None:
    create(store, 100)
    held = claimed(store, 100)

    def finish(jobs: list[Job]) -> int:
        with store.unit_of_work(WORKER) as uow:
            return len(uow.jobs.finish([Ending(job, Fail("boom", "x", permanent=True)) for job in jobs]).jobs)

    with ThreadPoolExecutor(4) as pool:
        batches = [held, held[::-1], held[::2] + held[1::2], held[::-2] + held[-2::-2]]
        accepted = sum(pool.map(finish, batches))

    assert accepted == 100
    assert statuses(store) == {Status.FAILED: 100}


def test_claims_and_creates_with_keys_go_on_beside_each_other(store: StoreHarness) -> None:
    create(store, 40)

    def work(kind: str, n: int) -> None:
        if kind == "claim":
            claimed(store, 3)
        else:
            with store.unit_of_work(TENANT) as uow:
                uow.jobs.create("t", {}, idempotency_key=f"k-{n}")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda pair: work(*pair), product(("claim", "create"), range(10))))

    assert sum(statuses(store).values()) == 50


def test_a_write_that_waited_is_stamped_no_earlier_than_what_it_waited_for(store: StoreHarness) -> None:
    create(store, 1)
    [held] = claimed(store, 1)
    with Actor(store, TENANT) as one, Actor(store, TENANT) as other:
        one.does(lambda uow: uow.jobs.log(held.id, {"who": "one"}))
        step = other.begins(lambda uow: uow.jobs.log(held.id, {"who": "other"}))
        assert is_waiting(step)
        store.advance(timedelta(seconds=3))
        one.does(lambda uow: uow.jobs.log(held.id, {"who": "one again"}))
        one.commits()
        step.result(PATIENCE)
        other.commits()

    with store.views(WORKER) as views:
        history = views.history(held.id)
    assert [event.detail.get("who") for event in history[2:]] == ["one", "one again", "other"]
    assert [event.ts for event in history] == sorted(event.ts for event in history)


def test_a_claim_that_waited_has_its_whole_lease(store: StoreHarness) -> None:
    [job] = create(store, 1)

    def claim_it(uow: UnitOfWork) -> Job:
        return uow.jobs.claim(job.id, worker=uuid4(), lease=LEASE)

    with Actor(store, TENANT) as one, Actor(store, TENANT) as other:
        held = one.does(claim_it)
        one.does(lambda uow: uow.jobs.finish([Ending(held, Release("stopping"))]))
        step = other.begins(claim_it)
        assert is_waiting(step)
        store.advance(timedelta(seconds=4))
        one.commits()
        assert step.result(PATIENCE).lease_until == store.clock.now() + LEASE
        other.commits()


@pytest.mark.parametrize("end", [Actor.commits, Actor.rolls_back], ids=["committed", "rolled back"])
def test_whether_a_claim_was_committed_is_told_once_it_has_ended(
    store: StoreHarness, end: Callable[[Actor], None]
) -> None:
    [job] = create(store, 1)
    with Actor(store, WORKER) as claiming, Actor(store, WORKER) as looking:
        claiming.does(claim(1))
        look = looking.begins(lambda uow: uow.jobs.settled_event(job.id, 2))
        assert is_waiting(look)
        end(claiming)

        assert (look.result(PATIENCE) is not None) == (end is Actor.commits)
