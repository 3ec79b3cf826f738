"""What `heimdex job create` does."""

import sys

from attrs import evolve, frozen

from heimdex.bootstrap import discover_jobs
from heimdex.domain.commands import CreateJobs
from heimdex.domain.errors import InvalidPayload
from heimdex.domain.json_text import JsonValue, decode
from heimdex.domain.new_job import JobLimits, NewJob
from heimdex.domain.results import Created
from heimdex.entrypoints.cli.job_filters import time_of
from heimdex.entrypoints.cli.opening import check_kept, ledger, scope_of, settings_of
from heimdex.entrypoints.cli.options import Asked
from heimdex.service_layer.job_registry import JobRegistry

_STDIN = "-"


@frozen(kw_only=True)
class Wanted:
    """A job as it was typed."""

    type: str
    payload: str
    queue: str
    priority: int
    at: str | None
    key: str | None
    requested_by: str | None
    max_attempts: int | None


def create(asked: Asked, wanted: Wanted) -> Created:
    settings = settings_of(asked)
    if settings.api_url is None:
        check_kept(asked, settings, "name a database that is kept: nobody else can work on this memory")
    # Job functions of installed packages alone would make every other type unknown. An API has its own.
    jobs = None if settings.jobs is None or settings.api_url is not None else discover_jobs(settings)
    new = NewJob(
        wanted.type,
        _payload(wanted.payload),
        queue=wanted.queue,
        priority=wanted.priority,
        scheduled_at=None if wanted.at is None else time_of("--at", wanted.at),
        idempotency_key=wanted.key,
        requested_by=wanted.requested_by,
        limits=None if wanted.max_attempts is None else _limits(wanted.type, wanted.max_attempts, jobs),
    )
    with ledger(asked, settings, jobs) as heimdex:
        [created] = heimdex.handle(CreateJobs(scope=scope_of(settings, "heimdex job create"), new_jobs=[new]))
    return created


def _payload(text: str) -> JsonValue:
    try:
        return decode(sys.stdin.read() if text == _STDIN else text)
    except ValueError as error:
        raise InvalidPayload("payload", "$", f"is not JSON ({error})") from None


def _limits(type: str, max_attempts: int, jobs: JobRegistry | None) -> JobLimits:
    return evolve(JobLimits() if jobs is None else jobs.get(type).limits, max_attempts=max_attempts)
