"""An application's code as its users write it: job functions, and a function that creates jobs."""

from datetime import timedelta
from uuid import UUID

from attrs import frozen

from heimdex import Cancel, Exponential, Fail, Job, JobContext, JobRegistry, Snooze, Tenant
from heimdex.bootstrap import Application

ORG = UUID("018f3c6e-0000-7000-8000-000000000001")
OTHER_ORG = UUID("018f3c6e-0000-7000-8000-000000000002")
DELAY = timedelta(seconds=10)


@frozen
class Welcome:
    to: str
    language: str = "en"


class MailRefused(Exception):
    pass


def registry() -> JobRegistry:
    jobs = JobRegistry()

    @jobs.register("mail.welcome", max_attempts=2, backoff=Exponential(base=DELAY), timeout=timedelta(minutes=2))
    def welcome(payload: Welcome, ctx: JobContext) -> dict[str, str]:
        if payload.to == "nobody":
            raise MailRefused("no such address") from LookupError(payload.to)
        return {"sent_to": payload.to}

    @jobs.register("mail.all")
    def welcome_all(payload: dict[str, list[str]], ctx: JobContext) -> None:
        for address in payload["to"]:
            ctx.create("mail.welcome", Welcome(address))

    @jobs.register("mail.poll")
    def poll(payload: dict[str, int], ctx: JobContext) -> Snooze:
        return Snooze(timedelta(seconds=payload["every"]))

    @jobs.register("mail.block")
    def block(payload: dict[str, str], ctx: JobContext) -> Cancel | Fail:
        return Cancel("not wanted") if "cancel" in payload else Fail("blocked", "on the list", permanent=True)

    return jobs


def create(app: Application, type: str, payload: object = None, *, org_id: UUID = ORG) -> Job:
    with app.unit_of_work(Tenant(org_id, actor="user@example.com")) as uow:
        return uow.jobs.create(type, payload).job


def sign_up(app: Application, address: str) -> Job:
    return create(app, "mail.welcome", Welcome(address))
