"""Job functions for the worker processes of these tests: found as tests.e2e.tasks:jobs."""

from time import sleep

from heimdex import JobContext, JobRegistry

jobs = JobRegistry()


@jobs.register("wait")
def wait(payload: dict, ctx: JobContext) -> None:  # type: ignore[type-arg]  # any document
    sleep(payload["seconds"])
