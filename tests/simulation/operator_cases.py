"""The use cases of those who look after jobs: cancel, retry, pause, look, delete."""

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from heimdex.bootstrap import Application
from heimdex.domain.commands import (
    CancelJob,
    CancelJobs,
    EraseOrg,
    PauseQueue,
    Prune,
    ResumeQueue,
    RetryJob,
    WasCommitted,
)
from heimdex.domain.job import Job
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.operations import Removed, Retention
from heimdex.domain.outcomes import Fail
from heimdex.domain.results import Ending
from heimdex.domain.transitions import Status, Trigger
from heimdex.service_layer.job_context import JobContext
from heimdex.service_layer.ports import Page
from heimdex.testing.simulator.machine import take
from heimdex.testing.simulator.sweeping import Case
from tests.simulation.swept_jobs import ORG, SYSTEM, TENANT, add, happened, registry, there, wanted
from tests.simulation.told import Told


def cancel_queued() -> Case:
    told = Told[Job]()

    def act(app: Application) -> None:
        told.ask(lambda: app.handle(CancelJob(scope=TENANT, job_id=jobs[0].id, reason="not wanted")))

    def check(app: Application) -> None:
        [job] = there(app)
        told.check_done(job.status is Status.CANCELED)
        assert all(answer.status is Status.CANCELED for answer in told.answers)

    jobs: list[Job] = []
    return Case(jobs=registry(), prepare=lambda app: jobs.extend(add(app, wanted())), act=act, check=check)


def cancel_running() -> Case:
    told = Told[Job]()

    def function(_payload: object, ctx: JobContext) -> None:
        for _ in range(8):
            take(timedelta(seconds=0.5))
            ctx.check()

    def act(app: Application) -> None:
        take(timedelta(seconds=1))
        told.ask(lambda: app.handle(CancelJob(scope=TENANT, job_id=jobs[0].id, reason="not wanted")))

    def check(app: Application) -> None:
        asked = happened(app, jobs[0].id, Trigger.REQUEST_CANCEL, Trigger.CANCEL)
        told.check_done(asked > 0)
        [job] = there(app)
        assert job.status in {Status.CANCELED, Status.SUCCEEDED}, f"{job.status}"

    jobs: list[Job] = []
    return Case(
        jobs=registry(function),
        prepare=lambda app: jobs.extend(add(app, wanted())),
        act=act,
        check=check,
        worker_first=True,
    )


def cancel_many() -> Case:
    told = Told[int]()

    def act(app: Application) -> None:
        told.ask(lambda: app.handle(CancelJobs(scope=TENANT, which=JobFilter(), reason="not wanted")))

    def check(app: Application) -> None:
        canceled = [there(app, n)[0].status is Status.CANCELED for n in (1, 2, 3)]
        assert len(set(canceled)) == 1, f"{canceled}"
        told.check_done(canceled[0])
        assert not told.answers or told.asked > 1 or told.answers == [3], f"{told}"

    return Case(
        jobs=registry(),
        prepare=lambda app: add(app, wanted(1), wanted(2), wanted(3)),
        act=act,
        check=check,
    )


def retry_by_hand() -> Case:
    told = Told[Job]()

    def act(app: Application) -> None:
        told.ask(lambda: app.handle(RetryJob(scope=TENANT, job_id=jobs[0].id, reason="once more")))

    def check(app: Application) -> None:
        times = happened(app, jobs[0].id, Trigger.RETRY_BY_HAND)
        told.check_done(times > 0)
        [job] = there(app)
        assert times <= 1, f"retried {times} times"
        assert job.status is (Status.SUCCEEDED if times else Status.FAILED), f"{job.status} after {times} retries"

    jobs: list[Job] = []
    return Case(jobs=registry(), prepare=lambda app: jobs.extend(_failed(app)), act=act, check=check)


def pause_queue() -> Case:
    told = Told[None]()

    def act(app: Application) -> None:
        told.ask(lambda: app.handle(PauseQueue(scope=SYSTEM, queue="idle", reason="for a while")))

    def check(app: Application) -> None:
        told.check_done(_is_paused(app))

    return Case(jobs=registry(), act=act, check=check)


def resume_queue() -> Case:
    told = Told[bool]()

    def act(app: Application) -> None:
        told.ask(lambda: app.handle(ResumeQueue(scope=SYSTEM, queue="idle")))

    def check(app: Application) -> None:
        told.check_done(not _is_paused(app))
        assert told.asked > 1 or told.answers in ([], [True]), f"{told}"

    return Case(
        jobs=registry(),
        prepare=lambda app: app.handle(PauseQueue(scope=SYSTEM, queue="idle", reason="for a while")),
        act=act,
        check=check,
    )


def was_committed() -> Case:
    told = Told[tuple[bool, bool]]()

    def look(app: Application) -> tuple[bool, bool]:
        canceled, never = jobs
        return (
            app.handle(WasCommitted(scope=TENANT, job=canceled)),
            app.handle(WasCommitted(scope=TENANT, job=never)),
        )

    def prepare(app: Application) -> None:
        [job] = add(app, wanted())
        with app.unit_of_work(TENANT) as uow:
            never = uow.jobs.cancel(job.id, reason="this is undone")
            uow.rollback()
        take(timedelta(seconds=1))
        jobs.extend([app.handle(CancelJob(scope=TENANT, job_id=job.id, reason="not wanted")), never])

    def check(_app: Application) -> None:
        assert set(told.answers) <= {(True, False)}, f"{told}"

    jobs: list[Job] = []
    return Case(jobs=registry(), prepare=prepare, act=lambda app: told.ask(lambda: look(app)), check=check)


def page() -> Case:
    told = Told[tuple[Page, int]]()

    def look(app: Application) -> tuple[Page, int]:
        with app.views(TENANT) as views:
            found = views.page(JobFilter(), limit=2)
            return found, len(views.history(found.jobs[0].id))

    def check(app: Application) -> None:
        newest = [there(app, n)[0].id for n in (3, 2)]
        for found, events in told.answers:
            assert [job.id for job in found.jobs] == newest
            assert events == 1

    return Case(
        jobs=registry(),
        prepare=lambda app: add(app, wanted(1), wanted(2), wanted(3)),
        act=lambda app: told.ask(lambda: look(app)),
        check=check,
    )


def prune() -> Case:
    told = Told[Removed]()
    retention = Retention(jobs=timedelta(seconds=1), histories=timedelta(seconds=1))

    def prepare(app: Application) -> None:
        _failed(app)
        take(timedelta(seconds=2))
        add(app, wanted(2))

    def check(app: Application) -> None:
        told.check_done_in_steps(not there(app))
        assert len(there(app, 2)) == 1
        assert told.asked > 1 or all((answer.jobs, answer.events) == (1, 3) for answer in told.answers), f"{told}"

    return Case(
        jobs=registry(),
        prepare=prepare,
        act=lambda app: told.ask(lambda: app.handle(Prune(scope=SYSTEM, retention=retention))),
        check=check,
    )


def erase_org() -> Case:
    told = Told[Removed]()

    def check(app: Application) -> None:
        told.check_done_in_steps(not there(app))
        with app.views(SYSTEM) as views:
            erased = sum(erasure.removed.jobs for erasure in views.erasures())
        assert erased == 1 - len(there(app)), f"{erased} jobs are counted as erased"
        assert told.asked > 1 or all(answer.jobs == 1 for answer in told.answers), f"{told}"

    return Case(
        jobs=registry(),
        prepare=_failed,
        act=lambda app: told.ask(lambda: app.handle(EraseOrg(scope=SYSTEM, org_id=ORG, reason="it has left"))),
        check=check,
    )


def _failed(app: Application) -> list[Job]:
    """Return a job that rests in `failed`."""
    [job] = add(app, wanted())
    with app.unit_of_work(SYSTEM) as uow:
        claimed = uow.jobs.claim(job.id, worker=UUID(int=7), lease=timedelta(seconds=3))
    with app.unit_of_work(SYSTEM) as uow:
        uow.jobs.finish([Ending(claimed, Fail("broken", "it broke", permanent=True))])
    return [job]


def _is_paused(app: Application) -> bool:
    with app.views(SYSTEM) as views:
        return any(queue.queue == "idle" and queue.paused for queue in views.queues())


OPERATOR_CASES: dict[str, Callable[[], Case]] = {
    "cancel, queued": cancel_queued,
    "cancel, running": cancel_running,
    "cancel many": cancel_many,
    "retry by hand": retry_by_hand,
    "pause": pause_queue,
    "resume": resume_queue,
    "was committed": was_committed,
    "page": page,
    "prune": prune,
    "erase": erase_org,
}
