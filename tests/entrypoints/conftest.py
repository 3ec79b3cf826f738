"""The command line run in this process, on a database of its own."""

import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol
from uuid import UUID

import pytest
from attrs import frozen

from heimdex.bootstrap import Application, bootstrap
from heimdex.config import load
from heimdex.domain.scope import Tenant
from heimdex.entrypoints.cli.app import run

ORG = UUID("018f3c6e-0000-7000-8000-000000000001")
WALKS_FAIL = (
    """CREATE TRIGGER one_try AFTER INSERT ON job WHEN NEW.type = 'drive.ingest'
    BEGIN UPDATE job SET max_attempts = 1 WHERE id = NEW.id; END""",
    """CREATE TRIGGER no_room BEFORE INSERT ON job WHEN NEW.type = 'drive.ingest_file'
    BEGIN SELECT RAISE(ABORT, 'the disk is full'); END""",
)
"""What makes an SQLite database take no job of a file, and a walk give up at once."""


@frozen
class Ran:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str


class Terminal(io.StringIO):
    """What somebody types, as stdin."""

    def isatty(self) -> bool:
        return True


class Heimdex(Protocol):
    def __call__(self, *arguments: object) -> Ran: ...


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leave out the settings of whoever runs the tests, and stay away from their files."""
    for name in [name for name in os.environ if name.startswith("HEIMDEX_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def heimdex(capsys: pytest.CaptureFixture[str]) -> Heimdex:
    """Return what runs `heimdex` with arguments."""

    def call(*arguments: object) -> Ran:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        written = capsys.readouterr()
        return Ran(code, written.out, written.err)

    return call


@pytest.fixture
def url(migrated_sqlite_file: Path, tmp_path: Path) -> str:
    """Return the URL of a database with the schema."""
    shutil.copyfile(migrated_sqlite_file, tmp_path / "ledger.db")
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def application(url: str) -> Iterator[Application]:
    """Return an application on that database."""
    with bootstrap(load({"HEIMDEX_DATABASE_URL": url})) as app:
        yield app


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, url: str, heimdex: Heimdex) -> Heimdex:
    """Return what runs `heimdex` for an organisation, on that database."""
    monkeypatch.setenv("HEIMDEX_DATABASE_URL", url)
    monkeypatch.setenv("HEIMDEX_ORG", str(ORG))
    return heimdex


@pytest.fixture
def create(application: Application) -> Callable[..., UUID]:
    """Return what creates a job and returns its id."""

    def create(type: str = "video.cut", payload: object = None, *, org_id: UUID = ORG, **more: object) -> UUID:
        with application.unit_of_work(Tenant(org_id, actor="user@example.com")) as uow:
            return uow.jobs.create(type, payload, **more).job.id  # type: ignore[arg-type]  # each test knows its own

    return create
