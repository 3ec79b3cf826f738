"""The use cases of those who create jobs: what a client asks for, what it is told, and what has to be there."""

from collections.abc import Callable, Sequence

from heimdex.bootstrap import Application, bound_handlers
from heimdex.domain.commands import CreateJobs
from heimdex.domain.job import Job
from heimdex.domain.results import Created
from heimdex.service_layer.message_bus import MessageBus
from heimdex.service_layer.retry import once
from heimdex.testing.simulator.sweeping import Case
from tests.simulation.swept_jobs import LIMITS, TENANT, add, registry, there, wanted
from tests.simulation.told import Told


def create() -> Case:
    told = Told[Sequence[Created]]()

    def check(app: Application) -> None:
        ids = [job.id for job in there(app)]
        told.check_count(len(ids))
        assert all(created.job.id in ids and not created.replayed for [created] in told.answers)

    return Case(
        jobs=registry(),
        act=lambda app: told.ask(lambda: app.handle(CreateJobs(scope=TENANT, new_jobs=[wanted()]))),
        check=check,
    )


def create_in_one_try() -> Case:
    told = Told[Sequence[Created]]()

    def act(app: Application) -> None:
        bus = MessageBus(bound_handlers(app.store.unit_of_work), ids=app.ids, retry=once)
        told.ask(lambda: bus.handle(CreateJobs(scope=TENANT, new_jobs=[wanted()])))

    return Case(jobs=registry(), act=act, check=lambda app: told.check_count(len(there(app))))


def create_with_key_until_answered() -> Case:
    told = Told[Sequence[Created]]()

    def act(app: Application) -> None:
        told.ask_until_answered(lambda: app.handle(CreateJobs(scope=TENANT, new_jobs=[wanted(key="a")])))

    def check(app: Application) -> None:
        assert [job.id for job in there(app)] == [created.job.id for [created] in told.answers], f"{told}"

    return Case(jobs=registry(), act=act, check=check)


def create_with_key() -> Case:
    told = Told[Sequence[Created]]()

    def check(app: Application) -> None:
        ids = [job.id for job in there(app)]
        assert len(ids) <= 1, f"{ids}"
        told.check_done(bool(ids))
        assert all(created.job.id in ids for [created] in told.answers)

    return Case(
        jobs=registry(),
        act=lambda app: told.ask(lambda: app.handle(CreateJobs(scope=TENANT, new_jobs=[wanted(key="a")]))),
        check=check,
    )


def replay() -> Case:
    told = Told[Sequence[Created]]()

    def check(app: Application) -> None:
        [job] = there(app)
        assert all(created.replayed and created.job.id == job.id for [created] in told.answers)

    return Case(
        jobs=registry(),
        prepare=lambda app: add(app, wanted(key="a")),
        act=lambda app: told.ask(lambda: app.handle(CreateJobs(scope=TENANT, new_jobs=[wanted(key="a")]))),
        check=check,
    )


def create_many() -> Case:
    told = Told[Sequence[Created]]()
    new_jobs = [wanted(1), wanted(2, key="a"), wanted(3, key="before"), wanted(4)]

    def check(app: Application) -> None:
        one, keyed, before, other = (len(there(app, n)) for n in (1, 2, 3, 4))
        told.check_count(one)
        told.check_done(bool(keyed))
        assert (other, before) == (one, 1), f"{one}, {keyed}, {before} and {other} jobs"
        assert keyed <= 1, f"{keyed} jobs of one key"
        for first, second, third, fourth in told.answers:
            assert not first.replayed
            assert third.replayed
            assert not fourth.replayed
            assert [second.job.id] == [job.id for job in there(app, 2)]

    return Case(
        jobs=registry(),
        prepare=lambda app: add(app, wanted(3, key="before")),
        act=lambda app: told.ask(lambda: app.handle(CreateJobs(scope=TENANT, new_jobs=new_jobs))),
        check=check,
    )


def create_in_a_unit_of_work() -> Case:
    told = Told[Job]()

    def make(app: Application) -> Job:
        with app.unit_of_work(TENANT) as uow:
            first = uow.jobs.create("sweep.job", {"n": 1}, limits=LIMITS).job
            uow.jobs.create("sweep.job", {"n": 2}, limits=LIMITS, parent_id=first.id)
            return first

    def check(app: Application) -> None:
        first, second = there(app, 1), there(app, 2)
        told.check_count(len(first))
        assert sorted(job.id for job in first) == sorted(job.parent_id for job in second if job.parent_id)
        assert {job.id for job in told.answers} <= {job.id for job in first}

    return Case(jobs=registry(), act=lambda app: told.ask(lambda: make(app)), check=check)


CLIENT_CASES: dict[str, Callable[[], Case]] = {
    "create": create,
    "create in one try": create_in_one_try,
    "create with a key": create_with_key,
    "create with a key until answered": create_with_key_until_answered,
    "replay of a key": replay,
    "create many": create_many,
    "create in a unit of work": create_in_a_unit_of_work,
}
