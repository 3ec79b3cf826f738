"""Queues that are paused: for one organisation, and for every one."""

from datetime import timedelta
from functools import partial

import pytest

from heimdex.domain.errors import InvalidInput
from heimdex.domain.operations import PausedQueue
from heimdex.domain.outcomes import Succeed
from heimdex.domain.scope import Scope
from tests.contract.steps import ORG, OURS, SYSTEM, THEIRS, claim, claim_by_id, create, finish
from tests.stores import StoreHarness


def pause(store: StoreHarness, queue: str = "slow", *, scope: Scope = OURS, reason: str = "flooded") -> None:
    with store.unit_of_work(scope) as uow:
        uow.queues.pause(queue, reason=reason)


def resume(store: StoreHarness, queue: str = "slow", *, scope: Scope = OURS) -> bool:
    with store.unit_of_work(scope) as uow:
        return uow.queues.resume(queue)


def test_a_queue_paused_by_an_organisation_keeps_its_own_jobs_and_no_others(store: StoreHarness) -> None:
    ours, theirs, other = create(store, queue="slow"), create(store, queue="slow", scope=THEIRS), create(store)

    pause(store)

    assert {job.id for job in claim(store, 10)} == {theirs.id, other.id}
    assert resume(store)
    assert [job.id for job in claim(store, 10)] == [ours.id]


def test_a_queue_that_is_resumed_wakes_its_workers_and_one_that_was_not_paused_wakes_nobody(
    store: StoreHarness,
) -> None:
    create(store, queue="slow")
    pause(store)
    woken: list[str] = []
    ends = [store.wakeups.subscribe(partial(woken.append, queue), {queue}) for queue in ("slow", "quick")]
    resume(store, "quick")
    assert woken == []
    resume(store)
    resume(store)
    for unsubscribe in ends:
        unsubscribe()

    assert woken == ["slow"]


def test_a_queue_paused_by_the_system_keeps_everybodys_jobs(store: StoreHarness) -> None:
    create(store, queue="slow"), create(store, queue="slow", scope=THEIRS)

    pause(store, scope=SYSTEM)

    assert claim(store, 10) == []
    assert not resume(store, scope=OURS)
    assert claim(store, 10) == []
    assert resume(store, scope=SYSTEM)
    assert len(claim(store, 10)) == 2


def test_what_runs_when_its_queue_is_paused_goes_on(store: StoreHarness) -> None:
    job = claim_by_id(store, create(store, queue="slow"))

    pause(store)

    assert finish(store, job, Succeed()).jobs


def test_a_job_of_a_paused_queue_can_be_claimed_by_its_id(store: StoreHarness) -> None:
    job = create(store, queue="slow")
    pause(store)

    assert claim_by_id(store, job).lease_seq == 2


def test_paused_again_the_last_reason_counts(store: StoreHarness) -> None:
    pause(store)
    store.advance(timedelta(minutes=1))
    pause(store, reason="still flooded")

    with store.views(OURS) as views:
        [queue] = views.queues()

    assert queue.paused == (
        PausedQueue(queue="slow", org_id=ORG, actor=OURS.actor, reason="still flooded", paused_at=store.clock.now()),
    )
    assert resume(store)
    assert not resume(store)


def test_a_pause_that_is_rolled_back_pauses_nothing(store: StoreHarness) -> None:
    create(store, queue="slow")
    with store.unit_of_work(OURS) as uow:
        uow.queues.pause("slow", reason="flooded")
        uow.rollback()

    assert len(claim(store)) == 1


def test_an_organisation_sees_its_pauses_and_those_for_everybody(store: StoreHarness) -> None:
    create(store, queue="busy"), claim_by_id(store, create(store, queue="busy"))
    create(store, queue="busy", scope=THEIRS)
    pause(store)
    pause(store, scope=THEIRS, reason="theirs")
    pause(store, "mail", scope=SYSTEM)

    with store.views(OURS) as views:
        seen = {queue.queue: (queue.queued, queue.running, len(queue.paused)) for queue in views.queues()}
    with store.views(SYSTEM) as views:
        everything = {queue.queue: (queue.queued, queue.running, len(queue.paused)) for queue in views.queues()}

    assert seen == {"busy": (1, 1, 0), "mail": (0, 0, 1), "slow": (0, 0, 1)}
    assert everything == {"busy": (2, 1, 0), "mail": (0, 0, 1), "slow": (0, 0, 2)}


@pytest.mark.parametrize(("queue", "reason", "field"), [("", "r", "queue"), ("q", "", "reason"), ("q\n", "r", "queue")])
def test_a_pause_without_a_queue_or_a_reason_is_refused(
    store: StoreHarness, queue: str, reason: str, field: str
) -> None:
    with pytest.raises(InvalidInput, match=field):
        pause(store, queue, reason=reason)
