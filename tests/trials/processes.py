"""Processes of one trial: each in a group of its own, and none of them outlives the block that started it."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.house.source import ROOT
from tests.trials.job_functions import PLACE
from tests.trials.starts import FILE

_LAST_LINES = 15


class EndedByItself(Exception):
    """A process that should run does not; the text has its last words."""


def described(settings: Mapping[str, str]) -> str:
    """Return settings of workers as a report shows them."""
    return ", ".join(f"{name.lower().replace('_', ' ')} {value}" for name, value in settings.items())


class Process:
    """One process. Its group is killed as soon as its end is noticed."""

    def __init__(self, name: str, command: Sequence[str], *, environment: dict[str, str], folder: Path) -> None:
        self.name = name
        self._errors = folder / f"{name}.err"
        with ExitStack() as files:
            out, errors = (files.enter_context(path.open("wb")) for path in (folder / f"{name}.out", self._errors))
            # A group of its own also keeps Ctrl-C from it: the trial ends it.
            self._process = subprocess.Popen(
                command, env=environment, cwd=ROOT, stdout=out, stderr=errors, process_group=0
            )
        self.pid = self._process.pid
        self._noticed = False

    @property
    def ended(self) -> bool:
        if self._process.poll() is None:
            return False
        if not self._noticed:
            self._noticed = True
            self._kill_group()
        return True

    @property
    def exit_code(self) -> int | None:
        """Return how it ended; None while it runs, and the negated number of the signal that killed it."""
        return self._process.returncode if self.ended else None

    @property
    def last_words(self) -> str:
        """Return the end of what it wrote to stderr."""
        return "\n".join(self._errors.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:])

    def expect_running(self) -> None:
        """Raise EndedByItself if it has ended."""
        if self.ended:
            raise EndedByItself(f"{self.name} ended by itself with {self.exit_code}:\n{self.last_words}")

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this process alone, not to what it has started."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it and its group, and wait for it."""
        if not self.ended:
            self._kill_group()
            self._process.wait()

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


class Processes:
    """Starts workers on one database, and other programs beside them.

    Args:
        settings: of every worker, as `HEIMDEX_<NAME>`.
    """

    def __init__(self, url: str, folder: Path, **settings: str) -> None:
        self._folder = folder
        self._settings = {"DATABASE_URL": url, "JOBS": PLACE} | settings
        self._started: list[Process] = []

    def start_worker(self, name: str, *arguments: str, **settings: str) -> Process:
        others = {variable: value for variable, value in os.environ.items() if not variable.startswith("HEIMDEX_")}
        ours = {f"HEIMDEX_{variable}": value for variable, value in (self._settings | settings).items()}
        command = [sys.executable, "-m", "heimdex", "worker", "--name", name, *arguments]
        return self._start(name, command, others | ours | {FILE: str(self._folder / "starts")})

    def start_busy(self, name: str) -> Process:
        """Start a process that takes all the time of one processor that it gets."""
        return self._start(name, [sys.executable, "-c", "while True: pass"], dict(os.environ))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for process in self._started:
            process.kill()

    def _start(self, name: str, command: Sequence[str], environment: dict[str, str]) -> Process:
        process = Process(name, command, environment=environment, folder=self._folder)
        self._started.append(process)
        return process
