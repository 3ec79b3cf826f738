"""Workers as processes: stopped by a signal, and killed."""

import signal
from collections import Counter
from itertools import groupby
from uuid import UUID

from heimdex import END_STATUSES, CreateJobs, Job, JobEvent, NewJob, Status, Tenant, Trigger
from heimdex.bootstrap import Application
from heimdex.domain.fold import explains
from heimdex.domain.job_filter import JobFilter
from tests.e2e.conftest import ORG, PATIENCE, Workers, wait_until

SCOPE = Tenant(ORG, actor="user@example.com")
JOBS = "tests.e2e.tasks:jobs"


def _create(application: Application, number: int, *, seconds: float) -> list[UUID]:
    new_jobs = [NewJob("wait", {"seconds": seconds}) for _ in range(number)]
    return [created.job.id for created in application.handle(CreateJobs(scope=SCOPE, new_jobs=new_jobs))]


def _count(application: Application, status: Status) -> int:
    with application.views(SCOPE) as views:
        return views.statistics().by_status[status]


def _ends(events: tuple[JobEvent, ...]) -> int:
    """Return how often a job came to rest in an end: events of one transaction have one time."""
    moments = [list(group)[-1] for _, group in groupby(events, key=lambda event: event.ts)]
    return sum(event.next_status in END_STATUSES for event in moments)


def test_term_gives_a_long_job_back_without_spending_an_attempt(
    application: Application, url: str, workers: Workers
) -> None:
    [job_id] = _create(application, 1, seconds=60)
    worker = workers.start(DATABASE_URL=url, JOBS=JOBS, GRACE_SECONDS="0.2")
    wait_until(lambda: _count(application, Status.RUNNING) == 1)

    worker.send_signal(signal.SIGTERM)

    assert worker.wait(PATIENCE) == 0
    with application.views(SCOPE) as views:
        job, events = views.find(job_id), views.history(job_id)
    assert job is not None
    assert (job.status, job.attempt, job.crashes, job.claimed_by) == (Status.QUEUED, 0, 0, None)
    assert [event.trigger for event in events] == [Trigger.CREATE, Trigger.CLAIM, Trigger.RELEASE]


def test_every_job_ends_once_though_one_of_two_workers_is_killed(
    application: Application, url: str, workers: Workers
) -> None:
    ids = _create(application, 240, seconds=0.05)
    settings = {
        "DATABASE_URL": url,
        "JOBS": JOBS,
        "LEASE_SECONDS": "1",
        "RENEW_SECONDS": "0.3",
        "SWEEP_SECONDS": "0.3",
    }
    doomed = workers.start(**settings)
    wait_until(lambda: _count(application, Status.SUCCEEDED) > 0)
    other = workers.start("--drain", **settings)

    doomed.send_signal(signal.SIGKILL)

    assert doomed.wait(PATIENCE) == -signal.SIGKILL
    assert other.wait(PATIENCE) == 0
    with application.views(SCOPE) as views:
        jobs: dict[UUID, Job] = {job.id: job for job in views.page(JobFilter(), limit=500).jobs}
        histories = views.histories(ids)
    assert Counter(jobs[job_id].status for job_id in ids) == {Status.SUCCEEDED: len(ids)}
    assert {_ends(histories[job_id]) for job_id in ids} == {1}
    assert [explains(jobs[job_id], histories[job_id]) for job_id in ids] == [()] * len(ids)
    # It was holding some when it was killed, or this test has shown nothing.
    assert any(jobs[job_id].crashes for job_id in ids)
