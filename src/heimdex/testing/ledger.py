"""What the test kit reads from a ledger, and how it shows that in a failure."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from uuid import UUID

from heimdex.bootstrap import Application
from heimdex.domain.errors import JobNotFound
from heimdex.domain.events import JobEvent
from heimdex.domain.job import Job
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.scope import Scope, System, Tenant
from heimdex.domain.transitions import Status

ACTOR = "heimdex.testing"

_PAGE = 500
_SHOWN_LINES = 10
_SHOWN_CHARACTERS = 120


def jobs_of(app: Application, which: JobFilter, *, org_id: UUID | None = None) -> list[Job]:
    """Return every job that the filter accepts, oldest first; `org_id` None is every organisation."""
    with app.views(scope_of(org_id)) as views:
        page = views.page(which, limit=_PAGE)
        found = list(page.jobs)
        while page.next_after is not None:
            page = views.page(which, after=page.next_after, limit=_PAGE)
            found += page.jobs
    return found[::-1]


def job_of(app: Application, job_id: UUID) -> Job:
    with app.views(scope_of(None)) as views:
        job = views.find(job_id)
    if job is None:
        raise JobNotFound(job_id)
    return job


def history_of(app: Application, job_id: UUID) -> tuple[JobEvent, ...]:
    with app.views(scope_of(None)) as views:
        return views.history(job_id)


def next_moment(app: Application, types: Iterable[str]) -> datetime | None:
    """Return when the next queued job of these types is due, or the next lease of a running one ends."""
    moments = []
    for type in types:
        moments += [job.scheduled_at for job in jobs_of(app, JobFilter(type=type, status=Status.QUEUED))]
        running = jobs_of(app, JobFilter(type=type, status=Status.RUNNING))
        moments += [job.lease_until for job in running if job.lease_until is not None]
    return min(moments, default=None)


def lines_of(jobs: Iterable[Job]) -> Iterator[str]:
    """Yield a line for each of the jobs, as far as a reader wants to see them."""
    return bounded(
        f"{job.type} {shortened(job.payload_json)} ({job.status}, scheduled at {job.scheduled_at}, "
        f"organisation {job.org_id})"
        for job in jobs
    )


def bounded(lines: Iterable[str], limit: int = _SHOWN_LINES) -> Iterator[str]:
    lines = list(lines)
    yield from lines[:limit]
    if len(lines) > limit:
        yield f"... and {len(lines) - limit} more"


def shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def scope_of(org_id: UUID | None) -> Scope:
    if org_id is None:
        return System(actor=ACTOR, reason="a test looks at the jobs of every organisation")
    return Tenant(org_id, actor=ACTOR)
