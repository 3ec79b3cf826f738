"""The command as users start it: a process of its own, with an environment of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from uuid import UUID

import pytest

from heimdex.bootstrap import Application, bootstrap
from heimdex.config import load
from tests.house.source import ROOT
from tests.postgres_server import PostgresServer

ORG = UUID("018f3c6e-0000-7000-8000-000000000001")
COMMAND = (sys.executable, "-m", "heimdex")
# Long enough for a machine under load.
PATIENCE = 60.0


def environment(**settings: str) -> dict[str, str]:
    """Return this process's environment with these settings of Heimdex and no others."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("HEIMDEX_")}
    return others | {f"HEIMDEX_{name}": value for name, value in settings.items()}


def run(*arguments: object, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end."""
    return subprocess.run(
        [*COMMAND, *(os.fsencode(str(argument)) for argument in arguments)],
        env=environment(**settings),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


class Workers:
    """Worker processes of one test. Whatever still runs when the test ends is killed."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str, **settings: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [*COMMAND, "worker", *arguments],
            env=environment(**settings),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        return process

    def kill_all(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.communicate()


@pytest.fixture
def workers() -> Iterator[Workers]:
    workers = Workers()
    yield workers
    workers.kill_all()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def application(url: str) -> Iterator[Application]:
    """Return an application on a database with the schema, to look at what the processes do."""
    with bootstrap(load({"HEIMDEX_DATABASE_URL": url})) as app:
        app.schema.upgrade()
        yield app


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """Return the URL of an empty database."""
    name = postgres_server.fresh_name("e2e")
    postgres_server.create_database(name)
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = monotonic() + PATIENCE
    while not holds():
        assert monotonic() < deadline, "waited in vain"
        sleep(0.05)
