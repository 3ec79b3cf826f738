"""What the verbs of a store cost: microseconds a job of Python's CPU, of the server's and of the clock, and statements.

PYTHONPATH=. .venv/bin/python bench/store_verbs.py [URL ...]     default: sqlite

A URL of PostgreSQL names a server on this machine, on which a database is made and dropped; `sqlite` is a file in a
temporary folder. Machines are noisy: the figures are medians over rounds, to be compared within one run.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from statistics import median
from uuid import UUID

from attrs import define, field, frozen
from sqlalchemy import text

from heimdex import JobContext, JobRegistry, NewJob, System, Tenant
from heimdex.adapters.clock import SystemClock
from heimdex.adapters.database import EngineSettings
from heimdex.adapters.ids import UuidSeven
from heimdex.adapters.job_verbs import Tools
from heimdex.adapters.scoping import carrying
from heimdex.adapters.sql_store import SqlStore
from heimdex.adapters.statement_log import logged_statements
from heimdex.adapters.throwaway import throwaway_database
from heimdex.adapters.wakeups import LocalWakeups
from heimdex.domain.job import Job
from heimdex.domain.outcomes import Fail, Outcome, Succeed
from heimdex.domain.results import Ending

TENANT = Tenant(UUID(int=1), actor="bench")
WORKER = System(actor="bench", reason="a worker serves every organisation", source="bench")
LEASE = timedelta(seconds=30)
TYPE = "bench.one"

jobs = JobRegistry()


@frozen
class One:
    n: int


@jobs.register(TYPE)
def one(payload: One, ctx: JobContext) -> None:
    """Do nothing."""


@define
class Figures:
    """Microseconds a job, of each round."""

    python: list[float] = field(factory=list)
    server: list[float] = field(factory=list)
    clock: list[float] = field(factory=list)
    statements: int = 0

    def __str__(self) -> str:
        python, server, clock = median(self.python), median(self.server), median(self.clock)
        least = min(self.python)
        return f"{python:>9.1f} {least:>9.1f} {server:>9.1f} {clock:>9.1f} {1e6 / clock:>9.0f} {self.statements:>6}"


class Bench:
    def __init__(self, store: SqlStore) -> None:
        self.store = store
        self._pid = self._backend() if store.database.claims_in_one_statement else None
        self._keys = count()

    def measure(self, figures: Figures, jobs: int, act: Callable[[], object]) -> None:
        server, python, clock = self._server_time(), time.process_time(), time.perf_counter()
        act()
        figures.clock.append((time.perf_counter() - clock) * 1e6 / jobs)
        figures.python.append((time.process_time() - python) * 1e6 / jobs)
        figures.server.append((self._server_time() - server) / jobs)

    def create_one(self, number: int) -> None:
        for n in range(number):
            with self.store.unit_of_work(TENANT) as uow:
                uow.jobs.create(TYPE, One(n), idempotency_key=f"k-{next(self._keys)}" if n % 2 else None)

    def create_many(self, number: int) -> None:
        new = [NewJob(TYPE, One(n), idempotency_key=f"k-{next(self._keys)}" if n % 2 else None) for n in range(number)]
        with self.store.unit_of_work(TENANT) as uow:
            uow.jobs.create_many(new)

    def claim(self, number: int) -> list[Job]:
        with self.store.unit_of_work(WORKER) as uow:
            return uow.jobs.claim_due(worker=UUID(int=9), types=[TYPE], lease=LEASE, limit=number)

    def finish(self, held: list[Job], outcome: Outcome) -> None:
        with self.store.unit_of_work(WORKER) as uow:
            assert len(uow.jobs.finish([Ending(job, outcome) for job in held]).jobs) == len(held)

    def _backend(self) -> int:
        with self.store.database.reading(WORKER) as session:
            return int(session.execute(carrying(text("SELECT pg_backend_pid()"), WORKER)).scalar_one())

    def _server_time(self) -> float:
        if self._pid is None:
            return 0.0
        # Nanoseconds on a processor, and then what does not matter here.
        return int(Path(f"/proc/{self._pid}/schedstat").read_text().split()[0]) / 1_000


def run(bench: Bench, batch: int, rounds: int) -> dict[str, Figures]:
    figures = {name: Figures() for name in ("create one", "create many", "claim", "succeed", "fail, retry")}
    bench.create_one(50)
    bench.create_many(batch)
    for number in range(rounds):
        bench.measure(figures["create one"], 200, lambda: bench.create_one(200))
        bench.measure(figures["create many"], batch * 2, lambda: bench.create_many(batch * 2))
        for name, outcome in (("succeed", Succeed('{"n":1}')), ("fail, retry", Fail("boom", "no"))):
            held: list[Job] = []
            bench.measure(figures["claim"], batch, lambda: held.extend(bench.claim(batch)))  # noqa: B023 - called at once
            bench.measure(figures[name], batch, lambda: bench.finish(held, outcome))  # noqa: B023 - called at once
        if number == 0:
            count_statements(bench, figures)
    return figures


def count_statements(bench: Bench, figures: dict[str, Figures]) -> None:
    held: list[Job] = []
    acts: dict[str, Callable[[], object]] = {
        "create one": lambda: bench.create_one(1),
        "create many": lambda: bench.create_many(10),
        "claim": lambda: held.extend(bench.claim(10)),
        "succeed": lambda: bench.finish(held[:5], Succeed()),
        "fail, retry": lambda: bench.finish(held[5:], Fail("boom", "no")),
    }
    for name, act in acts.items():
        with logged_statements(bench.store) as statements:
            act()
        figures[name].statements = len(statements)


@contextmanager
def opened(url: str) -> Iterator[Bench]:
    with ExitStack() as stack:
        if url == "sqlite":
            url = f"sqlite:///{stack.enter_context(tempfile.TemporaryDirectory())}/bench.db"
        tools = Tools(specify=jobs.specify, ids=UuidSeven(), random=lambda: 0.5, wake=lambda _: None)
        database = stack.enter_context(throwaway_database(url)).replace("postgresql://", "postgresql+psycopg2://")
        store = SqlStore(database, EngineSettings(), clock=SystemClock(), tools=tools, wakeups=LocalWakeups())
        stack.callback(store.close)
        yield Bench(store)


def main(urls: list[str], batch: int = 200, rounds: int = 15) -> None:
    for url in urls:
        with opened(url) as bench:
            figures = run(bench, batch, rounds)
        sys.stdout.write(f"{url.partition(':')[0]}, batches of {batch}, medians of {rounds} rounds\n")
        sys.stdout.write(
            f"{'us a job':>12} {'python':>9} {'at least':>9} {'server':>9} {'clock':>9} {'jobs/s':>9} {'stmts':>6}\n"
        )
        for name, each in figures.items():
            sys.stdout.write(f"{name:>12} {each}\n")


if __name__ == "__main__":
    main(sys.argv[1:] or ["sqlite"])
