"""The wall between organisations: under a Tenant, what belongs to another one is not there.

Every method of every repository and of the views is called twice by a stranger, once on an empty store and once where
the rows of another organisation are: both answers must be the same. A new method needs an entry here.
"""

from collections.abc import Callable
from inspect import getmembers, isfunction
from uuid import UUID

import pytest
from attrs import frozen

from heimdex.domain.asset import Asset, NewAsset
from heimdex.domain.errors import HeimdexError, JobNotFound, UnscopedStatement
from heimdex.domain.job import Job
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.new_job import NewJob
from heimdex.domain.operations import Retention
from heimdex.domain.outcomes import Progress, Succeed
from heimdex.domain.results import Ending, Report
from heimdex.domain.transitions import Status
from heimdex.service_layer.ports import (
    AssetRepository,
    JobRepository,
    MaintenanceRepository,
    QueueRepository,
    UnitOfWork,
    Views,
    WorkerRepository,
)
from tests.contract.steps import (
    LEASE,
    OTHER_WORKER,
    OURS,
    SYSTEM,
    THEIRS,
    TYPE,
    WORKER,
    claim_by_id,
    columns,
    create,
    every_job,
    finish,
    history,
    hold_of,
    refusals,
    running,
)
from tests.stores import StoreHarness

THING = NewAsset.of("file:///a", media_type="text/plain", size=1, sha256="0" * 64)


@frozen
class Foreign:
    """What the other organisation has: a job that runs and has an asset, one that waits, one with a refused write."""

    held: Job
    waiting: Job
    ended: Job
    asset: Asset


def populate(store: StoreHarness) -> Foreign:
    held = running(store, scope=THEIRS, payload={"secret": 1}, idempotency_key="k")
    waiting = create(store, scope=THEIRS)
    ended = running(store, scope=THEIRS)
    finish(store, ended, Succeed())
    finish(store, ended, Succeed())
    with store.unit_of_work(THEIRS) as uow:
        asset = uow.assets.add(held, THING)
    with store.unit_of_work(THEIRS) as uow:
        uow.queues.pause("slow", reason="theirs")
    with store.unit_of_work(SYSTEM) as uow:
        uow.maintenance.erase(UUID(int=8), UUID(int=80), reason="they left", limit=1)
        uow.workers.seen(WORKER, name="w", types=[TYPE], queues=["default"])
    # Their run has run out: whoever may expire it would.
    store.advance(LEASE)
    return Foreign(held, waiting, ended, asset)


IN_UNIT_OF_WORK: dict[str, Callable[[UnitOfWork, Foreign], object]] = {
    "JobRepository.create": lambda uow, their: uow.jobs.create(TYPE, parent_id=their.held.id),
    "JobRepository.create_many": lambda uow, their: uow.jobs.create_many([NewJob(TYPE)], parent_id=their.waiting.id),
    "JobRepository.find": lambda uow, their: uow.jobs.find(their.held.id),
    "JobRepository.get": lambda uow, their: uow.jobs.get(their.held.id),
    "JobRepository.find_many": lambda uow, their: uow.jobs.find_many([their.held.id, their.waiting.id]),
    "JobRepository.made_by": lambda uow, their: uow.jobs.made_by([NewJob(TYPE, id=their.waiting.id)]),
    "JobRepository.settled_event": lambda uow, their: uow.jobs.settled_event(their.held.id, 1),
    "JobRepository.claim_one_by_one": lambda uow, _: uow.jobs.claim_one_by_one(
        worker=OTHER_WORKER, types={TYPE}, lease=LEASE, limit=9
    ),
    "JobRepository.expire_one_by_one": lambda uow, _: uow.jobs.expire_one_by_one(limit=9),
    "JobRepository.exists": lambda uow, their: uow.jobs.exists(their.held.id),
    "JobRepository.with_events": lambda uow, their: uow.jobs.with_events(their.held.id),
    "JobRepository.list_with_events": lambda uow, _: uow.jobs.list_with_events(),
    "JobRepository.latest_event": lambda uow, their: uow.jobs.latest_event(their.held.id),
    "JobRepository.queued": lambda uow, _: uow.jobs.queued(),
    "JobRepository.by_type_and_status": lambda uow, _: uow.jobs.by_type_and_status(TYPE, Status.RUNNING),
    "JobRepository.ids": lambda uow, _: uow.jobs.ids(Status.QUEUED),
    "JobRepository.claim": lambda uow, their: uow.jobs.claim(their.waiting.id, worker=OTHER_WORKER, lease=LEASE),
    "JobRepository.claim_due": lambda uow, _: uow.jobs.claim_due(
        worker=OTHER_WORKER, types={TYPE}, lease=LEASE, limit=9
    ),
    "JobRepository.finish": lambda uow, their: uow.jobs.finish([Ending(their.held, Succeed())]),
    "JobRepository.report": lambda uow, their: uow.jobs.report([Report(hold_of(their.held), Progress(None, 1))]),
    "JobRepository.log": lambda uow, their: uow.jobs.log(their.held.id, {}),
    "JobRepository.renew": lambda uow, their: uow.jobs.renew([hold_of(their.held)], lease=LEASE),
    "JobRepository.cancel_requested": lambda uow, their: uow.jobs.cancel_requested([hold_of(their.held)]),
    "JobRepository.cancel": lambda uow, their: uow.jobs.cancel(their.waiting.id, reason="mine"),
    "JobRepository.retry_by_hand": lambda uow, their: uow.jobs.retry_by_hand(their.ended.id, reason="mine"),
    "JobRepository.cancel_matching": lambda uow, _: uow.jobs.cancel_matching(JobFilter(), reason="mine"),
    "JobRepository.retry_matching": lambda uow, _: uow.jobs.retry_matching(JobFilter(), reason="mine"),
    "JobRepository.expire": lambda uow, _: uow.jobs.expire(limit=9),
    "AssetRepository.add": lambda uow, their: uow.assets.add(their.held, THING),
    "AssetRepository.add_many": lambda uow, their: uow.assets.add_many([(their.waiting, THING)]),
    "AssetRepository.find": lambda uow, their: uow.assets.find(their.asset.id),
    "AssetRepository.of_job": lambda uow, their: uow.assets.of_job(their.held.id),
    "WorkerRepository.seen": lambda uow, _: uow.workers.seen(WORKER, name="mine", types=[], queues=[]),
    "WorkerRepository.gone": lambda uow, _: uow.workers.gone(WORKER),
    # A pause that was theirs to lift would be found here.
    "QueueRepository.resume": lambda uow, _: uow.queues.resume("slow"),
    "QueueRepository.pause": lambda uow, _: (uow.queues.pause("slow", reason="mine"), uow.queues.resume("slow")),
    "MaintenanceRepository.prune_jobs": lambda uow, _: uow.maintenance.prune_jobs(Retention(), limit=9),
    "MaintenanceRepository.prune_histories": lambda uow, _: uow.maintenance.prune_histories(Retention(), limit=9),
    "MaintenanceRepository.erase": lambda uow, _: uow.maintenance.erase(
        UUID(int=7), THEIRS.org_id, reason="mine", limit=9
    ),
}
IN_VIEWS: dict[str, Callable[[Views, Foreign], object]] = {
    "Views.statistics": lambda views, _: views.statistics(),
    "Views.page": lambda views, their: (
        views.page(JobFilter()),
        views.page(JobFilter(parent_id=their.held.id)),
        views.page(JobFilter(), after=their.asset.id),
    ),
    "Views.count": lambda views, _: views.count(JobFilter()),
    "Views.queues": lambda views, _: views.queues(),
    "Views.explain_waiting": lambda views, their: views.explain_waiting(their.held.id),
    "Views.erasures": lambda views, _: views.erasures(),
    "Views.find": lambda views, their: views.find(their.held.id),
    "Views.history": lambda views, their: views.history(their.held.id),
    "Views.events_after": lambda views, their: views.events_after({their.held.id: 0, their.waiting.id: 0}),
    "Views.histories": lambda views, their: views.histories([their.held.id, their.waiting.id]),
    "Views.history_ids": lambda views, _: views.history_ids(),
    "Views.ledger": lambda views, _: [*views.ledger()],
    "Views.assets": lambda views, their: views.assets([their.held.id]),
    "Views.refusals": lambda views, their: views.refusals(their.ended.id),
    "Views.workers": lambda views, _: views.workers(),
}


def answer(act: Callable[[], object], refusal: type[HeimdexError] = JobNotFound) -> object:
    """Return an answer, or the error that a stranger may get, in a form that compares."""
    try:
        return act()
    except refusal as error:
        return type(error), str(error)


def refusal_of(method: str) -> type[HeimdexError]:
    # Workers and what deletes belong to no organisation: their repositories refuse every Tenant.
    of_system = method.startswith(("WorkerRepository", "MaintenanceRepository"))
    return UnscopedStatement if of_system else JobNotFound


def everything(store: StoreHarness) -> list[object]:
    jobs = every_job(store)
    with store.views(SYSTEM) as views:
        assets = [[asset.id for asset in views.assets([job.id])[job.id]] for job in jobs]
        workers = [(worker.name, worker.types) for worker in views.workers()]
        queues, erasures = views.queues(), views.erasures()
    events = [len(history(store, job)) for job in jobs]
    refused = [refusals(store, job) for job in jobs]
    return [[columns(job) for job in jobs], events, assets, workers, refused, queues, erasures]


@pytest.fixture
def foreign(store: StoreHarness) -> Foreign:
    """Return what there will be, and leave the store empty: a store that starts anew draws the same ids."""
    there = populate(store)
    store.start_anew()
    return there


@pytest.mark.parametrize("method", IN_UNIT_OF_WORK)
def test_a_stranger_is_answered_by_a_unit_of_work_as_if_nothing_were_there(
    store: StoreHarness, foreign: Foreign, method: str
) -> None:
    def ask() -> object:
        with store.unit_of_work(OURS) as uow:
            return IN_UNIT_OF_WORK[method](uow, foreign)

    refusal = refusal_of(method)
    on_empty = answer(ask, refusal)
    store.start_anew()
    populate(store)
    before = everything(store)

    assert answer(ask, refusal) == on_empty
    assert everything(store) == before


@pytest.mark.parametrize("method", IN_VIEWS)
def test_a_stranger_is_answered_by_views_as_if_nothing_were_there(
    store: StoreHarness, foreign: Foreign, method: str
) -> None:
    def ask() -> object:
        with store.views(OURS) as views:
            return IN_VIEWS[method](views, foreign)

    on_empty = answer(ask)
    store.start_anew()
    populate(store)

    assert answer(ask) == on_empty


def methods(port: type) -> set[str]:
    return {f"{port.__name__}.{name}" for name, _ in getmembers(port, isfunction) if not name.startswith("_")}


def test_every_method_is_tried_by_a_stranger() -> None:
    ports = (JobRepository, AssetRepository, WorkerRepository, QueueRepository, MaintenanceRepository)

    assert set(IN_UNIT_OF_WORK) == set().union(*map(methods, ports))
    assert set(IN_VIEWS) == methods(Views)


def test_the_owner_is_answered(store: StoreHarness) -> None:
    """The wall stands between organisations: the same questions by the owner find something."""
    there = populate(store)
    with store.views(THEIRS) as views:
        found = {name: ask(views, there) for name, ask in IN_VIEWS.items()}

    assert [name for name, what in found.items() if not what] == ["Views.erasures", "Views.workers"]


def test_what_one_organisation_writes_stays_its_own(store: StoreHarness) -> None:
    there = populate(store)
    ours = claim_by_id(store, create(store, idempotency_key="k"))
    with store.unit_of_work(OURS) as uow:
        uow.assets.add(ours, THING)
        assert [job.id for job in uow.jobs.expire(limit=9)] == []
        assert [asset.job_id for asset in uow.assets.of_job(ours.id)] == [ours.id]
        assert uow.jobs.with_events(there.held.id) is None
    with store.views(THEIRS) as views:
        assert views.find(ours.id) is None
        assert [job.org_id for job in views.page(JobFilter()).jobs] == [THEIRS.org_id] * 3
