"""What `heimdex ingest` does, and what `heimdex demo` shares with it."""

from collections.abc import Collection, Iterator
from importlib import import_module

from rich.progress import Progress

from heimdex.bootstrap import Application, drive_jobs
from heimdex.config import Settings
from heimdex.domain.commands import CreateJobs
from heimdex.domain.errors import JobNotFound, WorkerHung
from heimdex.domain.job import Job
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.new_job import NewJob
from heimdex.domain.scope import Tenant
from heimdex.domain.transitions import Status
from heimdex.entrypoints.cli import tables
from heimdex.entrypoints.cli.draining import UNFINISHED, Draining, quick, unfinished
from heimdex.entrypoints.cli.opening import check_kept, opened, scope_of, settings_of
from heimdex.entrypoints.cli.options import Asked
from heimdex.entrypoints.cli.walk import uri_of
from heimdex.service_layer.drive import INGEST, INGEST_FILE, Ingest
from heimdex.service_layer.ports import Views

SOURCE = "heimdex ingest"

_PAGE = 500


def start(asked: Asked, path: str, *, limit: int | None, exclude: Collection[str]) -> Job:
    """Create the job that walks a folder, for workers elsewhere."""
    settings = settings_of(asked)
    check_kept(asked, settings, "name a database that is kept, or add --run: nobody else can work on this memory")
    with open_drive(asked, settings) as heimdex:
        return create_ingest(heimdex, scope_of(settings, SOURCE), uri_of(path), limit=limit, exclude=exclude)


def start_and_run(asked: Asked, path: str, *, limit: int | None, exclude: Collection[str]) -> dict[str, object]:
    """Create the job that walks a folder, work until it and its children have ended, and return what became of them.

    Raises:
        KeyboardInterrupt: a signal came first; what was not done is in the queue.
        WorkerHung: it is there too.
    """
    settings = quick(settings_of(asked))
    scope = scope_of(settings, SOURCE)
    with open_drive(asked, settings) as heimdex:
        if not settings.kept:
            heimdex.schema.upgrade()
        job = create_ingest(heimdex, scope, uri_of(path), limit=limit, exclude=exclude)
        with tables.progress() as bars:
            watch = _Watch(job, bars)
            drain(Draining(heimdex, heimdex.worker(), scope, watch.is_done))
        with heimdex.views(scope) as views:
            return _summary(views, job)


def open_drive(asked: Asked, settings: Settings) -> Application:
    """Return an application that runs the drive jobs.

    Raises:
        ModuleNotFoundError: the extra `drive` is not installed.
    """
    for name in ("puremagic", "imagesize"):
        import_module(name)
    return opened(asked, settings, drive_jobs())


def create_ingest(heimdex: Application, scope: Tenant, uri: str, *, limit: int | None, exclude: Collection[str]) -> Job:
    """Create the job that walks a folder.

    Raises:
        FileProblem: there is nothing at `uri`.
    """
    heimdex.files.stat(uri)
    new = NewJob(INGEST, Ingest(uri, limit=limit, exclude=tuple(exclude)))
    [created] = heimdex.handle(CreateJobs(scope=scope, new_jobs=[new]))
    return created.job


def drain(draining: Draining) -> None:
    """Work until all is done.

    Raises:
        KeyboardInterrupt: a signal ended it before.
        WorkerHung: functions that hang did.
    """
    if draining.run() is not None:
        raise KeyboardInterrupt
    if draining.worker.exit_code:
        raise WorkerHung(draining.worker.name)


class _Watch:
    """Whether an ingest and its children have ended; shows how far they are."""

    def __init__(self, job: Job, bars: Progress) -> None:
        self._job = job
        self._bars = bars
        self._bar = bars.add_task("ingesting", total=None)

    def is_done(self, views: Views) -> bool:
        job = found(views, self._job)
        total = made(job, "created") if job.status is Status.SUCCEEDED else None
        left = unfinished(views.statistics(), INGEST_FILE)
        self._bars.update(self._bar, total=total, completed=None if total is None else max(total - left, 0))
        return job.status not in UNFINISHED and not any(
            views.page(JobFilter(parent_id=job.id, status=status), limit=1).jobs for status in UNFINISHED
        )


def found(views: Views, job: Job) -> Job:
    """Return a job as it is now."""
    now = views.find(job.id)
    if now is None:
        raise JobNotFound(job.id)
    return now


def made(job: Job, what: str) -> int:
    """Return how many files an ingest has seen, or jobs it has created or replayed; 0 before it has succeeded."""
    counts = job.result
    number = counts.get(what) if isinstance(counts, dict) else None
    return number if isinstance(number, int) else 0


def outcome(job: Job) -> dict[str, object]:
    """Return how an ingest ended."""
    return {
        "id": job.id,
        "status": job.status,
        "error_code": job.last_error_code,
        "error_message": job.last_error_message,
    }


def _summary(views: Views, job: Job) -> dict[str, object]:
    job = found(views, job)
    statuses = [child.status for child in _children(views, job)]
    return {
        "job": job.id,
        "status": job.status,
        "error_code": job.last_error_code,
        "error": job.last_error_message,
        "files": made(job, "files"),
        "created": made(job, "created"),
        "replayed": made(job, "replayed"),
        "failed_before": made(job, "failed_before"),
        "succeeded": statuses.count(Status.SUCCEEDED),
        "failed": sum(status is not Status.SUCCEEDED for status in statuses),
        "ingests": [outcome(job)],
    }


def _children(views: Views, job: Job) -> Iterator[Job]:
    after = None
    while True:
        page = views.page(JobFilter(parent_id=job.id), after=after, limit=_PAGE)
        yield from page.jobs
        after = page.next_after
        if after is None:
            return
