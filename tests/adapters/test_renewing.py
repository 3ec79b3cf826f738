"""The process that renews leases beside a worker, as a process, on the databases that it renews in."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from time import monotonic, sleep
from uuid import UUID

import psycopg2
import pytest
from sqlalchemy.engine import make_url

from heimdex.adapters import renewing_process
from heimdex.adapters.renewing import ProcessRenewer
from heimdex.adapters.schema import Schema
from heimdex.bootstrap import Application, bootstrap
from heimdex.config import Settings
from heimdex.domain.errors import DatabaseUnavailable
from heimdex.domain.job import Hold, Job
from heimdex.domain.outcomes import Succeed
from heimdex.domain.results import Ending
from heimdex.domain.scope import System
from heimdex.service_layer.ports import Duty
from tests.contract.steps import columns, hold_of
from tests.house.source import ROOT
from tests.postgres_server import PostgresServer
from tests.sql_stores import admin_connection, migrated_postgres
from tests.walled_stores import name_of, new_login

ORG = UUID(int=1)
WORKER = UUID(int=101)
SYSTEM = System(actor="worker", reason="a worker serves every organisation")
LEASE = timedelta(seconds=60)
EVERY = timedelta(milliseconds=200)
FOR_EVER = 1e12
PATIENCE = 30.0


@pytest.fixture(scope="module")
def bare_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """Return the URL of a database whose clock is the server's."""
    url = migrated_postgres(postgres_server, test_clock=False)
    yield url
    postgres_server.drop_database(make_url(url).database or "")


@pytest.fixture(scope="module")
def bare_walled_url(postgres_server: PostgresServer) -> Iterator[str]:
    """Return the URL of a login that is nothing but a member of heimdex_worker."""
    admin_url = migrated_postgres(postgres_server, test_clock=False)
    Schema(admin_url).make_roles()
    with new_login(admin_url) as url:
        Schema(admin_url).make_roles(name_of(url), duty=Duty.WORKER)
        yield url
    postgres_server.drop_database(make_url(admin_url).database or "")


@pytest.fixture
def bare_sqlite_url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'ledger #1 of 2.db'}"
    Schema(url).upgrade()
    return url


@pytest.fixture(params=["bare_sqlite_url", "bare_postgres_url", "bare_walled_url"])
def url(request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def app(url: str) -> Iterator[Application]:
    with bootstrap(Settings(database_url=url)) as app:
        yield app


@pytest.fixture
def renewer(app: Application) -> Iterator[ProcessRenewer]:
    with renewing(app) as renewer:
        yield renewer


@contextmanager
def renewing(app: Application, *, lease: timedelta = LEASE, most: int = 10) -> Iterator[ProcessRenewer]:
    renewer = app.store.renewer(lease=lease, every=EVERY, most=most)
    assert isinstance(renewer, ProcessRenewer)
    with closing(renewer):
        yield renewer


def running(app: Application, *, lease: timedelta = timedelta(seconds=30)) -> Job:
    with app.unit_of_work(SYSTEM) as uow:
        job = uow.jobs.create("t", org_id=ORG).job
        return uow.jobs.claim(job.id, worker=WORKER, lease=lease)


def stored(app: Application, job: Job) -> Job:
    with app.unit_of_work(SYSTEM) as uow:
        return uow.jobs.get(job.id)


def lease_of(app: Application, job: Job) -> datetime:
    lease_until = stored(app, job).lease_until
    assert lease_until is not None
    return lease_until


def wait_until(holds: Callable[[], object]) -> None:
    deadline = monotonic() + PATIENCE
    while not holds():
        assert monotonic() < deadline, "waited in vain"
        sleep(0.02)


def wait_for_renewal(renewer: ProcessRenewer, hold: Hold) -> float:
    """Wait for the next renewal of a hold; return when it was asked for."""
    before = renewer.renewed_at(hold)
    wait_until(lambda: renewer.renewed_at(hold) not in {None, before})
    renewed_at = renewer.renewed_at(hold)
    assert renewed_at is not None
    return renewed_at


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# What it renews


def test_it_renews_as_the_repository_does(app: Application, renewer: ProcessRenewer) -> None:
    job, other = running(app), running(app)
    began = monotonic()
    renewer.add(hold_of(job), until=FOR_EVER)
    renewed_at = wait_for_renewal(renewer, hold_of(job))
    with app.unit_of_work(SYSTEM) as uow:
        uow.jobs.renew([hold_of(other)], lease=LEASE)

    assert began < renewed_at <= monotonic()
    assert columns(stored(app, job)) == columns(job) | {"lease_until": lease_of(app, job)}
    assert abs(lease_of(app, job) - lease_of(app, other)) < timedelta(seconds=PATIENCE)
    assert lease_of(app, job) > datetime.now(UTC) + LEASE - timedelta(seconds=PATIENCE)


def test_it_goes_on_renewing_before_a_renewal_is_as_old_as_the_interval(
    app: Application, renewer: ProcessRenewer
) -> None:
    job = running(app)
    renewer.add(hold_of(job), until=FOR_EVER)
    moments = [wait_for_renewal(renewer, hold_of(job)) for _ in range(6)]

    between = [later - earlier for earlier, later in pairwise(moments)]
    assert min(between) >= EVERY.total_seconds() * renewing_process.DUE
    # The machine may be busy; most of them are in time.
    assert sorted(between)[1] < EVERY.total_seconds() * 1.5


def test_a_hold_that_has_ended_is_not_renewed_and_those_beside_it_are(
    app: Application, renewer: ProcessRenewer
) -> None:
    ended, held = running(app), running(app)
    with app.unit_of_work(SYSTEM) as uow:
        uow.jobs.finish([Ending(ended, Succeed())])
    for job in (ended, held):
        renewer.add(hold_of(job), until=FOR_EVER)
    for _ in range(2):
        wait_for_renewal(renewer, hold_of(held))

    assert renewer.renewed_at(hold_of(ended)) is None
    with app.views(SYSTEM) as views:
        assert views.refusals(ended.id) == 0


def test_a_lease_is_not_renewed_beyond_its_end_nor_after_it_was_taken_away(
    app: Application, renewer: ProcessRenewer
) -> None:
    bounded, removed, held = (running(app) for _ in range(3))
    renewer.add(hold_of(bounded), until=monotonic())
    renewer.add(hold_of(removed), until=FOR_EVER)
    renewer.remove(hold_of(removed))
    renewer.add(hold_of(held), until=FOR_EVER)
    for _ in range(3):
        wait_for_renewal(renewer, hold_of(held))

    assert renewer.renewed_at(hold_of(bounded)) is None
    assert [stored(app, job).lease_until for job in (bounded, removed)] == [bounded.lease_until, removed.lease_until]


def test_a_place_that_is_taken_again_says_nothing_of_who_had_it_before(
    app: Application, renewer: ProcessRenewer
) -> None:
    before, after = running(app), running(app)
    renewer.add(hold_of(before), until=FOR_EVER)
    wait_for_renewal(renewer, hold_of(before))
    renewer.remove(hold_of(before))
    renewer.add(hold_of(after), until=FOR_EVER)
    at_first = renewer.renewed_at(hold_of(after))

    assert at_first is None
    assert renewer.renewed_at(hold_of(before)) is None
    assert wait_for_renewal(renewer, hold_of(after))


def test_more_holds_than_it_has_places_for_are_left_to_the_loop(app: Application) -> None:
    first, second = running(app), running(app)
    with renewing(app, most=1) as renewer:
        renewer.add(hold_of(first), until=FOR_EVER)
        renewer.add(hold_of(second), until=FOR_EVER)
        wait_for_renewal(renewer, hold_of(first))
        assert renewer.renewed_at(hold_of(second)) is None
        renewer.remove(hold_of(second))
        renewer.remove(hold_of(first))
        renewer.add(hold_of(second), until=FOR_EVER)
        wait_for_renewal(renewer, hold_of(second))


def test_a_row_that_somebody_has_locked_costs_the_others_nothing(bare_postgres_url: str) -> None:
    with bootstrap(Settings(database_url=bare_postgres_url)) as app:
        locked, free = running(app), running(app)
        with renewing(app) as renewer, app.unit_of_work(SYSTEM) as uow:
            uow.jobs.log(locked.id, {})
            for job in (locked, free):
                renewer.add(hold_of(job), until=FOR_EVER)
            wait_for_renewal(renewer, hold_of(free))
            wait_for_renewal(renewer, hold_of(free))
            assert renewer.renewed_at(hold_of(locked)) is None


def test_a_time_that_it_writes_has_the_form_of_the_repositorys_in_sqlite(bare_sqlite_url: str) -> None:
    file = make_url(bare_sqlite_url).database or ""
    with bootstrap(Settings(database_url=bare_sqlite_url)) as app:
        ours, its = running(app), running(app)
        with app.unit_of_work(SYSTEM) as uow:
            uow.jobs.renew([hold_of(ours)], lease=LEASE)
        with renewing(app) as renewer:
            renewer.add(hold_of(its), until=FOR_EVER)
            wait_for_renewal(renewer, hold_of(its))
        with closing(sqlite3.connect(file)) as connection:
            texts = dict(connection.execute("SELECT lease_until, typeof(lease_until) FROM job"))

        assert set(texts.values()) == {"text"}
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}", text) for text in texts), texts
        assert {f"{lease_of(app, job):%Y-%m-%d %H:%M:%S.%f}" for job in (ours, its)} == texts.keys()


# What it survives


def test_it_goes_on_after_its_connection_was_cut(bare_postgres_url: str) -> None:
    with bootstrap(Settings(database_url=bare_postgres_url, application_name="cut")) as app:
        job = running(app)
        with renewing(app) as renewer:
            renewer.add(hold_of(job), until=FOR_EVER)
            wait_for_renewal(renewer, hold_of(job))
            pid = renewer.pid
            admin = admin_connection(bare_postgres_url)
            with closing(admin), admin.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cut'")
                assert cursor.rowcount >= 1
            wait_for_renewal(renewer, hold_of(job))
            assert renewer.pid == pid


def test_a_locked_sqlite_file_is_tried_again(bare_sqlite_url: str) -> None:
    with bootstrap(Settings(database_url=bare_sqlite_url)) as app:
        job = running(app)
        with renewing(app, lease=timedelta(seconds=1)) as renewer:
            renewer.add(hold_of(job), until=FOR_EVER)
            wait_for_renewal(renewer, hold_of(job))
            with closing(sqlite3.connect(make_url(bare_sqlite_url).database or "")) as other:
                other.execute("BEGIN IMMEDIATE")
                # Longer than it waits for a lock, so that it begins anew.
                sleep(1)
                locked_until = monotonic()
                other.rollback()
            while wait_for_renewal(renewer, hold_of(job)) < locked_until:
                pass


def test_one_that_died_is_started_again(app: Application, renewer: ProcessRenewer) -> None:
    job = running(app)
    renewer.add(hold_of(job), until=FOR_EVER)
    wait_for_renewal(renewer, hold_of(job))
    first = renewer.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: renewer.renewed_at(hold_of(job)) and renewer.pid != first)
    wait_for_renewal(renewer, hold_of(job))

    assert not is_alive(first)


def test_what_ends_its_worker_by_hand_does_not_end_it_before(bare_sqlite_url: str) -> None:
    with bootstrap(Settings(database_url=bare_sqlite_url)) as app:
        job = running(app)
        with renewing(app) as renewer:
            renewer.add(hold_of(job), until=FOR_EVER)
            wait_for_renewal(renewer, hold_of(job))
            assert renewer.pid is not None
            for number in (signal.SIGINT, signal.SIGTERM):
                os.kill(renewer.pid, number)
            pid = renewer.pid
            for _ in range(3):
                wait_for_renewal(renewer, hold_of(job))
            assert renewer.pid == pid


def test_where_no_process_can_be_started_nothing_is_renewed_and_nothing_is_raised() -> None:
    def instructions() -> dict[str, object]:
        raise DatabaseUnavailable("nobody answers")

    with closing(ProcessRenewer(instructions, every=EVERY, most=1)) as renewer:
        renewer.add(Hold(UUID(int=1), 2), until=FOR_EVER)
        assert renewer.renewed_at(Hold(UUID(int=1), 2)) is None
        assert renewer.pid is None


# How it ends


def test_it_ends_when_it_is_closed_though_a_fork_holds_its_input(app: Application, renewer: ProcessRenewer) -> None:
    job = running(app)
    renewer.add(hold_of(job), until=FOR_EVER)
    wait_for_renewal(renewer, hold_of(job))
    pid, process = renewer.pid, renewer._process
    assert pid is not None
    assert process is not None
    assert process.stdin is not None
    held_by_a_fork = os.dup(process.stdin.fileno())
    began = monotonic()
    renewer.close()
    took = monotonic() - began
    os.close(held_by_a_fork)

    assert not is_alive(pid)
    assert took < 1


def test_a_closed_one_renews_nothing_more_and_may_be_asked(app: Application, renewer: ProcessRenewer) -> None:
    hold = hold_of(running(app))
    renewer.add(hold, until=FOR_EVER)
    renewer.close()
    renewer.close()
    renewer.add(hold, until=FOR_EVER)
    renewer.remove(hold)

    assert renewer.renewed_at(hold) is None
    assert renewer.pid is None


def test_one_that_hangs_is_killed_when_it_is_closed(app: Application, renewer: ProcessRenewer) -> None:
    hold = hold_of(running(app))
    renewer.add(hold, until=FOR_EVER)
    wait_for_renewal(renewer, hold)
    pid = renewer.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    renewer.close()

    assert not is_alive(pid)


_WORKER = dedent("""
    import json, os, sys, time
    from datetime import timedelta
    from uuid import UUID
    from heimdex.bootstrap import bootstrap
    from heimdex.config import Settings
    from heimdex.domain.job import Hold

    url, job_id, lease_seq = sys.argv[1:]
    hold = Hold(UUID(job_id), int(lease_seq))
    app = bootstrap(Settings(database_url=url))
    renewer = app.store.renewer(lease=timedelta(seconds=60), every=timedelta(seconds=0.2), most=1)
    renewer.add(hold, until=1e12)
    fork = os.fork()
    if fork == 0:
        time.sleep(60)
        os._exit(0)
    while renewer.renewed_at(hold) is None:
        time.sleep(0.01)
    print(json.dumps({"renewer": renewer.pid, "fork": fork}), flush=True)
    time.sleep(60)
""")


def test_it_ends_with_a_worker_that_is_killed_though_a_fork_of_that_one_lives_on(bare_sqlite_url: str) -> None:
    with bootstrap(Settings(database_url=bare_sqlite_url)) as app:
        job = running(app)
        hold = hold_of(job)
        worker = subprocess.Popen(
            [sys.executable, "-c", _WORKER, bare_sqlite_url, str(hold.job_id), str(hold.lease_seq)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        with worker:
            assert worker.stdout is not None
            pids = json.loads(worker.stdout.readline())
            try:
                worker.kill()
                worker.wait()
                before = lease_of(app, job)
                wait_until(lambda: not is_alive(pids["renewer"]))
                assert is_alive(pids["fork"])
                assert lease_of(app, job) - before < EVERY
            finally:
                os.kill(pids["fork"], signal.SIGKILL)


# What it is made of


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("Sqlite", {"connect": {}, "statement": "", "lease": 1.0}),
        (
            "Postgres",
            {"path": str(Path(psycopg2.__file__).parent.parent), "connect": {}, "statement": "", "lease": 1.0},
        ),
    ],
)
def test_it_loads_nothing_but_the_standard_library_and_its_driver(kind: str, arguments: dict[str, object]) -> None:
    look = (
        "import json, runpy, sys; names = runpy.run_path(sys.argv[1]);"
        " names[sys.argv[2]](**json.loads(sys.argv[3])); print(json.dumps(sorted(sys.modules)))"
    )
    command = [sys.executable, "-I", "-S", "-c", look, renewing_process.__file__, kind, json.dumps(arguments)]
    loaded = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE).stdout)
    outside = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names

    assert outside <= {"__main__", "psycopg2"}
    assert ("psycopg2" in outside) == (kind == "Postgres")


def test_no_password_is_among_what_others_see_of_it(bare_walled_url: str) -> None:
    password = make_url(bare_walled_url).password or ""
    with bootstrap(Settings(database_url=bare_walled_url)) as app:
        job = running(app)
        with renewing(app) as renewer:
            renewer.add(hold_of(job), until=FOR_EVER)
            wait_for_renewal(renewer, hold_of(job))
            assert renewer._process is not None
            assert password not in str(renewer._process.args)
            assert password not in str(os.environ)
