"""The reading methods of the job repository."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from heimdex.domain.errors import InvalidInput, JobNotFound
from heimdex.domain.outcomes import Cancel, Snooze, Succeed
from heimdex.domain.transitions import Status
from heimdex.service_layer.ports import JobRepository
from tests.contract.steps import (
    LEASE,
    NOBODY,
    OURS,
    TYPE,
    WORKER,
    columns,
    create,
    finish,
    history,
    running,
    stored,
)
from tests.stores import START, StoreHarness

A_SECOND = timedelta(seconds=1)


def test_find_returns_the_job_or_none(store: StoreHarness) -> None:
    job = create(store, payload={"a": 1})
    with store.unit_of_work(OURS) as uow:
        found = uow.jobs.find(job.id)
        assert found is not None
        assert columns(found) == columns(job)
        assert uow.jobs.find(NOBODY) is None


def test_get_returns_the_job_or_says_that_it_was_not_found(store: StoreHarness) -> None:
    job = create(store)
    with store.unit_of_work(OURS) as uow:
        assert columns(uow.jobs.get(job.id)) == columns(job)
        with pytest.raises(JobNotFound, match="check the id and the organisation") as raised:
            uow.jobs.get(NOBODY)

    assert raised.value.job_id == NOBODY


def test_exists_says_whether_the_job_is_there(store: StoreHarness) -> None:
    job = create(store)
    with store.unit_of_work(OURS) as uow:
        assert uow.jobs.exists(job.id) is True
        assert uow.jobs.exists(NOBODY) is False


def test_with_events_returns_the_job_and_its_whole_history(store: StoreHarness) -> None:
    held = running(store, payload={"a": 1})
    create(store)
    with store.unit_of_work(OURS) as uow:
        found = uow.jobs.with_events(held.id)
        assert uow.jobs.with_events(NOBODY) is None

    assert found is not None
    assert columns(found.job) == columns(stored(store, held))
    assert [(event.seq, event.trigger) for event in found.events] == [(1, "create"), (2, "claim")]
    assert [event.detail for event in found.events] == [event.detail for event in history(store, held)]


def test_list_with_events_returns_the_newest_first_with_their_histories(store: StoreHarness) -> None:
    old = running(store)
    same_time = create(store, "other.type")
    store.advance(A_SECOND)
    new = create(store)

    with store.unit_of_work(OURS) as uow:
        listed = uow.jobs.list_with_events()
        assert [one.job.id for one in uow.jobs.list_with_events(limit=1)] == [new.id]
        assert [one.job.id for one in uow.jobs.list_with_events(status=Status.RUNNING)] == [old.id]
        assert [one.job.id for one in uow.jobs.list_with_events(type="other.type")] == [same_time.id]
        assert uow.jobs.list_with_events(type="other.type", status=Status.RUNNING) == []

    assert [one.job.id for one in listed] == [new.id, same_time.id, old.id]
    assert [[event.trigger for event in one.events] for one in listed] == [["create"], ["create"], ["create", "claim"]]
    assert columns(listed[2].job) == columns(stored(store, old))


def test_the_latest_event_is_the_one_with_the_highest_number(store: StoreHarness) -> None:
    held = running(store)
    with store.unit_of_work(OURS) as uow:
        for n in range(10):
            uow.jobs.log(held.id, {"n": n})
        latest = uow.jobs.latest_event(held.id)
        assert uow.jobs.latest_event(NOBODY) is None

    assert latest is not None
    assert (latest.seq, latest.detail) == (12, {"n": 9})


def test_queued_jobs_come_in_claim_order_due_or_not(store: StoreHarness) -> None:
    low = create(store, priority=-1)
    later = create(store, scheduled_at=START + LEASE)
    due = create(store, "other.type")
    high = create(store, priority=1, scheduled_at=START + LEASE)
    running(store)

    with store.unit_of_work(OURS) as uow:
        assert [job.id for job in uow.jobs.queued()] == [high.id, due.id, later.id, low.id]
        assert [job.id for job in uow.jobs.queued(limit=2)] == [high.id, due.id]
        assert [job.id for job in uow.jobs.queued(type=TYPE)] == [high.id, later.id, low.id]
        assert [job.id for job in uow.jobs.queued(type=TYPE, limit=1)] == [high.id]
        assert uow.jobs.queued(type="unheard of") == []


def test_queued_shows_ten_unless_asked_for_more(store: StoreHarness) -> None:
    with store.unit_of_work(OURS) as uow:
        for _ in range(12):
            uow.jobs.create(TYPE)
        assert (len(uow.jobs.queued()), len(uow.jobs.queued(limit=100))) == (10, 12)


def test_jobs_by_type_and_status_come_newest_first(store: StoreHarness) -> None:
    old, other = create(store), create(store, "other.type")
    store.advance(A_SECOND)
    new = create(store)
    running(store)

    with store.unit_of_work(OURS) as uow:
        assert [job.id for job in uow.jobs.by_type_and_status(TYPE, Status.QUEUED)] == [new.id, old.id]
        assert [job.id for job in uow.jobs.by_type_and_status(TYPE, Status.QUEUED, limit=1)] == [new.id]
        assert [job.id for job in uow.jobs.by_type_and_status("other.type", Status.QUEUED)] == [other.id]
        assert uow.jobs.by_type_and_status("other.type", Status.RUNNING) == []


def test_ids_come_newest_first(store: StoreHarness) -> None:
    old = create(store)
    store.advance(A_SECOND)
    new = create(store)
    done = running(store)
    finish(store, done, Succeed())

    with store.unit_of_work(OURS) as uow:
        assert uow.jobs.ids(Status.QUEUED) == [new.id, old.id]
        assert uow.jobs.ids(Status.QUEUED, limit=1) == [new.id]
        assert uow.jobs.ids(Status.SUCCEEDED) == [done.id]
        assert uow.jobs.ids(Status.DEAD_LETTER) == []


def test_every_status_can_be_asked_for(store: StoreHarness) -> None:
    finish(store, running(store), Cancel("not wanted"))
    finish(store, running(store), Snooze(LEASE))

    with store.unit_of_work(OURS) as uow:
        assert {status: len(uow.jobs.ids(status)) for status in Status} == dict.fromkeys(Status, 0) | {
            Status.CANCELED: 1,
            Status.QUEUED: 1,
        }


LIMITED: dict[str, Callable[[JobRepository, int], list[object]]] = {
    "list_with_events": lambda jobs, limit: [*jobs.list_with_events(limit=limit)],
    "queued": lambda jobs, limit: [*jobs.queued(limit=limit)],
    "by_type_and_status": lambda jobs, limit: [*jobs.by_type_and_status(TYPE, Status.QUEUED, limit=limit)],
    "ids": lambda jobs, limit: [*jobs.ids(Status.QUEUED, limit=limit)],
}


@pytest.mark.parametrize("method", LIMITED)
def test_limits_are_bounded(store: StoreHarness, method: str) -> None:
    create(store)
    with store.unit_of_work(OURS) as uow:
        assert LIMITED[method](uow.jobs, 0) == []
        assert len(LIMITED[method](uow.jobs, 1_000)) == 1
        for limit in (-1, 1_001, True):
            with pytest.raises(InvalidInput, match="limit"):
                LIMITED[method](uow.jobs, limit)


def test_a_unit_of_work_reads_what_it_wrote(store: StoreHarness) -> None:
    old = create(store)
    with store.unit_of_work(OURS) as uow:
        new = uow.jobs.create(TYPE, priority=1).job
        assert [job.id for job in uow.jobs.queued()] == [new.id, old.id]
        uow.jobs.claim(old.id, worker=WORKER, lease=LEASE)

        assert [job.id for job in uow.jobs.queued()] == [new.id]
        assert uow.jobs.ids(Status.RUNNING) == [old.id]
        assert [len(one.events) for one in uow.jobs.list_with_events()] == [1, 2]
        latest, both = uow.jobs.latest_event(old.id), uow.jobs.with_events(old.id)

    assert latest is not None
    assert both is not None
    assert (latest.seq, both.job.version, len(both.events)) == (2, 2, 2)


def test_events_cannot_be_changed(store: StoreHarness) -> None:
    job = create(store)
    with store.unit_of_work(OURS) as uow:
        event = uow.jobs.latest_event(job.id)

    assert event is not None
    with pytest.raises(AttributeError):
        event.actor = "somebody else"
