"""How the process that renews leases is started beside its worker: when, how often, and what is said of it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from textwrap import dedent
from time import monotonic, sleep
from uuid import UUID

import pytest
from psycopg2.extensions import parse_dsn
from sqlalchemy.engine import make_url

from heimdex.adapters import renewing as renewing_module
from heimdex.adapters.renewing import ProcessRenewer
from heimdex.bootstrap import Application, bootstrap
from heimdex.config import Settings
from heimdex.domain.errors import DatabaseUnavailable
from heimdex.domain.job import Hold
from heimdex.service_layer.ports import NoRenewer
from tests.adapters.renewing_steps import (
    EVERY,
    FOR_EVER,
    LEASE,
    ORG,
    PATIENCE,
    SYSTEM,
    WORKER,
    is_alive,
    renewing,
    running,
    wait_for_renewal,
    wait_until,
)
from tests.contract.steps import hold_of
from tests.house.source import ROOT

SOME_HOLD = Hold(UUID(int=1), 2)


def nobody_answers() -> dict[str, object]:
    raise DatabaseUnavailable("nobody answers")


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the worker was told of its process."""
    return [record.getMessage() for record in caplog.records if record.name == "heimdex.worker"]


def kill(renewer: ProcessRenewer) -> int:
    """Kill the process; return its id."""
    pid = renewer.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    return pid


def test_one_that_died_is_started_again_and_that_is_said(
    app: Application, renewer: ProcessRenewer, caplog: pytest.LogCaptureFixture
) -> None:
    job = running(app)
    renewer.add(hold_of(job), until=FOR_EVER)
    wait_for_renewal(renewer, hold_of(job))
    first = kill(renewer)
    wait_until(lambda: renewer.renewed_at(hold_of(job)) and renewer.pid != first)
    wait_for_renewal(renewer, hold_of(job))

    assert not is_alive(first)
    [warning] = warnings_in(caplog)
    assert "ended with code -9" in warning


def test_one_that_keeps_dying_is_spoken_of_once_a_minute(
    bare_sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with bootstrap(Settings(database_url=bare_sqlite_url)) as app, renewing(app) as renewer:
        hold = hold_of(running(app))
        renewer.add(hold, until=FOR_EVER)
        for _ in range(3):
            died = kill(renewer)
            deadline = monotonic() + PATIENCE
            while renewer.pid == died and monotonic() < deadline:
                renewer.renewed_at(hold)

    assert len(warnings_in(caplog)) == 1


def test_where_no_process_can_be_started_nothing_is_renewed_or_raised_and_it_is_said_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewing_module, "_WARN_SECONDS", 0.3)
    every = timedelta(milliseconds=50)
    with closing(ProcessRenewer(nobody_answers, every=every, most=1)) as renewer:
        renewer.add(SOME_HOLD, until=FOR_EVER)
        began = monotonic()
        while monotonic() < began + 0.5:
            assert renewer.renewed_at(SOME_HOLD) is None
            sleep(0.01)
        assert renewer.pid is None

    assert len(warnings_in(caplog)) == 2
    assert "cannot be started" in caplog.text
    assert "nobody answers" in caplog.text


@pytest.fixture
def service(bare_postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file in which libpq reads, at each connection, where the service `ledger` is."""
    file = tmp_path / "services"
    address = make_url(bare_postgres_url).set(drivername="postgresql").render_as_string(hide_password=False)
    lines = [f"{name}={value}" for name, value in parse_dsn(address).items()]
    file.write_text("\n".join(["[ledger]", *lines]))
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    return file


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Return a port on which connections are taken and nothing is ever said."""
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        yield silent.getsockname()[1]


def test_one_that_died_while_the_server_is_silent_does_not_keep_the_loop_waiting(
    service: Path, silent_port: int
) -> None:
    lease = timedelta(seconds=3)
    with bootstrap(Settings(database_url="postgresql+psycopg2:///?service=ledger")) as app:
        # As in a worker, nobody but the reserved connection has been at the database yet.
        start_uow, close = app.store.reserve(lease / 3)
        with start_uow(SYSTEM) as uow:
            job = uow.jobs.create("t", org_id=ORG).job
            job = uow.jobs.claim(job.id, worker=WORKER, lease=lease)
        close()
        with renewing(app, lease=lease) as renewer:
            renewer.add(hold_of(job), until=FOR_EVER)
            wait_for_renewal(renewer, hold_of(job))
            service.write_text(f"[ledger]\nhost=127.0.0.1\nport={silent_port}\n")
            first = kill(renewer)
            longest = 0.0
            deadline = monotonic() + PATIENCE
            while renewer.pid in {first, None} and monotonic() < deadline:
                asked_at = monotonic()
                renewer.renewed_at(hold_of(job))
                longest = max(longest, monotonic() - asked_at)

            assert renewer.pid not in {first, None}
            assert longest < lease.total_seconds() / 3


@pytest.mark.parametrize(("name", "value"), [("frozen", True), ("executable", ""), ("executable", None)])
def test_without_a_python_to_run_the_loop_renews(
    bare_sqlite_url: str, monkeypatch: pytest.MonkeyPatch, name: str, value: object
) -> None:
    with bootstrap(Settings(database_url=bare_sqlite_url)) as app:
        monkeypatch.setattr(sys, name, value, raising=False)
        renewer = app.store.renewer(lease=LEASE, every=EVERY, most=1)

    assert isinstance(renewer, NoRenewer)


_FORKED = dedent("""
    import os, sys, time
    from datetime import timedelta
    from uuid import UUID
    from heimdex.bootstrap import bootstrap
    from heimdex.config import Settings
    from heimdex.domain.job import Hold

    url, job_id, lease_seq = sys.argv[1:]
    held, unknown = Hold(UUID(job_id), int(lease_seq)), Hold(UUID(int=1), 2)
    app = bootstrap(Settings(database_url=url))
    renewer = app.store.renewer(lease=timedelta(seconds=60), every=timedelta(seconds=0.2), most=1)
    fork = os.fork()
    if fork == 0:
        renewer.add(unknown, until=1e12)
        end = time.monotonic() + 1.5
        while time.monotonic() < end and renewer.renewed_at(unknown) is None:
            time.sleep(0.01)
        os._exit(renewer.renewed_at(unknown) is not None)
    time.sleep(0.2)
    renewer.add(held, until=1e12)
    while renewer.renewed_at(held) is None:
        time.sleep(0.01)
    _, status = os.waitpid(fork, 0)
    renewer.close()
    sys.exit(status)
""")


def test_forks_of_a_process_that_made_a_worker_share_no_table(bare_sqlite_url: str) -> None:
    with bootstrap(Settings(database_url=bare_sqlite_url)) as app:
        hold = hold_of(running(app))
    command = [sys.executable, "-c", _FORKED, bare_sqlite_url, str(hold.job_id), str(hold.lease_seq)]

    assert subprocess.run(command, cwd=ROOT, timeout=PATIENCE, check=False).returncode == 0
