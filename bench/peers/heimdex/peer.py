"""Heimdex through its public interface: commands that create, and `heimdex worker`."""

import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import psycopg2
from attrs import frozen

from bench import protocol
from bench.protocol import Wish
from heimdex import CreateJobs, JobContext, JobRegistry, NewJob, Tenant
from heimdex.bootstrap import Application, bootstrap
from heimdex.config import Settings
from heimdex.service_layer.ports import Duty

CONCURRENCY = 1
BATCH = 1_000
TENANT = Tenant(UUID(int=1), actor="bench")
LOGIN = "heimdex_bench"
"""Who connects where row-level security is on: neither superuser nor owner."""

WALLED = os.environ.get("BENCH_WALLED") == "1"

jobs = JobRegistry()


@frozen
class Noop:
    number: int
    text: str
    at: int


@jobs.register("noop")
def noop(payload: Noop, ctx: JobContext) -> None:
    protocol.arrived(payload.at)


class Creator:
    def __init__(self, app: Application) -> None:
        self._app = app

    async def one(self, wish: Wish) -> None:
        new = NewJob("noop", Noop(wish.number, wish.text, wish.at), idempotency_key=wish.key)
        self._app.handle(CreateJobs(scope=TENANT, new_jobs=[new]))

    async def many(self, wishes: Sequence[Wish]) -> None:
        new_jobs = (NewJob("noop", Noop(wish.number, wish.text, wish.at), idempotency_key=wish.key) for wish in wishes)
        for _ in self._app.create_in_batches(TENANT, new_jobs):
            pass


class Heimdex:
    # All in one call: `create_in_batches` makes batches itself.
    batch = 1_000_000

    async def setup(self) -> None:
        url = protocol.database_url()
        with bootstrap(Settings(database_url=url), jobs=jobs) as app:
            app.schema.upgrade()
            if WALLED:
                _make_login(url)
                app.schema.make_roles(LOGIN, duty=Duty.BOTH)

    @asynccontextmanager
    async def creator(self) -> AsyncIterator[Creator]:
        with bootstrap(Settings(database_url=_url()), jobs=jobs) as app:
            yield Creator(app)

    def work(self) -> None:
        here = str(Path(__file__).parent)
        path = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])
        asked = {
            "HEIMDEX_DATABASE_URL": _url(),
            "HEIMDEX_JOBS": "peer:jobs",
            "HEIMDEX_CONCURRENCY": str(CONCURRENCY),
            "HEIMDEX_BATCH": str(BATCH),
            "PYTHONPATH": path,
        }
        command = [sys.executable, "-m", "heimdex", "worker"]
        os.execve(sys.executable, command, {**os.environ, **asked})  # noqa: S606 - becomes the worker


def _url() -> str:
    return protocol.database_url().replace("//postgres@", f"//{LOGIN}@") if WALLED else protocol.database_url()


def _make_login(url: str) -> None:
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT FROM pg_roles WHERE rolname = %s", [LOGIN])
        if cursor.fetchone() is None:
            cursor.execute(f"CREATE ROLE {LOGIN} LOGIN")
    connection.close()


if __name__ == "__main__":
    protocol.run(Heimdex())
