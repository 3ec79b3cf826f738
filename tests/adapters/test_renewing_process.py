"""The process that renews leases beside a worker, as a process: what it survives, how it ends, what it is made of."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from mmap import mmap
from pathlib import Path
from tempfile import TemporaryFile
from textwrap import dedent
from time import monotonic, sleep

import psycopg2
import pytest
from sqlalchemy.engine import make_url

from heimdex.adapters import renewing_process
from heimdex.adapters.renewing import ProcessRenewer
from heimdex.bootstrap import Application, bootstrap
from heimdex.config import Settings
from tests.adapters.renewing_steps import (
    EVERY,
    FOR_EVER,
    PATIENCE,
    is_alive,
    lease_of,
    renewing,
    running,
    wait_for_renewal,
    wait_until,
)
from tests.contract.steps import hold_of
from tests.house.source import ROOT
from tests.sql_stores import admin_connection

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
def test_it_loads_its_driver_for_the_first_renewal_and_nothing_else_but_the_standard_library(
    kind: str, arguments: dict[str, object]
) -> None:
    look = """
import json, runpy, sys
database = runpy.run_path(sys.argv[1])[sys.argv[2]](**json.loads(sys.argv[3]))
at_rest = sorted(sys.modules)
try:
    database.renew([])
except Exception:
    pass  # it does not know where to connect
print(json.dumps([at_rest, sorted(sys.modules)]))
"""
    command = [sys.executable, "-I", "-S", "-c", look, renewing_process.__file__, kind, json.dumps(arguments)]
    answer = subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE).stdout
    at_rest, renewing = (set(loaded) for loaded in json.loads(answer))
    outside = {name.partition(".")[0] for name in renewing} - sys.stdlib_module_names

    assert at_rest & {"psycopg2", "sqlite3"} == set()
    assert {"psycopg2", "sqlite3"} & renewing == ({"psycopg2"} if kind == "Postgres" else {"sqlite3"})
    assert outside <= {"__main__", "psycopg2"}


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


_WRITER = dedent("""
    import mmap, runpy, sys, time
    names = runpy.run_path(sys.argv[1])
    table = names["Table"](mmap.mmap(int(sys.argv[2]), names["SLOT_SIZE"]), 1.0)
    end = time.monotonic() + 1
    while time.monotonic() < end:
        for renewed_at in range(1, 1001):
            table.note(0, 7, float(renewed_at))
""")


def test_a_renewal_that_is_written_over_another_is_never_read_as_none() -> None:
    with TemporaryFile() as file:
        file.truncate(renewing_process.SLOT_SIZE)
        memory = mmap(file.fileno(), renewing_process.SLOT_SIZE)
        renewing_process.Table(memory, 1.0).note(0, 7, 1.0)
        command = [sys.executable, "-c", _WRITER, renewing_process.__file__, str(file.fileno())]
        read = set()
        with closing(memory), subprocess.Popen(command, pass_fds=[file.fileno()]) as writer:
            while writer.poll() is None:
                for _ in range(1000):
                    read.add(renewing_process.TICKET.unpack_from(memory, renewing_process.RENEWED_TICKET_AT))
                    read.add(renewing_process.RENEWED.unpack_from(memory, renewing_process.RENEWED_AT))

    assert writer.returncode == 0
    assert len(read) > 1
    assert (0,) not in read
