"""The six anti-patterns of the developer guide and the four errors of its troubleshooting chapter.

Each is impossible here, or an error that says what to do.
"""

import pytest

from heimdex.domain.errors import (
    IdempotencyConflict,
    NestedUnitOfWork,
    TransientDatabaseError,
    UnitOfWorkNotOpen,
)
from heimdex.domain.job import Job
from heimdex.service_layer.retry import RetryPolicy, RetryTransient
from tests.contract.steps import OURS, TYPE, create
from tests.stores import StoreHarness


def test_1_a_session_inside_another_is_refused_and_the_outer_one_goes_on(store: StoreHarness) -> None:
    with store.unit_of_work(OURS) as uow:
        with pytest.raises(NestedUnitOfWork, match="use that one, or leave it first"), store.unit_of_work(OURS):
            pass
        job = uow.jobs.create(TYPE).job

    with store.unit_of_work(OURS) as uow:
        assert uow.jobs.exists(job.id)


def test_2_nobody_can_commit_by_hand(store: StoreHarness) -> None:
    with store.unit_of_work(OURS) as uow:
        for name in ("commit", "flush", "session", "connection"):
            assert not hasattr(uow, name)
            assert not hasattr(uow.jobs, name)


def test_3_nothing_is_loaded_after_the_end_since_a_job_has_no_events_to_load(store: StoreHarness) -> None:
    job = create(store)
    with store.unit_of_work(OURS) as uow:
        found = uow.jobs.with_events(job.id)

    assert not hasattr(Job, "events")
    assert found is not None
    assert [event.trigger for event in found.events] == ["create"]
    assert found.job.payload == {}


def test_4_histories_of_many_jobs_come_with_the_jobs(store: StoreHarness) -> None:
    """That this is two statements, however many jobs, is shown by tests/adapters/test_statement_counts.py."""
    jobs = [create(store) for _ in range(5)]
    with store.unit_of_work(OURS) as uow:
        found = uow.jobs.list_with_events()

    assert {one.job.id: len(one.events) for one in found} == {job.id: 1 for job in jobs}


def test_5_a_unit_of_work_is_of_no_use_outside_its_block(store: StoreHarness) -> None:
    uow = store.unit_of_work(OURS)
    with pytest.raises(UnitOfWorkNotOpen, match="use it inside `with"):
        uow.jobs.create(TYPE)


def test_6_there_is_no_way_to_run_sql(store: StoreHarness) -> None:
    """What happens to SQL that gets past this, on our engine, is shown by tests/adapters/test_guard.py."""
    with store.unit_of_work(OURS) as uow:
        for name in ("execute", "query", "scalar", "scalars"):
            assert not hasattr(uow, name)
            assert not hasattr(uow.jobs, name)


def test_a_job_is_whole_after_its_unit_of_work_has_ended(store: StoreHarness) -> None:
    """The guide's DetachedInstanceError."""
    with store.unit_of_work(OURS) as uow:
        job = uow.jobs.create(TYPE, {"a": [1]}).job

    assert (job.payload, job.backoff.policy, job.hold, job.result) == ({"a": [1]}, "exp", None, None)


def test_what_is_kept_of_a_unit_of_work_says_that_it_has_ended(store: StoreHarness) -> None:
    """The guide's ResourceClosedError."""
    with store.unit_of_work(OURS) as uow:
        jobs = uow.jobs

    for use in (jobs.queued, lambda: uow.jobs, lambda: jobs.create(TYPE)):
        with pytest.raises(UnitOfWorkNotOpen, match="not open"):
            use()


def test_a_second_create_with_a_key_is_a_replay_or_says_whose_key_it_is(store: StoreHarness) -> None:
    """The guide's IntegrityError on uq_job_org_idempotency."""
    job = create(store, payload={"n": 1}, idempotency_key="k")
    with store.unit_of_work(OURS) as uow:
        assert uow.jobs.create(TYPE, {"n": 1}, idempotency_key="k").replayed
        with pytest.raises(IdempotencyConflict, match=f"already belongs to job {job.id}"):
            uow.jobs.create(TYPE, {"n": 2}, idempotency_key="k")


def test_a_lost_connection_is_tried_again_around_the_whole_unit_of_work(store: StoreHarness) -> None:
    """The guide's OperationalError; a real lost connection: tests/adapters/test_postgres_interleavings.py."""
    tries = []

    def sign_up() -> Job:
        with store.unit_of_work(OURS) as uow:
            job = uow.jobs.create(TYPE).job
            tries.append(job.id)
            if len(tries) == 1:
                raise TransientDatabaseError("the connection was lost")
        return job

    retry = RetryTransient(RetryPolicy(), sleep=lambda _: None, random=lambda: 0.0)
    job = retry(sign_up)

    with store.unit_of_work(OURS) as uow:
        assert [queued.id for queued in uow.jobs.queued()] == [job.id]
    assert len(tries) == 2
