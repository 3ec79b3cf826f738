"""The job functions of the trials: found by worker processes as tests.trials.job_functions:jobs."""

import ctypes
import os
import resource
import signal
from pathlib import Path
from time import sleep
from typing import Any, NoReturn

from heimdex import JobContext, JobRegistry
from tests.trials.starts import noted

PLACE = "tests.trials.job_functions:jobs"
SHORT, POISON, LONG, GATED, LOCKING = "trial.short", "trial.poison", "trial.long", "trial.gated", "trial.locking"
DEATHS = ("kill", "abort", "exit")

jobs = JobRegistry()


@jobs.register(SHORT)
def short(payload: dict[str, Any], ctx: JobContext) -> None:
    """Sleep for so many seconds."""
    with noted(ctx):
        sleep(payload["seconds"])


@jobs.register(POISON)
def poison(payload: dict[str, Any], ctx: JobContext) -> None:
    """End this process without a word."""
    with noted(ctx):
        sleep(payload["seconds"])
        die(payload["how"])


@jobs.register(LONG)
def long(payload: dict[str, Any], ctx: JobContext) -> None:
    """Sleep for so many seconds, or not at all once a run of it has crashed."""
    with noted(ctx):
        if not ctx.job.crashes:
            sleep(payload["seconds"])


@jobs.register(GATED)
def gated(payload: dict[str, Any], ctx: JobContext) -> None:
    """Wait until a file is there."""
    with noted(ctx):
        while not Path(payload["gate"]).exists():
            sleep(0.05)


@jobs.register(LOCKING)
def locking(payload: dict[str, Any], ctx: JobContext) -> None:
    """Hold the interpreter lock for so many seconds, so many times, with a rest after each."""
    with noted(ctx):
        sleep(payload["delay"])
        # Unlike CDLL, PyDLL keeps the lock during a call.
        library = ctypes.PyDLL(None)
        for _ in range(payload["times"]):
            library.usleep(int(payload["seconds"] * 1e6))
            sleep(payload["rest"])


def die(how: str) -> NoReturn:
    match how:
        case "abort":
            # It would leave a core file.
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.abort()
        case "exit":
            os._exit(3)
        case _:
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError("it survived SIGKILL")
