"""Many threads create jobs with the same keys at once: as many jobs as keys, and every thread gets the same ones.

make idempotency          memory and PostgreSQL with 64 threads and 1,000 keys, SQLite with 16 and 200
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier
from uuid import UUID

from heimdex import CreateJobs, HeimdexError, JobFilter, NewJob, Tenant
from heimdex.bootstrap import Application, bootstrap
from heimdex.config import Settings
from tests.postgres_server import start_server

TENANT = Tenant(UUID(int=1), actor="bench")


def create_all(app: Application, barrier: Barrier, keys: int) -> tuple[list[UUID | None], int]:
    """Create one job for each key, each in a unit of work of its own; return their ids and the number of errors."""
    ids: list[UUID | None] = []
    errors = 0
    barrier.wait()
    for key in range(keys):
        new = NewJob("t", {"key": key}, idempotency_key=f"key-{key}")
        try:
            [created] = app.handle(CreateJobs(scope=TENANT, new_jobs=[new]))
            ids.append(created.job.id)
        except HeimdexError as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            errors += 1
            ids.append(None)
    return ids, errors


def attack(name: str, url: str, threads: int, keys: int) -> bool:
    settings = Settings(database_url=url, pool_size=threads, lock_timeout_seconds=60, statement_timeout_seconds=60)
    with bootstrap(settings) as app, ThreadPoolExecutor(threads) as pool:
        app.schema.upgrade()
        barrier = Barrier(threads)
        began = time.perf_counter()
        answers = list(pool.map(lambda _: create_all(app, barrier, keys), range(threads)))
        seconds = time.perf_counter() - began
        with app.views(TENANT) as views:
            jobs = views.count(JobFilter())
    errors = sum(count for _, count in answers)
    same = len({tuple(ids) for ids, _ in answers}) == 1
    sound = (jobs, errors, same) == (keys, 0, True)
    sys.stdout.write(
        f"{name:10} {threads:3} threads x {keys:5,} keys: {jobs:5,} jobs, {errors} errors, "
        f"{'the same ids everywhere' if same else 'DIFFERENT IDS'}, {threads * keys / seconds:8,.0f} creates a second"
        f"{'' if sound else '  WRONG'}\n"
    )
    return sound


@contextmanager
def postgres() -> Iterator[str]:
    with start_server() as server:
        name = server.fresh_name("idempotency")
        server.create_database(name)
        yield server.url(name)
        server.drop_database(name)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, postgres() as url:
        sound = [
            attack("memory", "memory://", 64, 1_000),
            attack("postgresql", url, 64, 1_000),
            attack("sqlite", f"sqlite:///{Path(folder) / 'heimdex.db'}", 16, 200),
        ]
    return 0 if all(sound) else 1


if __name__ == "__main__":
    sys.exit(main())
