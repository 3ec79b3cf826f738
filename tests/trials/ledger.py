"""The database of one trial: made for it, filled and read by it, and dropped after it."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import make_url

from heimdex import CreateJobs, Job, JobEvent, JobFilter, NewJob, Status, System, Tenant
from heimdex.bootstrap import bootstrap
from heimdex.config import Settings
from tests.postgres_server import PostgresServer, start_server
from tests.sql_stores import admin_connection

TENANT = Tenant(UUID("018f3c6e-0000-7000-8000-000000000001"), actor="a trial")
SYSTEM = System(actor="a trial", reason="it looks at everything")
_AT_ONCE = 999


class Ledger:
    """Args: folder: where the trial keeps what is not in the database."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.created: list[UUID] = []
        self._app = bootstrap(Settings(database_url=url))
        self._app.schema.upgrade()
        self._connection = None if url.startswith("sqlite") else admin_connection(url)

    def close(self) -> None:
        self._app.close()
        if self._connection is not None:
            self._connection.close()

    def create(self, new_jobs: Sequence[NewJob]) -> list[UUID]:
        """Create jobs, and keep their ids as those that may not be lost."""
        ids: list[UUID] = []
        for start in range(0, len(new_jobs), _AT_ONCE):
            command = CreateJobs(scope=TENANT, new_jobs=new_jobs[start : start + _AT_ONCE])
            ids += [created.job.id for created in self._app.handle(command)]
        self.created += ids
        return ids

    def now(self) -> datetime:
        """Return the database's time."""
        if self._connection is None:
            return self._app.clock.now()
        [[now]] = self.query("SELECT heimdex_now()")
        assert isinstance(now, datetime)
        return now

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask PostgreSQL itself."""
        assert self._connection is not None, "only PostgreSQL is asked"
        with self._connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()

    def execute(self, statements: str) -> None:
        """Run statements on PostgreSQL itself."""
        assert self._connection is not None, "only PostgreSQL is asked"
        with self._connection.cursor() as cursor:
            cursor.execute(statements)

    def count(self, *statuses: Status) -> int:
        with self._app.views(SYSTEM) as views:
            return views.count(JobFilter(), statuses)

    def worker_ids(self) -> dict[str, UUID]:
        """Return the workers on record by name."""
        with self._app.views(SYSTEM) as views:
            return {worker.name: worker.id for worker in views.workers()}

    def running(self, worker: UUID) -> list[Job]:
        """Return the jobs that a worker holds."""
        return [job for job in self._pages(JobFilter(status=Status.RUNNING)) if job.claimed_by == worker]

    def history(self, job_id: UUID) -> Sequence[JobEvent]:
        with self._app.views(SYSTEM) as views:
            return views.history(job_id)

    def jobs(self) -> dict[UUID, Job]:
        return {job.id: job for job in self._pages(JobFilter())}

    def histories(self, ids: Sequence[UUID]) -> Mapping[UUID, Sequence[JobEvent]]:
        found: dict[UUID, Sequence[JobEvent]] = {}
        with self._app.views(SYSTEM) as views:
            for start in range(0, len(ids), _AT_ONCE):
                found |= views.histories(ids[start : start + _AT_ONCE])
        return found

    def _pages(self, which: JobFilter) -> Iterator[Job]:
        after: UUID | None = None
        while True:
            with self._app.views(SYSTEM) as views:
                page = views.page(which, after=after, limit=_AT_ONCE)
            yield from page.jobs
            if page.next_after is None:
                return
            after = page.next_after


@contextmanager
def scratch_ledger(store: str, url: str | None = None) -> Iterator[Ledger]:
    """Give an empty ledger of a store ("postgres" or "sqlite").

    Args:
        url: of a server on which the trial makes its database; None: that of `TEST_DATABASE_URL`, or one of its own.
    """
    with tempfile.TemporaryDirectory(prefix="heimdex-trial-") as name, ExitStack() as stack:
        folder = Path(name)
        if store == "sqlite":
            made = f"sqlite:///{folder / 'ledger.db'}"
        else:
            server = stack.enter_context(PostgresServer(make_url(url)) if url else start_server())
            made = stack.enter_context(database(server))
        yield stack.enter_context(opened(made, folder))


@contextmanager
def database(server: PostgresServer) -> Iterator[str]:
    """Give the URL of an empty database."""
    name = server.fresh_name("trial")
    server.create_database(name)
    try:
        yield server.url(name)
    finally:
        server.drop_database(name)


@contextmanager
def opened(url: str, folder: Path) -> Iterator[Ledger]:
    ledger = Ledger(url, folder)
    try:
        yield ledger
    finally:
        ledger.close()
