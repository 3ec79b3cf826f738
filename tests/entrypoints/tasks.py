"""Job functions for the tests that need some: found as tests.entrypoints.tasks:jobs."""

from heimdex import Fail, JobContext, JobRegistry

jobs = JobRegistry()
not_jobs = {"mail.welcome": print}


@jobs.register("mail.welcome")
def welcome(payload: dict, ctx: JobContext) -> dict:  # type: ignore[type-arg]  # any document
    return {"sent_to": payload.get("to")}


@jobs.register("mail.bounce")
def bounce(payload: dict, ctx: JobContext) -> Fail:  # type: ignore[type-arg]  # any document
    return Fail("bounced", "nobody lives there", permanent=True)
