"""A unit of work that creates one job and ends, which a store may commit with that write."""

import pytest

from heimdex.domain.errors import IdempotencyConflict, InvalidPayload, JobNotFound, UniqueViolation
from heimdex.domain.new_job import NewJob
from tests.contract.steps import NOBODY, ORG, OURS, SYSTEM, THEIRS, TYPE, columns, create, every_job, history, stored
from tests.stores import START, StoreHarness


def test_it_creates_as_every_unit_of_work(store: StoreHarness) -> None:
    with store.unit_of_one_write(OURS) as uow:
        created = uow.jobs.create(TYPE, {"a": 1}, idempotency_key="k")

    assert not created.replayed
    assert columns(created.job) == columns(stored(store, created.job))
    [event] = history(store, created.job)
    assert (event.seq, event.ts, event.actor, event.source) == (1, START, OURS.actor, OURS.source)


def test_a_key_that_is_taken_is_a_replay_or_a_conflict(store: StoreHarness) -> None:
    job = create(store, idempotency_key="k")

    with store.unit_of_one_write(OURS) as uow:
        again = uow.jobs.create(TYPE, idempotency_key="k")
    with pytest.raises(IdempotencyConflict), store.unit_of_one_write(OURS) as uow:
        uow.jobs.create(TYPE, {"another": True}, idempotency_key="k")

    assert again.replayed
    assert again.job.id == job.id
    assert len(every_job(store)) == 1


def test_what_is_refused_is_not_there(store: StoreHarness) -> None:
    job = create(store)
    with pytest.raises(InvalidPayload), store.unit_of_one_write(OURS) as uow:
        uow.jobs.create(TYPE, {"a": float("nan")})
    with pytest.raises(UniqueViolation), store.unit_of_one_write(OURS) as uow:
        uow.jobs.create_many([NewJob(TYPE, id=job.id)])
    with pytest.raises(JobNotFound), store.unit_of_one_write(OURS) as uow:
        uow.jobs.create(TYPE, parent_id=NOBODY)

    assert [each.id for each in every_job(store)] == [job.id]


def test_a_child_is_its_organisations(store: StoreHarness) -> None:
    parent = create(store)
    with store.unit_of_one_write(SYSTEM) as uow:
        child = uow.jobs.create(TYPE, org_id=ORG, parent_id=parent.id).job
    with pytest.raises(JobNotFound), store.unit_of_one_write(THEIRS) as uow:
        uow.jobs.create(TYPE, parent_id=parent.id)

    assert stored(store, child).parent_id == parent.id


def test_workers_are_woken_after_it(store: StoreHarness) -> None:
    woken: list[int] = []
    store.wakeups.subscribe(lambda: woken.append(len(every_job(store))))
    with store.unit_of_one_write(OURS) as uow:
        uow.jobs.create(TYPE)

    assert woken == [1]


def test_one_that_writes_nothing_leaves_nothing(store: StoreHarness) -> None:
    with store.unit_of_one_write(OURS):
        pass

    assert every_job(store) == []
