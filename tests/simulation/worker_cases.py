"""The use cases of workers: what is in the ledger when one starts, and what has to be there in the end."""

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from heimdex.bootstrap import Application
from heimdex.domain.commands import CancelJob
from heimdex.domain.job import MAX_CRASHES, Job
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.new_job import NewJob
from heimdex.domain.outcomes import Fail, Snooze
from heimdex.domain.transitions import Status, Trigger
from heimdex.service_layer.job_context import JobContext
from heimdex.testing.simulator.machine import take
from heimdex.testing.simulator.plan import Client
from heimdex.testing.simulator.sweeping import Case
from tests.simulation.swept_jobs import SYSTEM, TENANT, Function, add, happened, registry, there, wanted

_QUICK = timedelta(seconds=0.1)
_BEYOND_A_RENEWAL = timedelta(seconds=1.4)
_LONGER = timedelta(seconds=2)


def _queue_one(app: Application) -> None:
    add(app, wanted())


def _worker_case(
    function: Function,
    check: Callable[[Application, Job], None],
    *,
    prepare: Client = _queue_one,
    beside: Client | None = None,
    stop_after: float | None = None,
) -> Case:
    """Return the case of one job; `check` gets it as it is in the end."""

    def check_it(app: Application) -> None:
        [job] = there(app)
        check(app, job)

    return Case(jobs=registry(function), prepare=prepare, beside=beside, check=check_it, stop_after=stop_after)


def _ended(status: Status, attempt: int = 1) -> Callable[[Application, Job], None]:
    def check(_app: Application, job: Job) -> None:
        assert (job.status, job.attempt) == (status, attempt), f"{job.status} at attempt {job.attempt}"

    return check


def _work(ctx: JobContext, length: timedelta) -> None:
    """Take so long, and longer after a crash: what stood still beyond its lease goes on meanwhile."""
    take(length if ctx.job.crashes == 0 else _LONGER)


def _quick(_payload: object, ctx: JobContext) -> dict[str, int]:
    _work(ctx, _QUICK)
    return {"done": 1}


def claim() -> Case:
    return _worker_case(_quick, _ended(Status.SUCCEEDED))


def renew() -> Case:
    return _worker_case(lambda _payload, ctx: _work(ctx, _BEYOND_A_RENEWAL), _ended(Status.SUCCEEDED))


def finish() -> Case:
    def function(_payload: object, ctx: JobContext) -> None:
        ctx.assets.add("file:///a", media_type="text/plain", size=1, sha256="0" * 64)
        ctx.create("sweep.child", {"with": "the finish"})
        _work(ctx, _QUICK)

    def check(app: Application, job: Job) -> None:
        _ended(Status.SUCCEEDED)(app, job)
        assert _children(app, job) == [{"with": "the finish"}]
        with app.views(SYSTEM) as views:
            assert [asset.uri for asset in views.assets([job.id])[job.id]] == ["file:///a"]

    return _worker_case(function, check)


def fail_with_retry() -> Case:
    def function(_payload: object, ctx: JobContext) -> None:
        if ctx.job.attempt == 1:
            raise ValueError("it broke")

    return _worker_case(function, _ended(Status.SUCCEEDED, attempt=2))


def fail_for_good() -> Case:
    return _worker_case(lambda _payload, _ctx: Fail("never", "not once more", permanent=True), _ended(Status.FAILED))


def snooze() -> Case:
    def function(_payload: object, ctx: JobContext) -> Snooze | None:
        # Once: what was claimed later has more of a history.
        return Snooze(timedelta(seconds=1)) if ctx.job.version == 2 else None

    return _worker_case(function, _ended(Status.SUCCEEDED))


def report() -> Case:
    def function(_payload: object, ctx: JobContext) -> None:
        ctx.log({"said": "once for each start"})
        ctx.progress(50, stage="half")
        _work(ctx, _BEYOND_A_RENEWAL)
        ctx.progress(100)

    def check(app: Application, job: Job) -> None:
        _ended(Status.SUCCEEDED)(app, job)
        assert job.progress == 100
        notes, claims = happened(app, job.id, Trigger.LOG), happened(app, job.id, Trigger.CLAIM)
        assert notes <= claims, f"{notes} notes of {claims} starts"
        assert notes >= 1

    return _worker_case(function, check)


def expire() -> Case:
    def prepare(app: Application) -> None:
        [job] = add(app, wanted())
        with app.unit_of_work(SYSTEM) as uow:
            uow.jobs.claim(job.id, worker=UUID(int=7), lease=timedelta(seconds=0.5))
        take(timedelta(seconds=1))

    def check(app: Application, job: Job) -> None:
        # It comes with a crash, and two faults may end two workers more.
        buried = job.crashes == MAX_CRASHES
        _ended(Status.DEAD_LETTER if buried else Status.SUCCEEDED, attempt=0 if buried else 1)(app, job)

    return _worker_case(_quick, check, prepare=prepare)


def canceled_while_it_runs() -> Case:
    def function(_payload: object, ctx: JobContext) -> None:
        for _ in range(8):
            take(timedelta(seconds=0.5))
            ctx.check()

    def cancel(app: Application) -> None:
        take(timedelta(seconds=0.5))
        [job] = there(app)
        app.handle(CancelJob(scope=TENANT, job_id=job.id, reason="not wanted"))

    def check(_app: Application, job: Job) -> None:
        assert job.status in {Status.CANCELED, Status.SUCCEEDED}, f"{job.status}"

    return _worker_case(function, check, beside=cancel)


def create_children() -> Case:
    def function(_payload: object, ctx: JobContext) -> None:
        ctx.create_many([NewJob("sweep.child", {"i": i}, idempotency_key=f"child {i}") for i in range(2)])
        take(_QUICK)

    def check(app: Application, job: Job) -> None:
        assert job.status is Status.SUCCEEDED, f"{job.status}"
        assert sorted(map(str, _children(app, job))) == ["{'i': 0}", "{'i': 1}"]

    return _worker_case(function, check)


def release() -> Case:
    return _worker_case(lambda _payload, _ctx: take(timedelta(seconds=2)), _ended(Status.SUCCEEDED), stop_after=0.4)


def _children(app: Application, job: Job) -> list[object]:
    with app.views(SYSTEM) as views:
        return [child.payload for child in views.page(JobFilter(), limit=999).jobs if child.parent_id == job.id]


WORKER_CASES: dict[str, Callable[[], Case]] = {
    "claim": claim,
    "renew": renew,
    "finish": finish,
    "fail with retry": fail_with_retry,
    "fail for good": fail_for_good,
    "snooze": snooze,
    "report": report,
    "expire": expire,
    "canceled while it runs": canceled_while_it_runs,
    "create children": create_children,
    "release": release,
}
