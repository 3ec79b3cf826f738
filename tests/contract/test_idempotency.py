"""Creating with an idempotency key: one job for each organisation and key, whoever asks how often."""

from uuid import UUID

import pytest

from heimdex.domain.errors import IdempotencyConflict
from heimdex.domain.json_text import fingerprint
from heimdex.domain.new_job import JobLimits, NewJob
from heimdex.domain.outcomes import Succeed
from heimdex.domain.results import Created
from tests.contract.steps import (
    OURS,
    SYSTEM,
    THEIRS,
    TYPE,
    claim_by_id,
    columns,
    create,
    every_job,
    finish,
    stored,
    triggers,
)
from tests.stores import StoreHarness


def test_the_second_create_with_a_key_replays_the_first(store: StoreHarness) -> None:
    with store.unit_of_work(OURS) as uow:
        first = uow.jobs.create(TYPE, {"a": 1}, idempotency_key="k")
    with store.unit_of_work(OURS) as uow:
        second = uow.jobs.create(TYPE, {"a": 1}, idempotency_key="k")

    assert (first.replayed, second.replayed) == (False, True)
    assert columns(first.job) == columns(second.job)
    assert len(every_job(store)) == 1
    assert triggers(store, first.job) == ["create"]


def test_a_replay_shows_the_job_as_it_is_now(store: StoreHarness) -> None:
    job = create(store, idempotency_key="k")
    finish(store, claim_by_id(store, job), Succeed('"done"'))

    with store.unit_of_work(OURS) as uow:
        again = uow.jobs.create(TYPE, idempotency_key="k")

    assert again.replayed
    assert columns(again.job) == columns(stored(store, job))
    assert again.job.result == "done"


def test_what_is_not_type_or_payload_may_differ_and_changes_nothing(store: StoreHarness) -> None:
    job = create(store, payload={"b": 1, "a": 2}, idempotency_key="k")

    with store.unit_of_work(SYSTEM) as uow:
        again = uow.jobs.create(
            TYPE,
            {"a": 2, "b": 1},
            org_id=job.org_id,
            idempotency_key="k",
            queue="other",
            priority=9,
            limits=JobLimits(max_attempts=1),
        )

    assert again.replayed
    assert columns(stored(store, job)) == columns(job)


@pytest.mark.parametrize(("type", "payload"), [(TYPE, {"a": 2}), ("other.type", {"a": 1})])
def test_another_type_or_payload_under_the_key_is_a_conflict(
    store: StoreHarness, type: str, payload: dict[str, int]
) -> None:
    job = create(store, payload={"a": 1}, idempotency_key="k")

    with store.unit_of_work(OURS) as uow, pytest.raises(IdempotencyConflict) as raised:
        uow.jobs.create(type, payload, idempotency_key="k")

    error = raised.value
    assert (error.idempotency_key, error.job_id) == ("k", job.id)
    assert error.stored_fingerprint == job.fingerprint == fingerprint(TYPE, '{"a":1}')
    assert error.given_fingerprint == fingerprint(type, f'{{"a":{payload["a"]}}}')
    assert [columns(kept) for kept in every_job(store)] == [columns(job)]


def test_a_key_twice_in_one_call_creates_once_and_replays_once(store: StoreHarness) -> None:
    with store.unit_of_work(OURS) as uow:
        first, free, second = uow.jobs.create_many(
            [NewJob(TYPE, idempotency_key="k"), NewJob(TYPE), NewJob(TYPE, idempotency_key="k", priority=7)]
        )

    assert [one.replayed for one in (first, free, second)] == [False, False, True]
    assert second.job.id == first.job.id
    assert [(job.id, job.priority) for job in every_job(store)] == [(first.job.id, 0), (free.job.id, 0)]


def test_bulk_create_replays_some_and_creates_the_others(store: StoreHarness) -> None:
    old = create(store, idempotency_key="b")

    with store.unit_of_work(OURS) as uow:
        created = uow.jobs.create_many([NewJob(TYPE, idempotency_key=key) for key in "cba"])

    assert [one.replayed for one in created] == [False, True, False]
    assert [one.job.idempotency_key for one in created] == ["c", "b", "a"]
    assert created[1].job.id == old.id
    assert len(every_job(store)) == 3


@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_conflict_of_many_leaves_none_and_the_unit_of_work_goes_on(store: StoreHarness, place: int) -> None:
    old = create(store, payload={"a": 1}, idempotency_key="old")
    new = [NewJob(TYPE), NewJob(TYPE, idempotency_key="new")]
    new.insert(place, NewJob(TYPE, {"a": 2}, idempotency_key="old"))

    with store.unit_of_work(OURS) as uow:
        before = uow.jobs.create(TYPE).job
        with pytest.raises(IdempotencyConflict):
            uow.jobs.create_many(new)
        after = uow.jobs.create(TYPE, idempotency_key="new")

    assert not after.replayed
    assert [job.id for job in every_job(store)] == [old.id, before.id, after.job.id]


def test_a_conflict_inside_one_call_may_end_the_unit_of_work(store: StoreHarness) -> None:
    new = [NewJob(TYPE, {"a": number}, idempotency_key="k") for number in (1, 2)]

    with pytest.raises(IdempotencyConflict), store.unit_of_work(OURS) as uow:
        uow.jobs.create_many(new)

    assert every_job(store) == []


def test_a_conflict_inside_one_call_leaves_none(store: StoreHarness) -> None:
    with store.unit_of_work(OURS) as uow, pytest.raises(IdempotencyConflict):
        uow.jobs.create_many([NewJob(TYPE, {"a": 1}, idempotency_key="k"), NewJob(TYPE, {"a": 2}, idempotency_key="k")])

    assert every_job(store) == []


def test_the_same_key_in_another_organisation_is_its_own_job(store: StoreHarness) -> None:
    ours = create(store, payload={"a": 1}, idempotency_key="k")
    theirs = create(store, payload={"a": 2}, idempotency_key="k", scope=THEIRS)

    assert [job.id for job in every_job(store)] == [ours.id, theirs.id]
    with store.unit_of_work(THEIRS) as uow:
        assert uow.jobs.create(TYPE, {"a": 2}, idempotency_key="k").job.id == theirs.id


def test_a_key_is_free_again_when_its_job_was_rolled_back(store: StoreHarness) -> None:
    with store.unit_of_work(OURS) as uow:
        uow.jobs.create(TYPE, {"a": 1}, idempotency_key="k")
        uow.rollback()
    with store.unit_of_work(OURS) as uow:
        assert not uow.jobs.create(TYPE, {"a": 2}, idempotency_key="k").replayed


def test_keys_are_compared_letter_by_letter(store: StoreHarness) -> None:
    jobs = [create(store, idempotency_key=key) for key in ("k", "K", "k ", "é", "e\u0301")]

    assert len(every_job(store)) == len(jobs)


def test_a_replay_wakes_nobody(store: StoreHarness) -> None:
    create(store, idempotency_key="k")
    wakes: list[None] = []
    unsubscribe = store.wakeups.subscribe(lambda: wakes.append(None))

    create(store, idempotency_key="k")
    unsubscribe()

    assert wakes == []


def test_a_job_that_is_there_under_the_id_that_was_asked_for_is_no_replay(store: StoreHarness) -> None:
    """So looks a second try of a command whose first was committed without anybody hearing of it."""
    asked_for, other_id = store.tools.ids(), store.tools.ids()

    answers = [create_under(store, job_id) for job_id in (asked_for, asked_for, other_id)]

    assert {answer.job.id for answer in answers} == {asked_for}
    assert [answer.replayed for answer in answers] == [False, False, True]


def create_under(store: StoreHarness, job_id: UUID) -> Created:
    with store.unit_of_work(OURS) as uow:
        [created] = uow.jobs.create_many([NewJob(TYPE, {"n": 1}, idempotency_key="k", id=job_id)])
    return created
