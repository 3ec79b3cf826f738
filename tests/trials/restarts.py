"""Workers that are stopped and started anew, one after the other, while jobs keep coming. `make restarts`."""

import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from random import Random
from threading import Event
from time import monotonic
from uuid import UUID

from attrs import define, field, frozen

from heimdex import END_STATUSES, NewJob, Status
from tests.trials.account import Account
from tests.trials.command import Report, Watch, main, seed
from tests.trials.job_functions import LONG, SHORT
from tests.trials.ledger import Ledger
from tests.trials.processes import Process, Processes
from tests.trials.restarts_report import Restart, figures, violations
from tests.trials.second_signal import StoppedTwice, stop_twice

SETTINGS = {"POLL_SECONDS": "0.2", "CONCURRENCY": "4", "BATCH": "100"}
# What waits while there is less of it than a few workers do in a moment.
_BACKLOG = 100
_SHORT_AT_ONCE, _LONG_AT_ONCE = 20, 2


@frozen(kw_only=True)
class Plan:
    """Stops one worker after the other by SIGTERM, and starts another in its place, while jobs keep coming.

    Some jobs outlast the grace. No restart spends an attempt, leaves a lease behind or lets a finished job run again.
    Times of claims are compared with the database's time just before the signal. Then some workers are stopped in a
    long grace, which a second signal ends.
    """

    restarts: int = 200
    workers: int = 3
    grace_seconds: float = 0.3
    exit_seconds: float = 2.0
    claim_seconds: float = 0.1
    second_signals: int = 10
    seed: int = field(factory=seed)


@define(eq=False)
class Fleet:
    """Workers that are stopped and replaced in turn."""

    ledger: Ledger
    processes: Processes
    watch: Watch
    _workers: list[Process] = field(factory=list, init=False)
    _started: int = field(default=0, init=False)

    def start(self) -> None:
        self._started += 1
        self._workers.append(self.processes.start_worker(f"worker-{self._started}", "--queue", "default"))

    def stop_oldest(self) -> Restart:
        worker = self._workers.pop(0)
        worker_id = self._id(worker)
        signaled_at: datetime = self.ledger.now()
        began = monotonic()
        worker.send(signal.SIGTERM)
        self.watch.wait_until(lambda: worker.ended, f"{worker.name} to stop", pause=0.005)
        seconds = monotonic() - began
        return Restart(
            worker=worker.name,
            signaled_at=signaled_at,
            seconds=seconds,
            exit_code=worker.exit_code,
            left_running=len(self.ledger.running(worker_id)),
            last_words=worker.last_words,
        )

    def _id(self, worker: Process) -> UUID:
        """Wait until a worker is on record: from then on signals ask it to stop."""
        found: list[UUID] = []

        def on_record() -> bool:
            worker.expect_running()
            found[:] = [worker_id for name, worker_id in self.ledger.worker_ids().items() if name == worker.name]
            return bool(found)

        self.watch.wait_until(on_record, f"{worker.name} to work", pause=0.05)
        return found[0]


def run(plan: Plan, ledger: Ledger, watch: Watch) -> Report:
    settings = SETTINGS | {"GRACE_SECONDS": f"{plan.grace_seconds:g}"}
    restarts: list[Restart] = []
    twice: list[StoppedTwice] = []
    with watch.bounded(), Processes(ledger.url, ledger.folder, **settings) as processes:
        fleet = Fleet(ledger, processes, watch)
        with producing(ledger, Random(plan.seed)):
            for _ in range(plan.workers):
                fleet.start()
            for number in range(plan.restarts):
                watch.advance(number, plan.restarts, "restarts")
                restarts.append(fleet.stop_oldest())
                fleet.start()
        watch.wait_until(lambda: not ledger.count(Status.QUEUED, Status.RUNNING), "the last jobs", pause=0.1)
        restarts += [fleet.stop_oldest() for _ in range(plan.workers)]
        twice.extend(stop_twice(f"twice-{n}", ledger, processes, watch) for n in range(plan.second_signals))
        if twice:
            processes.start_worker("twice-last", "--queue", "gated")
        watch.wait_until(lambda: ledger.count(*END_STATUSES) == len(ledger.created), "jobs to end", pause=0.1)
    account = Account.of(ledger)
    limits = plan.grace_seconds + plan.exit_seconds, plan.claim_seconds, plan.exit_seconds
    found = [*watch.problems, *account.disagreements(), *violations(account, restarts, twice, *limits)]
    return Report(figures(account, restarts, twice, settings) | {"seconds": watch.elapsed}, found)


@contextmanager
def producing(ledger: Ledger, chance: Random) -> Iterator[None]:
    """Keep jobs coming until the block ends."""
    enough = Event()

    def produce() -> None:
        while not enough.wait(0.1):
            if ledger.count(Status.QUEUED) < _BACKLOG:
                lengths = [(SHORT, 0.0, 0.02)] * _SHORT_AT_ONCE + [(LONG, 0.5, 2.0)] * _LONG_AT_ONCE
                chance.shuffle(lengths)
                ledger.create([NewJob(type, {"seconds": chance.uniform(*bounds)}) for type, *bounds in lengths])

    with ThreadPoolExecutor(1) as pool:
        producer = pool.submit(produce)
        try:
            yield
        finally:
            enough.set()
        producer.result()


if __name__ == "__main__":
    sys.exit(main(Plan, run, stores=("postgres", "sqlite"), seconds=1_800))
