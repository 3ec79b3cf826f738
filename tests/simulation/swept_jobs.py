"""The jobs that use cases are swept with, and what can be asked about them."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

from heimdex.bootstrap import Application
from heimdex.domain.backoff import Fixed
from heimdex.domain.job import Job
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.new_job import JobLimits, NewJob
from heimdex.domain.scope import System, Tenant
from heimdex.domain.transitions import Trigger
from heimdex.service_layer.job_context import JobContext
from heimdex.service_layer.job_registry import JobRegistry

ORG = UUID(int=1)
TENANT = Tenant(ORG, actor="user@example.com", source="request 1")
SYSTEM = System(actor="operator", reason="an operator looks after every organisation", source="operator")
LIMITS = JobLimits(backoff=Fixed(base=timedelta(seconds=1)), timeout=timedelta(seconds=10))

Function = Callable[[dict[str, Any], JobContext], Any]


def registry(function: Function = lambda _payload, _ctx: None) -> JobRegistry:
    """Return a registry whose `sweep.job` is this function."""
    jobs = JobRegistry()
    jobs.register("sweep.job")(function)

    @jobs.register("sweep.child")
    def child(_payload: dict[str, Any], _ctx: JobContext) -> None:
        pass

    return jobs


def wanted(n: int = 1, *, key: str | None = None, queue: str = "default") -> NewJob:
    return NewJob("sweep.job", {"n": n}, idempotency_key=key, queue=queue, limits=LIMITS)


def add(app: Application, *new: NewJob) -> list[Job]:
    with app.unit_of_work(TENANT) as uow:
        return [created.job for created in uow.jobs.create_many(new)]


def there(app: Application, n: int = 1) -> list[Job]:
    with app.views(SYSTEM) as views:
        return [job for job in views.page(JobFilter(), limit=999).jobs if job.payload == {"n": n}]


def happened(app: Application, job_id: UUID, *triggers: Trigger) -> int:
    with app.views(SYSTEM) as views:
        return sum(event.trigger in triggers for event in views.history(job_id))
