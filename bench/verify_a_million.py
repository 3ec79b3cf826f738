"""`heimdex verify` on a million events, as a process of its own: seconds and memory, on SQLite and on PostgreSQL.

make verify-million                                 an SQLite file and a server that is started for it
make verify-million ARGS="--events 100000"          fewer
make verify-million ARGS="--database-url URL"       only this database, which has to be empty; its rows stay
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from sqlalchemy import create_engine, text

from heimdex import Cancel, Fail, JobLimits, System, Tenant
from heimdex.bootstrap import Application, bootstrap
from heimdex.config import Settings
from heimdex.domain.job import Job
from heimdex.domain.outcomes import Outcome, Progress, Release, Succeed
from heimdex.domain.results import Ending, Report
from tests.postgres_server import start_server

WORKER = UUID(int=101)
SYSTEM = System(actor="bench", reason="a ledger to be verified", source=f"worker {WORKER}")
PAYLOAD = {"uri": "file:///somewhere/in/a/folder/that/is/as/long/as/others/are.txt", "size": 123_456}
FAIL = Fail("TimeoutError", "the other end did not answer within 30 seconds")

# What becomes of a job, run by run.
LIVES: tuple[tuple[Outcome, ...], ...] = (
    (Succeed('{"pages":12}'),),
    (Succeed(),),
    (FAIL, Succeed()),
    (Cancel("not wanted any more"),),
    (Release("the worker stops"), Succeed()),
    (Fail("bad_input", "no such file", permanent=True),),
)

# Copies of what Heimdex itself wrote, each under an id of its own: the first 12 of the 32 digits are a number, in the
# order of which they were created.
COPY = {
    "sqlite": (
        "WITH RECURSIVE copies(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM copies WHERE n < :copies)",
        "printf('%012x', n) || substr({}, 13)",
        "copies",
    ),
    "postgresql": (
        "",
        "CAST(lpad(to_hex(n), 12, '0') || substr(replace({}::text, '-', ''), 13) AS uuid)",
        "generate_series(1, CAST(:copies AS integer)) AS copies(n)",
    ),
}


def live(app: Application, number: int, outcomes: tuple[Outcome, ...]) -> None:
    """Let one job live to its end."""
    with app.unit_of_work(Tenant(UUID(int=number % 3 + 1), actor="bench")) as uow:
        job = uow.jobs.create("bench.work", PAYLOAD, limits=JobLimits(max_attempts=3)).job
    for at, outcome in enumerate(outcomes):
        with app.unit_of_work(SYSTEM) as uow:
            held = uow.jobs.claim(job.id, worker=WORKER, lease=timedelta(seconds=30))
            if at:
                told(uow.jobs.report, held)
        with app.unit_of_work(SYSTEM) as uow:
            uow.jobs.finish([Ending(held, outcome)])


def told(report: object, held: Job) -> None:
    assert callable(report)
    assert held.hold is not None
    report([Report(held.hold, Progress("reading", 40))])


def fill(url: str, events: int) -> None:
    """Fill an empty database with about so many events."""
    with bootstrap(Settings(database_url=url)) as app:
        app.schema.upgrade()
        for number, outcomes in enumerate(LIVES):
            live(app, number, outcomes)
    engine = create_engine(url)
    with engine.begin() as connection:
        made = connection.execute(text("SELECT count(*) FROM job_event")).scalar_one()
        series, id_of, source = COPY[engine.dialect.name]
        for table, key in (("job", "id"), ("job_event", "job_id")):
            names = [column for column in columns(url, table) if column != key]
            connection.execute(
                text(
                    f"INSERT INTO {table} ({key}, {', '.join(names)}) {series}"  # noqa: S608 - our own names
                    f" SELECT {id_of.format(key)}, {', '.join(names)} FROM {table} CROSS JOIN {source}"
                ),
                {"copies": events // made},
            )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))
    engine.dispose()


def columns(url: str, table: str) -> list[str]:
    engine = create_engine(url)
    with engine.connect() as connection:
        found = list(connection.execute(text(f"SELECT * FROM {table} LIMIT 0")).keys())  # noqa: S608 - as above
    engine.dispose()
    return found


def cpu_seconds() -> float:
    """Return how long processes that have ended have worked: beside others on a machine they wait longer."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(url: str) -> bool:
    """Verify a ledger in a process of its own; return whether it is sound."""
    command = [sys.executable, "-m", "heimdex", "verify", "--json", "--database-url", url]
    began, before = time.perf_counter(), cpu_seconds()
    run = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own program
    seconds = time.perf_counter() - began
    worked = cpu_seconds() - before
    mebibytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    if run.returncode not in {0, 1}:
        sys.stderr.write(run.stderr)
        return False
    found = json.loads(run.stdout)
    sys.stdout.write(
        f"{url.partition(':')[0]:22} {found['events']:9,} events of {found['jobs']:7,} jobs: {seconds:6.1f} s,"
        f" {worked:6.1f} s of it at work, {mebibytes:4.0f} MiB, {'sound' if found['sound'] else f'NOT SOUND {found}'}\n"
    )
    sys.stdout.flush()
    return bool(found["sound"])


@contextmanager
def databases(url: str | None) -> Iterator[list[str]]:
    if url is not None:
        yield [url]
        return
    with tempfile.TemporaryDirectory() as folder, start_server() as server:
        name = server.fresh_name("verify")
        server.create_database(name)
        yield [f"sqlite:///{Path(folder) / 'heimdex.db'}", server.url(name)]
        server.drop_database(name)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--database-url")
    asked = parser.parse_args()
    sound = []
    with databases(asked.database_url) as urls:
        for url in urls:
            fill(url, asked.events)
            sound.append(measure(url))
    return 0 if all(sound) else 1


if __name__ == "__main__":
    sys.exit(main())
