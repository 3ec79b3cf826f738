"""The composition root: what is put together for which settings, and what is refused before anything is built."""

import subprocess
import sys
from datetime import timedelta
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import heimdex.bootstrap
from heimdex.adapters.database import EngineSettings
from heimdex.adapters.memory_ledger import MemoryLedger
from heimdex.adapters.renewing import ProcessRenewer
from heimdex.adapters.sql_store import SqlStore
from heimdex.bootstrap import JOBS_GROUP, Application, bootstrap, discover_jobs, drive_jobs
from heimdex.config import Settings
from heimdex.domain.commands import CreateJobs
from heimdex.domain.errors import InvalidInput, InvalidSetting, UnknownJobType
from heimdex.domain.new_job import NewJob
from heimdex.domain.scope import System, Tenant
from heimdex.domain.transitions import Status
from heimdex.service_layer.job_context import JobContext
from heimdex.service_layer.job_registry import JobRegistry
from heimdex.service_layer.ports import NoRenewer
from tests.stores import START, HandClock

TENANT = Tenant(UUID(int=1), actor="user@example.com")
SYSTEM = System(actor="test", reason="tests look at everything")

registry = JobRegistry()
broken = 5


@registry.register("nothing")
def nothing(payload: dict[str, object], ctx: JobContext) -> None:
    pass


def make_registry() -> JobRegistry:
    return registry


def memory(jobs: JobRegistry | None = None, **settings: Any) -> Application:  # noqa: ANN401 - as Settings takes them
    return bootstrap(Settings(database_url="memory://", **settings), jobs=jobs)


# Stores


def test_memory_is_a_store_in_memory() -> None:
    with memory() as app:
        assert isinstance(app.store, MemoryLedger)
        assert app.schema.check().is_current


@pytest.mark.parametrize("url", ["sqlite:///{}/ledger.db", "postgresql://nobody@localhost:1/nowhere"])
def test_a_database_is_chosen_by_its_url_and_not_connected_to(url: str, tmp_path: Path) -> None:
    with bootstrap(Settings(database_url=url.format(tmp_path))) as app:
        assert isinstance(app.store, SqlStore)

    assert list(tmp_path.iterdir()) == []


def test_every_setting_of_connections_reaches_the_engine() -> None:
    settings = Settings(
        database_url="postgresql://nobody@localhost:1/nowhere",
        pool_size=2,
        max_overflow=3,
        pool_timeout_seconds=4,
        pool_recycle_seconds=5,
        connect_timeout_seconds=6,
        statement_timeout_seconds=7,
        lock_timeout_seconds=8,
        application_name="shop",
    )
    with bootstrap(settings) as app:
        assert isinstance(app.store, SqlStore)
        assert app.store.database.settings == EngineSettings(
            pool_size=2,
            max_overflow=3,
            pool_timeout=timedelta(seconds=4),
            pool_recycle=timedelta(seconds=5),
            connect_timeout=timedelta(seconds=6),
            statement_timeout=timedelta(seconds=7),
            lock_timeout=timedelta(seconds=8),
            application_name="shop",
        )


def test_memory_alone_loads_no_database_library() -> None:
    code = """
import sys
from heimdex.bootstrap import bootstrap
from heimdex.config import Settings
bootstrap(Settings(database_url="memory://")).close()
print({"sqlalchemy", "psycopg2", "sqlite3", "alembic"} & set(sys.modules))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "set()"


def test_the_clock_may_be_brought_along() -> None:
    with bootstrap(Settings(database_url="memory://"), clock=HandClock()) as app:
        [created] = app.handle(CreateJobs(scope=TENANT, new_jobs=[NewJob("any.type")]))

    assert created.job.created_at == START


# What an application does


def test_a_job_goes_in_through_the_bus_and_out_through_a_worker() -> None:
    with memory(registry) as app:
        [created] = app.handle(CreateJobs(scope=TENANT, new_jobs=[NewJob("nothing")]))
        worker = app.worker(name="a worker")
        while app_status(app, created.job.id) is not Status.SUCCEEDED:
            worker.step()
        worker.close()

        with app.views(SYSTEM) as views:
            assert {event.actor for event in views.history(created.job.id)} == {"user@example.com", "a worker"}


def app_status(app: Application, job_id: UUID) -> Status:
    with app.unit_of_work(TENANT) as uow:
        return uow.jobs.get(job_id).status


def test_an_application_without_a_registry_creates_jobs_of_any_type_and_runs_none() -> None:
    with memory() as app:
        assert app.handle(CreateJobs(scope=TENANT, new_jobs=[NewJob("any.type")]))
        with pytest.raises(InvalidSetting, match="HEIMDEX_JOBS: None is not accepted; name the JobRegistry"):
            app.worker()


def test_an_application_with_a_registry_refuses_other_types() -> None:
    with memory(registry) as app, pytest.raises(UnknownJobType):
        app.handle(CreateJobs(scope=TENANT, new_jobs=[NewJob("any.type")]))


@pytest.mark.parametrize("concurrency", [0, -1, 1_001, True])
def test_a_concurrency_that_makes_no_worker_is_refused(concurrency: int) -> None:
    with memory(registry) as app, pytest.raises(InvalidInput, match="concurrency"):
        app.worker(concurrency=concurrency)


def test_a_worker_works_as_the_settings_say_and_as_it_is_asked() -> None:
    with memory(registry, concurrency=3, lease_seconds=60, grace_seconds=7) as app:
        as_set, as_asked = app.worker(), app.worker(name="b", concurrency=5, queues=["slow", "slow"])

    assert (as_set._tools.runner.slots, as_asked._tools.runner.slots) == (3, 5)
    assert (as_set._settings.lease, as_set._settings.grace) == (timedelta(seconds=60), timedelta(seconds=7))
    assert (as_set._settings.queues, as_asked._settings.queues) == (None, frozenset({"slow"}))
    assert ":" in as_set.name
    assert as_asked.name == "b"
    assert as_set.id != as_asked.id


# Job functions


@pytest.fixture
def no_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch)


def offer(monkeypatch: pytest.MonkeyPatch, *places: str) -> None:
    """Let installed packages offer what is at these places, and nothing else."""
    found = EntryPoints(EntryPoint(f"e{n}", place, JOBS_GROUP) for n, place in enumerate(places))
    monkeypatch.setattr(heimdex.bootstrap, "entry_points", lambda group: found.select(group=group))


@pytest.fixture(autouse=True)
def _this_module_can_be_imported_as_myapp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "myapp", sys.modules[__name__])


@pytest.mark.usefixtures("no_packages")
@pytest.mark.parametrize("place", ["myapp:registry", "myapp:make_registry", "myapp:JobRegistry"])
def test_the_setting_names_a_registry_or_what_returns_one(place: str) -> None:
    jobs = discover_jobs(Settings(jobs=place))

    assert jobs.types == (set() if place.endswith("JobRegistry") else {"nothing"})


@pytest.mark.usefixtures("no_packages")
@pytest.mark.parametrize(
    ("place", "remedy"),
    [
        ("not_there:registry", "name one that can be imported .ModuleNotFoundError: No module named 'not_there'."),
        ("myapp:not_there", "name one that can be imported"),
        ("myapp:broken", "name a JobRegistry, or a function that returns one"),
        ("myapp:nothing.__name__", "name a JobRegistry, or a function that returns one"),
    ],
)
def test_a_place_without_a_registry_is_refused_by_its_name(place: str, remedy: str) -> None:
    with pytest.raises(InvalidSetting, match=remedy) as caught:
        discover_jobs(Settings(jobs=place))
    assert (caught.value.field, caught.value.value) == ("HEIMDEX_JOBS", place)


@pytest.mark.usefixtures("no_packages")
@pytest.mark.parametrize("text", ["def (", "raise ValueError('x')", "import sys; sys.exit(0)"])
def test_a_module_that_breaks_when_imported_is_the_settings_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "breaks.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(InvalidSetting, match="name one that can be imported"):
        discover_jobs(Settings(jobs="breaks:jobs"))


@pytest.mark.usefixtures("no_packages")
def test_without_the_setting_and_without_packages_there_are_no_jobs() -> None:
    assert discover_jobs(Settings()).types == frozenset()


def test_installed_packages_offer_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "myapp:registry", "heimdex.bootstrap:drive_jobs")

    assert discover_jobs(Settings()).types == {"nothing", "drive.ingest", "drive.ingest_file"}


def test_a_package_whose_offer_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "not_there:registry")

    with pytest.raises(InvalidSetting, match="not_there:registry"):
        discover_jobs(Settings())


def test_a_type_that_is_offered_twice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "myapp:registry")

    with pytest.raises(InvalidInput, match="'nothing' is not accepted; register one function for each type"):
        discover_jobs(Settings(jobs="myapp:registry"))


def test_the_drive_jobs_are_offered_by_this_package_itself() -> None:
    assert {"drive.ingest", "drive.ingest_file"} <= discover_jobs(Settings()).types


@pytest.mark.parametrize("missing", ["puremagic", "imagesize"])
def test_without_the_extra_there_are_no_drive_jobs(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heimdex.bootstrap, "find_spec", lambda name: None if name == missing else name)

    assert drive_jobs().types == frozenset()


# Renewals


def _renewer(app: Application) -> object:
    worker = app.worker()
    worker.close()
    return worker._tools.renewer


def test_leases_in_a_database_are_renewed_beside_the_worker(tmp_path: Path) -> None:
    with bootstrap(Settings(database_url=f"sqlite:///{tmp_path}/ledger.db"), jobs=registry) as app:
        app.schema.upgrade()
        assert isinstance(_renewer(app), ProcessRenewer)


def test_with_a_clock_that_is_not_the_machines_the_loop_renews(tmp_path: Path) -> None:
    settings = Settings(database_url=f"sqlite:///{tmp_path}/ledger.db")
    with bootstrap(settings, jobs=registry, clock=HandClock()) as app:
        app.schema.upgrade()
        assert isinstance(_renewer(app), NoRenewer)


def test_in_memory_the_loop_renews() -> None:
    with memory(registry) as app:
        assert isinstance(_renewer(app), NoRenewer)
