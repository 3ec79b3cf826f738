"""Why a job is not running: one test for each blocker."""

from datetime import timedelta

import pytest

from heimdex.domain.errors import JobNotFound
from heimdex.domain.job import Job
from heimdex.domain.outcomes import Fail, Snooze, Succeed
from heimdex.domain.waiting import Blocker, BlockerKind
from heimdex.service_layer.ports import WORKER_ALIVE_FOR
from tests.contract.steps import NOBODY, OURS, SYSTEM, THEIRS, TYPE, WORKER, crash, create, finish, running
from tests.stores import StoreHarness


def why(store: StoreHarness, job: Job) -> tuple[Blocker, ...]:
    with store.views(OURS) as views:
        return views.explain_waiting(job.id)


def kinds(store: StoreHarness, job: Job) -> list[BlockerKind]:
    return [blocker.kind for blocker in why(store, job)]


def a_worker(store: StoreHarness, *, types: set[str] | None = None, queues: set[str] | None = None) -> None:
    with store.unit_of_work(SYSTEM) as uow:
        uow.workers.seen(WORKER, name="w", types=types or {TYPE}, queues=queues or set())


def test_a_due_job_with_a_worker_is_blocked_by_nothing(store: StoreHarness) -> None:
    a_worker(store)

    assert why(store, create(store)) == ()


def test_a_job_for_later_says_until_when(store: StoreHarness) -> None:
    a_worker(store)
    later = store.clock.now() + timedelta(hours=1)

    [blocker] = why(store, create(store, scheduled_at=later))

    assert (blocker.kind, blocker.until) == (BlockerKind.SCHEDULED, later)


def test_a_job_in_backoff_says_what_failed_and_until_when(store: StoreHarness) -> None:
    a_worker(store)
    job = running(store)
    finish(store, job, Fail("boom", "it broke"))

    [blocker] = why(store, job)

    assert blocker.kind is BlockerKind.BACKOFF
    assert "attempt 1 of 5 failed (boom)" in blocker.text
    assert blocker.until is not None
    assert blocker.until > store.clock.now()


def test_a_snoozed_job_says_so(store: StoreHarness) -> None:
    a_worker(store)
    job = running(store)
    finish(store, job, Snooze(timedelta(minutes=5)))

    assert kinds(store, job) == [BlockerKind.SNOOZED]


def test_a_paused_queue_says_who_paused_it_and_why(store: StoreHarness) -> None:
    a_worker(store)
    job = create(store, queue="slow")
    for scope in (OURS, SYSTEM):
        with store.unit_of_work(scope) as uow:
            uow.queues.pause("slow", reason="flooded")
    with store.unit_of_work(THEIRS) as uow:
        uow.queues.pause("slow", reason="not ours")

    texts = [blocker.text for blocker in why(store, job)]

    assert texts == [
        f"queue slow is paused for every organisation by {SYSTEM.actor}: flooded",
        f"queue slow is paused for its organisation by {OURS.actor}: flooded",
    ]


@pytest.mark.parametrize("case", ["none", "other type", "other queue", "dead"])
def test_a_type_that_no_living_worker_claims_from_its_queue_says_so(store: StoreHarness, case: str) -> None:
    if case == "other type":
        a_worker(store, types={"other"})
    elif case == "other queue":
        a_worker(store, queues={"other"})
    elif case == "dead":
        a_worker(store)
        store.advance(WORKER_ALIVE_FOR)

    [blocker] = why(store, create(store))

    assert blocker.text == f"no living worker claims {TYPE} from queue default"


def test_a_worker_of_this_queue_and_type_is_enough(store: StoreHarness) -> None:
    a_worker(store, queues={"slow", "default"})

    assert why(store, create(store, queue="slow")) == ()


def test_a_suspect_says_that_it_waits_to_run_alone(store: StoreHarness) -> None:
    a_worker(store)
    job = create(store)
    crash(store, job)
    a_worker(store)

    [blocker] = why(store, job)

    assert (blocker.kind, blocker.text.split(" ")[0]) == (BlockerKind.SUSPECT, "1")


def test_a_job_behind_others_says_how_many(store: StoreHarness) -> None:
    a_worker(store)
    create(store), create(store, priority=5), create(store, queue="slow"), create(store, priority=-1)
    create(store, scheduled_at=store.clock.now() + timedelta(hours=1), priority=9)
    job = create(store)
    create(store)

    [blocker] = why(store, job)

    assert (blocker.kind, blocker.text) == (BlockerKind.BEHIND, "2 due jobs come before it")


def test_several_blockers_are_all_told(store: StoreHarness) -> None:
    create(store)
    job = create(store, scheduled_at=store.clock.now() + timedelta(hours=1))

    assert kinds(store, job) == [BlockerKind.SCHEDULED, BlockerKind.NO_WORKER, BlockerKind.BEHIND]


def test_a_running_job_says_who_holds_it(store: StoreHarness) -> None:
    job = running(store)

    [blocker] = why(store, job)

    assert (blocker.kind, blocker.until) == (BlockerKind.RUNNING, job.lease_until)
    assert str(WORKER) in blocker.text


def test_a_job_that_has_ended_says_how(store: StoreHarness) -> None:
    job = running(store)
    finish(store, job, Succeed())

    assert why(store, job) == (Blocker(BlockerKind.ENDED, "it has ended: succeeded", store.clock.now()),)


def test_a_missing_job_is_not_found(store: StoreHarness) -> None:
    theirs = create(store, scope=THEIRS)
    for job_id in (theirs.id, NOBODY):
        with pytest.raises(JobNotFound), store.views(OURS) as views:
            views.explain_waiting(job_id)
