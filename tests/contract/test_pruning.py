"""What is deleted, what stays, and what is left of an organisation that was erased."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from heimdex.domain.asset import NewAsset
from heimdex.domain.errors import InvalidInput, UnscopedStatement
from heimdex.domain.job import Job
from heimdex.domain.operations import Removed, Retention
from heimdex.domain.outcomes import Succeed
from heimdex.domain.results import Ending
from heimdex.service_layer.ports import MaintenanceRepository
from tests.contract.steps import (
    ORG,
    OTHER_ORG,
    OURS,
    SYSTEM,
    THEIRS,
    claim_by_id,
    create,
    every_job,
    finish,
    history,
    refusals,
    running,
)
from tests.stores import StoreHarness

DAY = timedelta(days=1)
RETENTION = Retention(jobs=10 * DAY, keys=40 * DAY, histories=100 * DAY)
ERASURE = UUID(int=77)


def maintain(store: StoreHarness, act: Callable[[MaintenanceRepository], Removed]) -> Removed:
    with store.unit_of_work(SYSTEM) as uow:
        return act(uow.maintenance)


def prune(store: StoreHarness, limit: int = 100) -> Removed:
    return maintain(store, lambda maintenance: maintenance.prune_jobs(RETENTION, limit=limit))


def prune_histories(store: StoreHarness, limit: int = 100) -> Removed:
    return maintain(store, lambda maintenance: maintenance.prune_histories(RETENTION, limit=limit))


def erase(store: StoreHarness, org_id: UUID = ORG, limit: int = 100) -> Removed:
    return maintain(store, lambda maintenance: maintenance.erase(ERASURE, org_id, reason="they left us", limit=limit))


def ended(store: StoreHarness, **options: Any) -> Job:  # noqa: ANN401 - what a repository's create takes
    """Create a job that has succeeded, with an asset and a refused second end."""
    job = running(store, **options)
    with store.unit_of_work(SYSTEM) as uow:
        uow.jobs.finish([Ending(job, Succeed())])
        uow.assets.add(job, NewAsset.of("file:///a", media_type="text/plain", size=1, sha256="0" * 64))
    finish(store, job, Succeed())
    return job


def test_a_job_that_ended_long_enough_ago_goes_with_its_assets_and_leaves_its_history(store: StoreHarness) -> None:
    job = ended(store)
    store.advance(RETENTION.jobs - timedelta(milliseconds=1))
    assert prune(store) == Removed()
    store.advance(timedelta(milliseconds=1))

    assert prune(store) == Removed(jobs=1, assets=1)
    assert every_job(store) == []
    assert [event.trigger for event in history(store, job)] == ["create", "claim", "succeed"]
    assert refusals(store, job) == 1
    with store.views(SYSTEM) as views:
        assert views.assets([job.id]) == {job.id: ()}


def test_what_has_not_ended_stays_for_ever(store: StoreHarness) -> None:
    waiting, held = create(store), running(store)
    store.advance(timedelta(days=300))

    assert prune(store) == Removed()
    assert {job.id for job in every_job(store)} == {waiting.id, held.id}


def test_a_key_is_kept_for_its_own_time(store: StoreHarness) -> None:
    job = ended(store, idempotency_key="k")
    store.advance(RETENTION.keys - timedelta(milliseconds=1))
    assert prune(store) == Removed()
    with store.unit_of_work(OURS) as uow:
        assert uow.jobs.create(job.type, idempotency_key="k").replayed
    store.advance(timedelta(milliseconds=1))

    assert prune(store).jobs == 1
    with store.unit_of_work(OURS) as uow:
        assert not uow.jobs.create(job.type, idempotency_key="k").replayed


def test_a_step_is_bounded_and_takes_the_earliest_end_first(store: StoreHarness) -> None:
    jobs = []
    for _ in range(3):
        jobs.append(ended(store))
        store.advance(timedelta(minutes=1))
    store.advance(RETENTION.jobs)

    assert [prune(store, 2).jobs, prune(store, 2).jobs, prune(store, 2).jobs] == [2, 1, 0]


def test_the_history_goes_when_its_own_time_has_come_and_its_job_is_gone(store: StoreHarness) -> None:
    job, kept = ended(store), ended(store, scope=THEIRS, idempotency_key="k")
    store.advance(RETENTION.keys - DAY)
    prune(store)
    store.advance(RETENTION.histories - (RETENTION.keys - DAY) - timedelta(milliseconds=1))
    assert prune_histories(store) == Removed()
    store.advance(timedelta(milliseconds=1))

    assert prune_histories(store) == Removed(events=3, refusals=1)
    assert history(store, job) == ()
    assert refusals(store, job) == 0
    assert len(history(store, kept)) == 3


def test_a_pruning_that_is_rolled_back_deletes_nothing(store: StoreHarness) -> None:
    job = ended(store)
    store.advance(RETENTION.jobs)
    with store.unit_of_work(SYSTEM) as uow:
        uow.maintenance.prune_jobs(RETENTION, limit=10)
        assert uow.jobs.find(job.id) is None
        uow.rollback()
        assert uow.jobs.find(job.id) is not None

    assert [left.id for left in every_job(store)] == [job.id]


def test_an_erased_organisation_leaves_a_count_and_nothing_else(store: StoreHarness) -> None:
    job, waiting, held = ended(store), create(store, idempotency_key="k"), running(store)
    theirs = ended(store, scope=THEIRS)
    with store.unit_of_work(OURS) as uow:
        uow.queues.pause("slow", reason="flooded")

    steps = [erase(store, limit=2), erase(store, limit=2), erase(store, limit=2)]

    assert sum(step.jobs for step in steps) == 3
    assert steps[-1] == Removed()
    assert [left.id for left in every_job(store)] == [theirs.id]
    for gone in (job, waiting, held):
        assert history(store, gone) == ()
    assert len(history(store, theirs)) == 3
    with store.views(SYSTEM) as views:
        [erasure] = views.erasures()
        assert views.queues() == ()
    assert (erasure.id, erasure.org_id, erasure.actor, erasure.reason) == (ERASURE, ORG, SYSTEM.actor, "they left us")
    assert erasure.removed == Removed(jobs=3, events=6, refusals=1, assets=1)
    assert erasure.erased_at == store.clock.now()


def test_who_held_a_job_of_an_erased_organisation_is_refused(store: StoreHarness) -> None:
    held = running(store)
    erase(store)

    assert [refusal.job_id for refusal in finish(store, held, Succeed()).refusals] == [held.id]
    assert every_job(store) == []


def test_erasing_takes_histories_whose_jobs_were_pruned_before(store: StoreHarness) -> None:
    job = ended(store)
    store.advance(RETENTION.jobs)
    prune(store)

    assert erase(store) == Removed(events=3, refusals=1)
    assert history(store, job) == ()


def test_an_organisation_that_has_nothing_leaves_a_count_of_nothing(store: StoreHarness) -> None:
    assert erase(store, OTHER_ORG) == Removed()
    with store.views(SYSTEM) as views:
        assert [erasure.removed for erasure in views.erasures()] == [Removed()]
    with store.views(OURS) as views:
        assert views.erasures() == ()


def test_only_the_system_may_delete(store: StoreHarness) -> None:
    with pytest.raises(UnscopedStatement), store.unit_of_work(OURS) as uow:
        uow.maintenance.prune_jobs(RETENTION, limit=1)


def test_a_key_is_kept_for_a_month_at_least() -> None:
    with pytest.raises(InvalidInput, match=r"keys.*at least 30 days"):
        Retention(keys=timedelta(days=29))


def test_a_job_that_another_unit_of_work_holds_is_pruned_later(store: StoreHarness) -> None:
    job = claim_by_id(store, create(store))
    finish(store, job, Succeed())
    store.advance(RETENTION.jobs)

    assert prune(store).jobs == 1
