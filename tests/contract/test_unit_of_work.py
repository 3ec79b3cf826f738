"""The unit of work: one transaction, its life, and what it refuses."""

import asyncio
from collections.abc import Callable, Iterator
from contextvars import copy_context
from threading import Thread

import pytest

from heimdex.domain.asset import NewAsset
from heimdex.domain.errors import InvalidInput, JobNotFound, NestedUnitOfWork, UnitOfWorkNotOpen
from heimdex.domain.job import Job
from heimdex.domain.outcomes import Succeed
from heimdex.domain.results import Ending
from heimdex.domain.transitions import Status
from heimdex.service_layer.ports import JobRepository, UnitOfWork
from tests.contract.steps import LEASE, NOBODY, OURS, SYSTEM, TYPE, WORKER, counts, create, every_job, running
from tests.stores import StoreHarness


class Woken:
    """Counts wake-ups, and the jobs that could be seen at each."""

    def __init__(self, store: StoreHarness) -> None:
        self._store = store
        self.jobs_seen: list[int] = []

    def __call__(self) -> None:
        self.jobs_seen.append(len(every_job(self._store)))


@pytest.fixture
def woken(store: StoreHarness) -> Iterator[Woken]:
    listener = Woken(store)
    unsubscribe = store.wakeups.subscribe(listener)
    yield listener
    unsubscribe()


def create_and_raise(store: StoreHarness, error: BaseException) -> None:
    with store.unit_of_work(OURS) as uow:
        uow.jobs.create(TYPE)
        raise error


def test_a_clean_exit_commits(store: StoreHarness) -> None:
    with store.unit_of_work(OURS) as uow:
        job = uow.jobs.create(TYPE).job

    assert [kept.id for kept in every_job(store)] == [job.id]


def test_nobody_else_sees_what_is_not_committed(store: StoreHarness) -> None:
    with store.unit_of_work(OURS) as uow:
        job = uow.jobs.create(TYPE).job
        assert uow.jobs.exists(job.id)
        assert every_job(store) == []


def test_an_exception_rolls_back_and_goes_on_as_it_is(store: StoreHarness) -> None:
    error = RuntimeError("mine")

    with pytest.raises(RuntimeError) as raised:
        create_and_raise(store, error)

    assert raised.value is error
    assert every_job(store) == []


def test_an_exception_rolls_back_every_kind_of_write(store: StoreHarness) -> None:
    job, held = create(store), running(store)

    def write_and_raise() -> None:
        with store.unit_of_work(SYSTEM) as uow:
            uow.jobs.claim(job.id, worker=WORKER, lease=LEASE)
            uow.jobs.finish([Ending(held, Succeed()), Ending(held, Succeed())])
            uow.assets.add(held, NewAsset.of("file:///a", media_type="text/plain", size=1, sha256="0" * 64))
            uow.workers.seen(WORKER, name="w", types=[TYPE], queues=[])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_raise()

    with store.views(SYSTEM) as views:
        assert (len(views.history(job.id)), len(views.history(held.id))) == (1, 2)
        assert (views.workers(), views.refusals(held.id), views.assets([held.id])) == ((), 0, {held.id: ()})
    assert counts(store) == {Status.QUEUED: 1, Status.RUNNING: 1}


def test_rollback_undoes_what_was_written_and_the_unit_of_work_goes_on(store: StoreHarness) -> None:
    with store.unit_of_work(OURS) as uow:
        gone = uow.jobs.create(TYPE, idempotency_key="k").job
        uow.rollback()
        assert not uow.jobs.exists(gone.id)
        kept = uow.jobs.create(TYPE, idempotency_key="k")

    assert not kept.replayed
    assert [job.id for job in every_job(store)] == [kept.job.id]


def test_rollback_without_writes_is_nothing(store: StoreHarness) -> None:
    with store.unit_of_work(OURS) as uow:
        uow.rollback()
        uow.rollback()

    assert every_job(store) == []


def test_a_verb_that_raised_leaves_the_unit_of_work_usable(store: StoreHarness) -> None:
    with store.unit_of_work(OURS) as uow:
        first = uow.jobs.create(TYPE).job
        with pytest.raises(JobNotFound):
            uow.jobs.get(NOBODY)
        with pytest.raises(InvalidInput):
            uow.jobs.create(TYPE, priority=10**6)
        second = uow.jobs.create(TYPE).job

    assert [job.id for job in every_job(store)] == [first.id, second.id]


def test_workers_are_woken_once_and_only_after_the_commit(store: StoreHarness, woken: Woken) -> None:
    with store.unit_of_work(OURS) as uow:
        uow.jobs.create(TYPE)
        uow.jobs.create(TYPE)
        assert woken.jobs_seen == []

    assert woken.jobs_seen == [2]


def test_an_exception_wakes_nobody(store: StoreHarness, woken: Woken) -> None:
    with pytest.raises(RuntimeError):
        create_and_raise(store, RuntimeError())

    assert woken.jobs_seen == []


def test_what_was_rolled_back_wakes_nobody(store: StoreHarness, woken: Woken) -> None:
    with store.unit_of_work(OURS) as uow:
        uow.jobs.create(TYPE)
        uow.rollback()

    assert woken.jobs_seen == []


def test_reading_wakes_nobody(store: StoreHarness, woken: Woken) -> None:
    with store.unit_of_work(OURS) as uow:
        uow.jobs.queued()

    assert woken.jobs_seen == []


def test_a_job_for_later_wakes_nobody(store: StoreHarness, woken: Woken) -> None:
    create(store, scheduled_at=store.clock.now() + LEASE)

    assert woken.jobs_seen == []


def test_a_second_one_in_the_same_thread_is_refused_and_the_first_goes_on(store: StoreHarness) -> None:
    with store.unit_of_work(OURS) as uow:
        with pytest.raises(NestedUnitOfWork, match="already open in this thread"), store.unit_of_work(OURS):
            pass
        uow.jobs.create(TYPE)

    assert len(every_job(store)) == 1


def test_one_after_the_other_is_not_nested(store: StoreHarness) -> None:
    with pytest.raises(RuntimeError), store.unit_of_work(OURS):
        raise RuntimeError
    create(store)
    create(store)

    assert len(every_job(store)) == 2


def test_a_copied_context_in_another_thread_is_not_nested(store: StoreHarness) -> None:
    with store.unit_of_work(OURS) as uow:
        uow.jobs.create(TYPE)
        context = copy_context()
        thread = Thread(target=lambda: context.run(create, store))
        thread.start()
        if store.many_writers:
            thread.join()
    thread.join()

    assert len(every_job(store)) == 2


def test_a_copied_context_in_the_same_thread_is_nested(store: StoreHarness) -> None:
    with store.unit_of_work(OURS), pytest.raises(NestedUnitOfWork):
        copy_context().run(create, store)


# Not a store with one writer at a time: the tasks share a thread, and the second would wait for the first for ever.
@pytest.mark.parametrize("store", ["memory_store", "postgres_store"], indirect=True)
def test_two_tasks_of_one_thread_are_not_nested(store: StoreHarness) -> None:
    assert store.many_writers

    async def inner() -> None:
        create(store)

    async def outer() -> None:
        with store.unit_of_work(OURS) as uow:
            await asyncio.create_task(inner())
            uow.jobs.create(TYPE)

    asyncio.run(outer())

    assert len(every_job(store)) == 2


def test_a_second_one_in_the_same_task_is_refused(store: StoreHarness) -> None:
    async def task() -> None:
        with store.unit_of_work(OURS):
            await asyncio.sleep(0)
            create(store)

    with pytest.raises(NestedUnitOfWork):
        asyncio.run(task())


USES: dict[str, Callable[[UnitOfWork], object]] = {
    "jobs": lambda uow: uow.jobs,
    "assets": lambda uow: uow.assets,
    "workers": lambda uow: uow.workers,
    "rollback": lambda uow: uow.rollback(),
}


@pytest.mark.parametrize("use", USES)
def test_it_cannot_be_used_before_its_block(store: StoreHarness, use: str) -> None:
    with pytest.raises(UnitOfWorkNotOpen, match="use it inside"):
        USES[use](store.unit_of_work(SYSTEM))


@pytest.mark.parametrize("use", USES)
def test_it_cannot_be_used_after_its_block(store: StoreHarness, use: str) -> None:
    with store.unit_of_work(SYSTEM) as uow:
        pass

    with pytest.raises(UnitOfWorkNotOpen):
        USES[use](uow)


def test_a_repository_kept_from_it_cannot_be_used_after_its_block(store: StoreHarness) -> None:
    with store.unit_of_work(SYSTEM) as uow:
        jobs, assets, workers = uow.jobs, uow.assets, uow.workers

    for use in (
        lambda: jobs.find(NOBODY),
        lambda: jobs.create(TYPE, org_id=NOBODY),
        lambda: assets.find(NOBODY),
        lambda: workers.gone(WORKER),
    ):
        with pytest.raises(UnitOfWorkNotOpen):
            use()


def test_it_cannot_be_entered_a_second_time(store: StoreHarness) -> None:
    with store.unit_of_work(OURS) as uow:
        pass

    with pytest.raises(UnitOfWorkNotOpen), uow:
        pass


def test_nobody_can_commit_by_hand(store: StoreHarness) -> None:
    public = {name for name in vars(UnitOfWork) if not name.startswith("_")}

    assert public == {"jobs", "assets", "workers", "queues", "maintenance", "rollback"}
    with store.unit_of_work(OURS) as uow:
        assert not {"commit", "session", "connection", "execute"} & set(dir(uow))


def test_several_verbs_are_kept_together(store: StoreHarness) -> None:
    with store.unit_of_work(OURS) as uow:
        job = uow.jobs.create(TYPE).job
        uow.jobs.claim(job.id, worker=WORKER, lease=LEASE)
        uow.jobs.log(job.id, {"checkpoint": "initialized"})

    with store.views(OURS) as views:
        assert [event.trigger for event in views.history(job.id)] == ["create", "claim", "log"]


HANDED_OUT: dict[str, Callable[[JobRepository, Job], Job | None]] = {
    "find": lambda jobs, job: jobs.find(job.id),
    "get": lambda jobs, job: jobs.get(job.id),
    "with_events": lambda jobs, job: getattr(jobs.with_events(job.id), "job", None),
    "list_with_events": lambda jobs, _: jobs.list_with_events()[0].job,
    "queued": lambda jobs, _: jobs.queued()[0],
    "by_type_and_status": lambda jobs, _: jobs.by_type_and_status(TYPE, Status.QUEUED)[0],
    "create": lambda jobs, _: jobs.create(TYPE).job,
    "replay": lambda jobs, job: jobs.create(TYPE, idempotency_key=job.idempotency_key).job,
    "claim": lambda jobs, job: jobs.claim(job.id, worker=WORKER, lease=LEASE),
    "claim_due": lambda jobs, _: jobs.claim_due(worker=WORKER, types={TYPE}, lease=LEASE, limit=1)[0],
    "log": lambda jobs, job: jobs.log(jobs.claim(job.id, worker=WORKER, lease=LEASE).id, {}),
    "finish": lambda jobs, job: jobs.finish([Ending(jobs.claim(job.id, worker=WORKER, lease=LEASE), Succeed())]).jobs[
        0
    ],
}


@pytest.mark.parametrize("method", HANDED_OUT)
def test_assigning_to_a_job_changes_nothing_stored(store: StoreHarness, method: str) -> None:
    job = create(store, idempotency_key="k")
    with store.unit_of_work(OURS) as uow:
        handed_out = HANDED_OUT[method](uow.jobs, job)
        assert handed_out is not None
        handed_out.priority = 99
        handed_out.payload_json = '{"not":"mine"}'
        assert uow.jobs.get(handed_out.id).priority == 0

    assert {(kept.priority, kept.payload_json) for kept in every_job(store)} == {(0, "{}")}


def test_what_was_committed_before_stays_when_a_later_one_fails(store: StoreHarness) -> None:
    create(store)
    with pytest.raises(RuntimeError):
        create_and_raise(store, RuntimeError())

    assert sum(counts(store).values()) == 1
