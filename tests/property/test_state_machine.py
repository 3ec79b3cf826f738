"""Memory, SQLite and PostgreSQL in lock step: the same calls, and after each one the same answers and the same rows."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeAlias, TypeVar, cast
from uuid import UUID

import attrs
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from heimdex.domain.asset import NewAsset
from heimdex.domain.backoff import Exponential, Fixed, NoRetry
from heimdex.domain.errors import HeimdexError
from heimdex.domain.events import JobEvent
from heimdex.domain.fold import explains
from heimdex.domain.job import Hold, Job
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.new_job import JobLimits, NewJob
from heimdex.domain.operations import Retention
from heimdex.domain.outcomes import Cancel, Fail, Outcome, Progress, Release, Snooze, Succeed
from heimdex.domain.results import Ending, Note, Report
from heimdex.domain.scope import Scope, System, Tenant
from heimdex.domain.transitions import END_STATUSES, Status
from heimdex.domain.verification import check
from heimdex.service_layer.ports import UnitOfWork
from tests.stores import START, StoreHarness

Answer = TypeVar("Answer")
Step: TypeAlias = Callable[[UnitOfWork], object]

ORGS = tuple(UUID(int=n) for n in (1, 2, 3))
WORKERS = tuple(UUID(int=n) for n in (101, 102))
TYPES = ("drive.ingest", "mail.send")
LEASE = timedelta(seconds=30)
WORKER = System(actor="worker", reason="a worker serves every organisation", source="state machine")
SCOPES: tuple[Scope, ...] = (WORKER, *(Tenant(org, actor="reader") for org in ORGS))

orgs = st.sampled_from(ORGS)
workers = st.sampled_from(WORKERS)
types = st.sampled_from(TYPES)
queues = st.sampled_from(["default", "slow"])
keys = st.none() | st.sampled_from(["k-1", "k-2"])
payloads = st.sampled_from([{}, {"n": 1}, {"n": 1e16, "s": "é"}, {"s": "\U0001f600", "z": -0.0}])
offsets = st.none() | st.sampled_from([timedelta(seconds=s) for s in (-60, 0, 5, 120)])
limits = st.none() | st.builds(
    JobLimits,
    max_attempts=st.sampled_from([1, 2, 5]),
    backoff=st.sampled_from([NoRetry(), Fixed(base=timedelta(seconds=10)), Exponential(base=timedelta(seconds=4))]),
    timeout=st.just(timedelta(seconds=60)),
)
new_jobs = st.builds(
    lambda type, payload, queue, priority, key, limit: NewJob(
        type, payload, queue=queue, priority=priority, idempotency_key=key, limits=limit
    ),
    types,
    payloads,
    queues,
    st.sampled_from([0, 0, 5, -5]),
    keys,
    limits,
)
outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.just(Succeed()),
    st.just(Succeed('{"n":1e+16}')),
    st.just(Fail("boom", "it broke")),
    st.just(Fail("boom", "it broke", traceback="line 1")),
    st.just(Fail("bad_input", "never again", permanent=True)),
    st.just(Snooze(timedelta(seconds=20))),
    st.just(Cancel("not wanted")),
    st.just(Release("worker stops")),
)
progresses = st.builds(Progress, st.sampled_from([None, "reading", "writing"]), st.integers(0, 100))
assets = st.builds(
    NewAsset.of,
    st.sampled_from(["file:///a", "file:///b"]),
    media_type=st.just("text/plain"),
    size=st.just(2**40),
    sha256=st.just("0" * 64),
    metadata=st.just({"a": 1}),
)

filters = st.builds(
    JobFilter,
    status=st.none() | st.sampled_from(Status),
    type=st.none() | types,
    queue=st.none() | queues,
)
scopes = st.sampled_from(SCOPES)

jobs: Bundle[UUID] = Bundle("jobs")
held: Bundle[Job] = Bundle("held")
# What a unit of work of one organisation may do, whether it is its own job or not.
steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(lambda new: lambda uow: uow.jobs.create_many(new), st.lists(new_jobs, max_size=3)),
    st.builds(lambda job_id, w: lambda uow: uow.jobs.claim(job_id, worker=w, lease=LEASE), jobs, workers),
    st.builds(lambda job_id: lambda uow: uow.jobs.log(job_id, {"status": "queued", "attempt": 99}), jobs),
    st.builds(lambda job, outcome: lambda uow: uow.jobs.finish([Ending(job, outcome)]), held, outcomes),
    st.builds(lambda job, asset: lambda uow: uow.assets.add(job, asset), held, assets),
    st.builds(lambda job_id: lambda uow: uow.jobs.with_events(job_id), jobs),
)


def hold_of(job: Job) -> Hold:
    assert job.hold is not None
    return job.hold


def tenant(org_id: UUID) -> Tenant:
    return Tenant(org_id, actor="user@example.com", source="state machine")


class StoresInLockStep(RuleBasedStateMachine):
    """`stores` is set by the test before a run."""

    stores: Sequence[StoreHarness] = ()
    jobs = jobs
    held = held

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.something_held = False
        self.versions: dict[UUID, int] = {}
        for store in self.stores:
            store.start_anew()

    def everywhere(
        self,
        scope: Scope,
        act: Callable[[UnitOfWork], Answer],
        start: Callable[[StoreHarness, Scope], UnitOfWork] = lambda store, scope: store.unit_of_work(scope),
    ) -> Answer | None:
        """Do the same in every store and expect the same answer, or the same error with the same text."""
        answers: list[Any] = []
        for store in self.stores:
            try:
                with start(store, scope) as uow:
                    answers.append(act(uow))
            except HeimdexError as error:
                answers.append(error)
        self.agree([comparable(answer) for answer in answers])
        return None if isinstance(answers[0], HeimdexError) else answers[0]

    def agree(self, seen: Sequence[object]) -> None:
        first, *others = seen
        for other in others:
            assert first == other

    def keep_held(self, claimed: Sequence[Job]) -> Any:  # noqa: ANN401 - what Hypothesis puts into a bundle
        self.something_held = self.something_held or bool(claimed)
        return multiple(*claimed)

    @rule(target=jobs, org=orgs, new=new_jobs, offset=offsets)
    def create(self, org: UUID, new: NewJob, offset: timedelta | None) -> Any:  # noqa: ANN401 - as above
        at = None if offset is None else self.now + offset
        created = self.everywhere(tenant(org), lambda uow: uow.jobs.create_many([attrs.evolve(new, scheduled_at=at)]))
        return multiple(*(one.job.id for one in created or []))

    @rule(target=jobs, org=orgs, new=new_jobs)
    def create_in_one_write(self, org: UUID, new: NewJob) -> Any:  # noqa: ANN401 - as above
        created = self.everywhere(
            tenant(org), lambda uow: uow.jobs.create_many([new]), lambda store, scope: store.unit_of_one_write(scope)
        )
        return multiple(*(one.job.id for one in created or []))

    @rule(target=jobs, org=orgs, new=st.lists(new_jobs, min_size=2, max_size=4))
    def create_many(self, org: UUID, new: list[NewJob]) -> Any:  # noqa: ANN401 - as above
        created = self.everywhere(tenant(org), lambda uow: uow.jobs.create_many(new))
        return multiple(*(one.job.id for one in created or []))

    @rule(target=jobs, org=orgs, new=new_jobs, parent=jobs)
    def create_child(self, org: UUID, new: NewJob, parent: UUID) -> Any:  # noqa: ANN401 - as above
        created = self.everywhere(WORKER, lambda uow: uow.jobs.create_many([new], org_id=org, parent_id=parent))
        return multiple(*(one.job.id for one in created or []))

    @rule(org=orgs, new=st.lists(new_jobs, min_size=1, max_size=2), id=jobs)
    def create_again_under_the_same_id(self, org: UUID, new: list[NewJob], id: UUID) -> None:
        again = [attrs.evolve(new[0], id=id), *new[1:]]
        self.everywhere(tenant(org), lambda uow: uow.jobs.create_many(again))

    @rule(org=orgs, new=st.lists(new_jobs, max_size=3))
    def create_and_roll_back(self, org: UUID, new: list[NewJob]) -> None:
        def act(uow: UnitOfWork) -> None:
            uow.jobs.create_many(new)
            uow.rollback()

        self.everywhere(tenant(org), act)

    @rule(
        target=held,
        worker=workers,
        wanted=st.sets(types, min_size=1),
        limit=st.integers(0, 5),
        some=st.none() | st.sets(queues),
    )
    def claim_due(self, worker: UUID, wanted: set[str], limit: int, some: set[str] | None) -> Any:  # noqa: ANN401 - as above
        claimed = self.everywhere(
            WORKER,
            lambda uow: uow.jobs.claim_due(worker=worker, types=wanted, lease=LEASE, limit=limit, queues=some),
        )
        return self.keep_held(claimed or [])

    @rule(target=held, worker=workers, limit=st.integers(1, 3), outcome=outcomes, progress=st.none() | progresses)
    def run_what_is_due(self, worker: UUID, limit: int, outcome: Outcome, progress: Progress | None) -> Any:  # noqa: ANN401 - as above
        claimed = self.everywhere(
            WORKER, lambda uow: uow.jobs.claim_due(worker=worker, types=TYPES, lease=LEASE, limit=limit)
        )
        endings = [Ending(job, outcome, progress) for job in claimed or []]
        self.everywhere(WORKER, lambda uow: uow.jobs.finish(endings))
        return self.keep_held(claimed or [])

    @rule(target=held, job_id=jobs, org=orgs, worker=workers)
    def claim_by_id(self, job_id: UUID, org: UUID, worker: UUID) -> Any:  # noqa: ANN401 - as above
        job = self.everywhere(tenant(org), lambda uow: uow.jobs.claim(job_id, worker=worker, lease=LEASE))
        return self.keep_held([] if job is None else [job])

    @precondition(lambda self: self.something_held)
    @rule(endings=st.lists(st.builds(Ending, held, outcomes, st.none() | progresses), min_size=1, max_size=4))
    def finish(self, endings: list[Ending]) -> None:
        self.everywhere(WORKER, lambda uow: uow.jobs.finish(endings))

    @rule(job=held, entries=st.lists(progresses | st.just(Note('{"checkpoint":"here"}')), min_size=1, max_size=3))
    def report(self, job: Job, entries: list[Progress | Note]) -> None:
        reports = [Report(hold_of(job), entry) for entry in entries]
        self.everywhere(WORKER, lambda uow: uow.jobs.report(reports))

    @precondition(lambda self: self.something_held)
    @rule(some=st.lists(held, min_size=1, max_size=4), scope=st.just(WORKER) | orgs.map(tenant))
    def renew(self, some: list[Job], scope: Scope) -> None:
        self.everywhere(scope, lambda uow: uow.jobs.renew([hold_of(job) for job in some], lease=LEASE))

    @rule(limit=st.integers(0, 3), after=st.none() | jobs, scope=st.just(WORKER) | orgs.map(tenant))
    def expire(self, limit: int, after: UUID | None, scope: Scope) -> None:
        self.everywhere(scope, lambda uow: uow.jobs.expire(limit=limit, after=after))

    @precondition(lambda self: self.something_held)
    @rule(org=orgs, act=st.lists(steps, min_size=1, max_size=4))
    def do_several_things_and_pass_over_errors(self, org: UUID, act: list[Step]) -> None:
        def each(uow: UnitOfWork) -> list[object]:
            return [answered(partial(step, uow)) for step in act]

        self.everywhere(tenant(org), each)

    @rule(job_id=jobs, scope=scopes)
    def cancel(self, job_id: UUID, scope: Scope) -> None:
        self.everywhere(scope, lambda uow: uow.jobs.cancel(job_id, reason="not wanted"))

    @rule(job_id=jobs, scope=scopes)
    def retry_by_hand(self, job_id: UUID, scope: Scope) -> None:
        self.everywhere(scope, lambda uow: uow.jobs.retry_by_hand(job_id, reason="mended"))

    @rule(which=filters, scope=scopes, after=st.none() | jobs, limit=st.integers(0, 3))
    def cancel_matching(self, which: JobFilter, scope: Scope, after: UUID | None, limit: int) -> None:
        self.everywhere(
            scope, lambda uow: uow.jobs.cancel_matching(which, reason="all of them", after=after, limit=limit)
        )

    @rule(which=filters, scope=scopes, after=st.none() | jobs, limit=st.integers(0, 3))
    def retry_matching(self, which: JobFilter, scope: Scope, after: UUID | None, limit: int) -> None:
        self.everywhere(scope, lambda uow: uow.jobs.retry_matching(which, reason="mended", after=after, limit=limit))

    @precondition(lambda self: self.something_held)
    @rule(some=st.lists(held, min_size=1, max_size=4), scope=scopes)
    def ask_for_cancels(self, some: list[Job], scope: Scope) -> None:
        self.everywhere(scope, lambda uow: uow.jobs.cancel_requested([hold_of(job) for job in some]))

    @rule(queue=queues, scope=scopes)
    def pause(self, queue: str, scope: Scope) -> None:
        self.everywhere(scope, lambda uow: uow.queues.pause(queue, reason="flooded"))

    @rule(queue=queues, scope=scopes)
    def resume(self, queue: str, scope: Scope) -> None:
        self.everywhere(scope, lambda uow: uow.queues.resume(queue))

    @rule(limit=st.integers(0, 3), keep=st.sampled_from([timedelta(0), timedelta(seconds=20)]))
    def prune(self, limit: int, keep: timedelta) -> None:
        retention = Retention(jobs=keep, histories=keep)
        self.everywhere(
            WORKER,
            lambda uow: [
                uow.maintenance.prune_jobs(retention, limit=limit),
                uow.maintenance.prune_histories(retention, limit=limit),
            ],
        )

    @rule(worker=workers, wanted=st.sets(types), gone=st.booleans())
    def see_a_worker(self, worker: UUID, wanted: set[str], gone: bool) -> None:  # noqa: FBT001 - drawn by Hypothesis
        def act(uow: UnitOfWork) -> None:
            uow.workers.seen(worker, name="w", types=wanted, queues=["default"])
            if gone:
                uow.workers.gone(worker)

        self.everywhere(WORKER, act)

    @rule(seconds=st.sampled_from([0.000001, 1, 5, 29.999999, 30, 31, 200, -3]))
    def move_the_clock(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        for store in self.stores:
            store.set_time(self.now)

    @rule(org=orgs, type=types, status=st.sampled_from(Status), limit=st.integers(0, 5), job_id=jobs)
    def read(self, org: UUID, type: str, status: Status, limit: int, job_id: UUID) -> None:
        self.everywhere(
            tenant(org),
            lambda uow: [
                uow.jobs.queued(limit=limit),
                uow.jobs.by_type_and_status(type, status, limit=limit),
                uow.jobs.ids(status, limit=limit),
                uow.jobs.list_with_events(status=status, limit=limit),
                uow.jobs.latest_event(job_id),
                uow.jobs.exists(job_id),
                uow.assets.of_job(job_id),
            ],
        )

    @invariant()
    def every_store_holds_the_same_jobs_and_every_history_explains_its_job(self) -> None:
        ledgers = [ledger(store, self.versions) for store in self.stores]
        self.agree([comparable(seen) for seen in ledgers])
        every, histories = ledgers[0]
        for job in every:
            if job.id in histories:
                check_history(job, histories[job.id])
        self.versions = {job.id: job.version for job in every}

    def teardown(self) -> None:
        """Compare what would be too slow after each step."""
        self.agree([everything_else(store) for store in self.stores])


def answered(ask: Callable[[], object]) -> object:
    try:
        return ask()
    except HeimdexError as error:
        return error


def ledger(
    store: StoreHarness, versions: Mapping[UUID, int]
) -> tuple[tuple[Job, ...], Mapping[UUID, tuple[JobEvent, ...]]]:
    """Return all jobs, and the histories of those whose version is another than it was."""
    with store.views(WORKER) as views:
        every = views.page(JobFilter(), limit=999).jobs
        moved = [job.id for job in every if versions.get(job.id) != job.version]
        return every, views.histories(moved) if moved else {}


def check_history(job: Job, events: Sequence[JobEvent]) -> None:
    assert explains(job, events) == ()
    assert check(job, events) == []
    assert [event.seq for event in events] == list(range(1, job.version + 1))
    assert {event.org_id for event in events} == {job.org_id}
    assert (job.status in END_STATUSES) == (job.finished_at is not None)


def everything_else(store: StoreHarness) -> list[object]:
    seen: list[object] = []
    with store.views(WORKER) as views:
        ids = views.history_ids()
        seen += [ids, views.histories(ids), views.assets(ids), views.workers()]
        seen += [views.refusals(job_id) for job_id in ids]
    for scope in SCOPES:
        with store.views(scope) as views:
            seen += [views.statistics(), views.queues(), views.count(JobFilter(type=TYPES[0]), END_STATUSES)]
            seen += [answered(partial(views.explain_waiting, job_id)) for job_id in ids]
            seen += [views.page(JobFilter(status=Status.QUEUED), limit=2), views.history_ids()]
    return [comparable(what) for what in seen]


PLAIN = (str, int, float, datetime, timedelta, UUID, type(None))


def comparable(value: object) -> object:
    """Return a value that compares by content, as mapped objects and errors do not."""
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, HeimdexError):
        return type(value), str(value)
    if isinstance(value, Mapping):
        return {key: comparable(item) for key, item in value.items()}
    if isinstance(value, Collection):
        return value if isinstance(value, frozenset) else [comparable(item) for item in value]
    return {name: comparable(getattr(value, name)) for name in attrs.fields_dict(cast("Any", type(value)))}


@pytest.mark.timeout(600)
def test_all_stores_agree_after_every_step(lock_step: Sequence[StoreHarness]) -> None:
    class Machine(StoresInLockStep):
        stores = lock_step

    # Without Phase.explain, which takes minutes to say little about a machine.
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=30,
            phases=[phase for phase in settings().phases if phase is not Phase.explain],
            suppress_health_check=list(HealthCheck),
        ),
    )
