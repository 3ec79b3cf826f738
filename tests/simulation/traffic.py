"""What the simulator runs here: three organisations, jobs that end in every way, callers that repeat themselves."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID

from attrs import define, field

from heimdex.bootstrap import Application
from heimdex.domain.backoff import Exponential, Fixed, NoRetry
from heimdex.domain.commands import CancelJob, CreateJobs, PauseQueue, ResumeQueue, RetryJob
from heimdex.domain.errors import CancelRequested, IllegalTransition, JobNotFound
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.new_job import JobLimits, NewJob
from heimdex.domain.outcomes import Cancel, Fail, Snooze
from heimdex.domain.scope import System, Tenant
from heimdex.domain.transitions import RETRIABLE
from heimdex.service_layer.job_context import JobContext
from heimdex.service_layer.job_registry import JobRegistry
from heimdex.testing.simulator.chance import chance
from heimdex.testing.simulator.fibers import Signal, current_fiber
from heimdex.testing.simulator.ledger import LATE_SECONDS
from heimdex.testing.simulator.machine import end_process, take
from heimdex.testing.simulator.plan import LEASE, Scenario

ORGS = tuple(UUID(int=n) for n in (1, 2, 3))
QUEUES = ("default", "slow")
SYSTEM = System(actor="operator", reason="an operator looks after every organisation", source="operator")

_MEETING_SECONDS = 10.0

_ENDS = (
    "succeed",
    "succeed",
    "succeed",
    "slow",
    "slow",
    "beyond",
    "fail",
    "fail",
    "fail_for_good",
    "snooze",
    "give_up",
    "hang",
    "stubborn",
    "effects",
    "children",
    "many_children",
    "notes",
    "crash",
)


def job_functions() -> JobRegistry:
    jobs = JobRegistry()

    @jobs.register("sim.step")
    def step(payload: dict[str, Any], ctx: JobContext) -> Any:  # noqa: ANN401 - every kind of answer
        return _act(payload, ctx)

    @jobs.register("sim.async_step")
    async def async_step(payload: dict[str, Any], ctx: JobContext) -> Any:  # noqa: ANN401 - as above
        for _ in range(3):
            await asyncio.sleep(0)
        return _act(payload, ctx)

    @jobs.register("sim.child")
    def child(payload: dict[str, Any], ctx: JobContext) -> None:
        take(timedelta(seconds=payload.get("seconds", 0.1)))

    return jobs


def _act(payload: dict[str, Any], ctx: JobContext) -> Any:  # noqa: ANN401, C901, PLR0912 - one way to end each
    does = payload["does"][min(ctx.job.attempt, len(payload["does"])) - 1]
    share = payload["share"]
    match does:
        case "succeed":
            take(timedelta(seconds=share))
        case "slow":
            take(LEASE * (0.3 + 0.65 * share))
        case "beyond":
            take(LEASE * (1 + share))
        case "fail":
            raise ValueError("it broke")
        case "fail_for_good":
            return Fail("never", "not once more", permanent=True)
        case "snooze" if ctx.job.version < 8:
            return Snooze(timedelta(seconds=share))
        case "give_up":
            return Cancel("not wanted any more")
        case "hang":
            take(ctx.job.timeout + timedelta(seconds=5))
        case "stubborn":
            for _ in range(10):
                take(timedelta(seconds=share))
                _wanted(ctx)
        case "effects":
            take(timedelta(seconds=share))
            ctx.assets.add(f"file:///{payload['n']}", media_type="text/plain", size=1, sha256="0" * 64)
        case "children":
            ctx.create("sim.child", {"of": payload["n"]}, idempotency_key=f"child of {payload['n']}")
            take(timedelta(seconds=share))
        case "many_children":
            children = [
                NewJob("sim.child", {"of": payload["n"], "i": i}, idempotency_key=f"{payload['n']}/{i}")
                for i in range(3)
            ]
            ctx.create_many(children)
        case "notes":
            for percent in (10, 50, 90):
                ctx.progress(percent, stage=f"at {percent}")
                ctx.log({"percent": percent})
                take(timedelta(seconds=share))
        case "crash":
            end_process()
        case _:
            pass
    return {"n": payload["n"]}


def _wanted(ctx: JobContext) -> None:
    try:
        ctx.check()
    except CancelRequested:
        # Every second one does not listen.
        if ctx.job.id.int % 2:
            raise


@define(eq=False)
class Traffic:
    """The callers of one run, and what they were told; that is kept outside of the ledger.

    Args:
        items: what each caller creates.
        shared: which of it both create at the same moment, if they can.
    """

    seed: int
    items: Mapping[str, list[dict[str, Any]]]
    shared: frozenset[int]
    asked: set[int] = field(factory=set, init=False)
    answered: dict[int, UUID] = field(factory=dict, init=False)
    done: set[str] = field(factory=set, init=False)
    _here: dict[int, set[str]] = field(factory=dict, init=False)
    _all_here: Signal = field(factory=Signal, init=False)

    def create_all(self, name: str, app: Application) -> None:
        draws = chance(self.seed, name)
        for item in self.items[name]:
            take(timedelta(seconds=draws.uniform(0.0, 2.0)))
            if f"{name} {item['n']}" not in self.done:
                if item["n"] in self.shared:
                    self._meet(name, item["n"])
                self._create(app, item)
                self.done.add(f"{name} {item['n']}")

    def _meet(self, name: str, n: int) -> None:
        """Wait a while for the other caller, so that both create the same job at the same moment."""
        scheduler, here = current_fiber().scheduler, self._here.setdefault(n, set())
        here.add(name)
        if len(here) == 1:
            scheduler.wait(self._all_here, _MEETING_SECONDS)
        scheduler.notify(self._all_here)

    def _create(self, app: Application, item: dict[str, Any]) -> None:
        tenant = Tenant(item["org"], actor="user@example.com", source=f"request {item['n']}")
        n = item["n"]
        again = n in self.asked
        self.asked.add(n)
        if item["key"] is None and again:
            # It may be there, and without a key nobody can tell.
            return
        new = NewJob(
            item["type"],
            {"n": n, "does": item["does"], "share": item["share"]},
            queue=item["queue"],
            priority=item["priority"],
            idempotency_key=item["key"],
            limits=item["limits"],
        )
        if item["by_bus"]:
            [created] = app.handle(CreateJobs(scope=tenant, new_jobs=[new]))
        else:
            with app.unit_of_work(tenant) as uow:
                [created] = uow.jobs.create_many([new])
        self.answered[n] = created.job.id

    def operate(self, app: Application) -> None:
        """Cancel, retry, pause and resume here and there."""
        draws = chance(self.seed, "operator", str(len(self.done)))
        for number in range(8):
            if f"operator {number}" in self.done:
                continue
            take(timedelta(seconds=draws.uniform(0.2, 4.0)))
            self.done.add(f"operator {number}")
            try:
                self._operate_once(app, draws)
            except (IllegalTransition, JobNotFound):
                continue
        # A pause of which nobody knows whether it was committed may still come.
        take(timedelta(seconds=LATE_SECONDS + 1))
        for queue in QUEUES:
            app.handle(ResumeQueue(scope=SYSTEM, queue=queue))

    def _operate_once(self, app: Application, draws: Random) -> None:
        with app.views(SYSTEM) as views:
            jobs = views.page(JobFilter(), limit=50).jobs
        match draws.choice(("cancel", "cancel", "retry", "retry", "pause", "resume", "stranger")):
            case "cancel" if jobs:
                app.handle(CancelJob(scope=SYSTEM, job_id=draws.choice(jobs).id, reason="an operator says so"))
            case "retry" if ended := [job for job in jobs if job.status in RETRIABLE]:
                app.handle(RetryJob(scope=SYSTEM, job_id=draws.choice(ended).id, reason="once more"))
            case "pause":
                app.handle(PauseQueue(scope=SYSTEM, queue=draws.choice(QUEUES), reason="for a while"))
            case "resume":
                app.handle(ResumeQueue(scope=SYSTEM, queue=draws.choice(QUEUES)))
            case "stranger" if jobs:
                self._be_a_stranger(app, draws.choice(jobs).id)
            case _:
                pass

    def _be_a_stranger(self, app: Application, job_id: UUID) -> None:
        nobody = Tenant(UUID(int=99), actor="stranger@example.com")
        with app.views(nobody) as views:
            assert views.find(job_id) is None, f"an organisation sees job {job_id} of another"
            assert views.history(job_id) == (), f"an organisation sees the history of job {job_id} of another"
        try:
            app.handle(CancelJob(scope=nobody, job_id=job_id, reason="mischief"))
        except JobNotFound:
            return
        raise AssertionError(f"an organisation canceled job {job_id} of another")

    def check(self, app: Application) -> None:
        """Compare what callers were told with what is there."""
        with app.views(SYSTEM) as views:
            jobs = views.page(JobFilter(), limit=999).jobs
        by_number: dict[int, list[UUID]] = {}
        for job in jobs:
            payload = job.payload
            assert isinstance(payload, dict)
            if "does" in payload:
                by_number.setdefault(int(str(payload["n"])), []).append(job.id)
        for n, ids in by_number.items():
            assert n in self.asked, f"job {n} was made and never asked for"
            assert len(ids) == 1, f"job {n} was made {len(ids)} times: {ids}"
        for n, job_id in self.answered.items():
            assert by_number.get(n) == [job_id], f"job {n} was answered with {job_id}, there are {by_number.get(n)}"
        for job in jobs:
            assert job.attempt <= job.max_attempts, f"job {job.id} has attempt {job.attempt} of {job.max_attempts}"


def scenario_of(seed: int) -> Scenario:
    """Return the traffic of a seed: two callers that share some of their keys, and an operator."""
    draws = chance(seed, "traffic")
    items = [_item(n, draws) for n in range(draws.randint(14, 18))]
    keyed = [item for item in items if item["key"] is not None]
    shared, met = keyed[:3], keyed[3:6]
    alone = [item for item in items if item not in met]
    traffic = Traffic(
        seed,
        {"caller 1": alone[::2] + shared + met, "caller 2": alone[1::2] + shared + met},
        frozenset(item["n"] for item in met),
    )
    return Scenario(
        jobs=job_functions(),
        clients={
            "caller 1": lambda app: traffic.create_all("caller 1", app),
            "caller 2": lambda app: traffic.create_all("caller 2", app),
            "operator": traffic.operate,
        },
        check=traffic.check,
    )


def _item(n: int, draws: Random) -> dict[str, Any]:
    return {
        "n": n,
        "org": ORGS[n % len(ORGS)],
        "type": draws.choice(("sim.step", "sim.step", "sim.step", "sim.async_step")),
        "does": [draws.choice(_ENDS) for _ in range(3)],
        "share": draws.random(),
        "queue": draws.choice(QUEUES),
        "priority": draws.choice((0, 0, 5, -5)),
        # The same few in every organisation.
        "key": f"key {n // 2}" if draws.random() < 0.75 else None,
        "by_bus": draws.random() < 0.7,
        "limits": JobLimits(
            max_attempts=draws.choice((1, 2, 3, 4)),
            backoff=draws.choice(
                (NoRetry(), Fixed(base=timedelta(seconds=1)), Exponential(base=timedelta(seconds=0.5)))
            ),
            timeout=timedelta(seconds=draws.choice((4, 10, 20))),
        ),
    }
