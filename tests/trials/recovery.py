"""How long a job waits when its worker was killed: from the kill to the next claim. `make recovery`."""

import signal
import sys
from collections.abc import Sequence
from datetime import datetime
from itertools import count
from random import Random
from statistics import median
from time import sleep
from uuid import UUID

from attrs import define, field, frozen

from heimdex import JobEvent, NewJob, Status, Trigger
from tests.trials.account import Account
from tests.trials.command import Report, Watch, main, seed
from tests.trials.job_functions import LONG
from tests.trials.ledger import Ledger
from tests.trials.processes import Process, Processes, described
from tests.trials.starts import read

# One job at a time: a suspect waits until it is alone in its worker, and that wait is not what is measured.
SETTINGS = {
    "SWEEP_SECONDS": "0.5",
    "POLL_SECONDS": "0.2",
    "CONCURRENCY": "1",
    "BATCH": "1",
}
_LONG_SECONDS = 120.0
# So that a kill falls anywhere between two renewals.
_LONGEST_WAIT_SECONDS = 1.0


@frozen(kw_only=True)
class Plan:
    """Kills the one of two workers that runs a long job, again and again; the other worker has to take the job.

    Times are the database's: just before the kill, and of the claim.
    """

    kills: int = 100
    median_seconds: float = 2.0
    longest_seconds: float = 4.0
    lease_seconds: float = 1.0
    seed: int = field(factory=seed)

    @property
    def settings(self) -> dict[str, str]:
        return {"LEASE_SECONDS": f"{self.lease_seconds:g}", "RENEW_SECONDS": f"{0.3 * self.lease_seconds:g}"} | SETTINGS


@define(eq=False)
class Pair:
    """Two workers; one that was killed is replaced only when its job has been taken."""

    ledger: Ledger
    processes: Processes
    watch: Watch
    _names: "count[int]" = field(factory=lambda: count(1), init=False)
    _workers: list[Process] = field(factory=list, init=False)

    def fill(self) -> None:
        """Start what is missing, and wait until both work."""
        self._workers = [worker for worker in self._workers if not worker.ended]
        while len(self._workers) < 2:
            self._workers.append(self.processes.start_worker(f"worker-{next(self._names)}"))
        names = {worker.name for worker in self._workers}

        def both_work() -> bool:
            for worker in self._workers:
                worker.expect_running()
            return names <= set(self.ledger.worker_ids())

        self.watch.wait_until(both_work, "both workers to work")

    def holder(self, job_id: UUID) -> Process:
        """Wait until a job has started, and return the worker that runs it."""
        found: list[Process] = []

        def started() -> bool:
            pids = {start.pid for start in read(self.ledger.folder / "starts") if start.job_id == job_id}
            found[:] = [worker for worker in self._workers if worker.pid in pids]
            return bool(found)

        self.watch.wait_until(started, f"job {job_id} to start")
        [holder] = found
        return holder

    def stop(self) -> None:
        for worker in self._workers:
            worker.send(signal.SIGTERM)
        self.watch.wait_until(lambda: all(worker.ended for worker in self._workers), "the workers to stop")


def run(plan: Plan, ledger: Ledger, watch: Watch) -> Report:
    chance = Random(plan.seed)
    kills: dict[UUID, datetime] = {}
    with watch.bounded(), Processes(ledger.url, ledger.folder, **plan.settings) as processes:
        pair = Pair(ledger, processes, watch)
        pair.fill()
        for number in range(plan.kills):
            watch.advance(number, plan.kills, "kills")
            [job_id] = ledger.create([NewJob(LONG, {"seconds": _LONG_SECONDS})])
            holder = pair.holder(job_id)
            sleep(chance.uniform(0, _LONGEST_WAIT_SECONDS))
            kills[job_id] = ledger.now()
            # The process alone: what it has started must not keep its leases.
            holder.send(signal.SIGKILL)
            watch.wait_until(lambda: ledger.count(Status.QUEUED, Status.RUNNING) == 0, "the other worker")
            pair.fill()
        pair.stop()
    account = Account.of(ledger)
    delays = [delay for job_id, at in kills.items() for delay in _delays(account.histories[job_id], at)]
    found = [*watch.problems, *account.disagreements(), *_violations(plan, account, delays)]
    return Report(_figures(plan, delays, watch), found)


def _delays(events: Sequence[JobEvent], killed_at: datetime) -> list[float]:
    """Return the seconds from a kill to the next claim, if there was one."""
    claims = [event.ts for event in events if event.trigger is Trigger.CLAIM and event.ts > killed_at]
    return [(at - killed_at).total_seconds() for at in claims[:1]]


def _figures(plan: Plan, delays: list[float], watch: Watch) -> dict[str, object]:
    in_order = sorted(delays) or [0.0]
    parts = {"shortest": 0.0, "half": 0.5, "nine_in_ten": 0.9, "longest": 1.0}
    found = {f"{name}_s": round(in_order[int(part * (len(in_order) - 1))], 3) for name, part in parts.items()}
    return {"settings": described(plan.settings), "seconds": watch.elapsed, "recovered": len(delays)} | found


def _violations(plan: Plan, account: Account, delays: list[float]) -> list[str]:
    jobs = account.jobs.values()
    lives = {(job.status, job.attempt, job.crashes) for job in jobs}
    broken = {
        f"{len(delays)} of {plan.kills} jobs were claimed after the kill": len(delays) != plan.kills,
        f"jobs ended otherwise than succeeded, in attempt 1, after 1 crash: {lives}": lives
        != {(Status.SUCCEEDED, 1, 1)},
        f"the median is over {plan.median_seconds} s": median(delays or [0.0]) > plan.median_seconds,
        f"the longest is over {plan.longest_seconds} s": max(delays, default=0.0) > plan.longest_seconds,
    }
    return [what for what, is_broken in broken.items() if is_broken]


if __name__ == "__main__":
    sys.exit(main(Plan, run, stores=("postgres", "sqlite"), seconds=1_800))
