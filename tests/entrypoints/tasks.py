"""Job functions for the tests that need some: found as tests.entrypoints.tasks:jobs."""

from datetime import timedelta

from heimdex import Fail, JobContext, JobRegistry

jobs = JobRegistry()
not_jobs = {"mail.welcome": print}


@jobs.register("mail.welcome")
def welcome(payload: dict, ctx: JobContext) -> dict:  # type: ignore[type-arg]  # any document
    return {"sent_to": payload.get("to")}


@jobs.register("mail.noisy")
def noisy(payload: dict, ctx: JobContext) -> None:  # type: ignore[type-arg]  # any document
    print("this is no JSON")  # noqa: T201 - what job functions of others do


@jobs.register("mail.bounce")
def bounce(payload: dict, ctx: JobContext) -> Fail:  # type: ignore[type-arg]  # any document
    return Fail("bounced", "nobody lives there", permanent=True)


@jobs.register("mail.digest", max_attempts=3, timeout=timedelta(seconds=7))
def digest(payload: dict, ctx: JobContext) -> None:  # type: ignore[type-arg]  # any document
    pass
