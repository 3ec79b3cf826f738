"""Job functions for the worker processes of these tests: found as tests.e2e.tasks:jobs."""

import ctypes
from time import sleep

from heimdex import JobContext, JobRegistry

jobs = JobRegistry()


@jobs.register("wait")
def wait(payload: dict, ctx: JobContext) -> None:  # type: ignore[type-arg]  # any document
    sleep(payload["seconds"])


@jobs.register("hold")
def hold(payload: dict, ctx: JobContext) -> None:  # type: ignore[type-arg]  # as above
    """Keep the interpreter from every other thread, as a library in C may."""
    # The worker's loop may be in the middle of a transaction now.
    sleep(0.5)
    # PyDLL keeps the lock while it calls.
    ctypes.PyDLL(None).usleep(int(payload["seconds"] * 1_000_000))
