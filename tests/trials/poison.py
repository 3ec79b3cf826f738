"""Jobs that kill their own process, among others: only they are buried, and nobody else pays. `make poison`."""

import signal
import sys
from collections import Counter
from collections.abc import Iterator
from random import Random
from uuid import UUID

from attrs import field, frozen

from heimdex import END_STATUSES, NewJob, Status, Trigger
from heimdex.domain.job import MAX_CRASHES
from heimdex.domain.json_text import JsonValue
from tests.trials.account import Account, violation
from tests.trials.command import Report, Watch, main, seed
from tests.trials.job_functions import DEATHS, POISON, SHORT
from tests.trials.ledger import Ledger
from tests.trials.processes import Process, Processes, described

SETTINGS = {
    "LEASE_SECONDS": "2",
    "RENEW_SECONDS": "0.5",
    "SWEEP_SECONDS": "0.5",
    "POLL_SECONDS": "0.2",
    "CONCURRENCY": "4",
    "BATCH": "100",
}
_LONGEST_SECONDS = 0.01


@frozen(kw_only=True)
class Plan:
    """Jobs that kill their process, among others; a supervisor starts a worker anew when one has died.

    Each poison job starts at most three times and is buried with three crashes. Every other job succeeds in its first
    attempt, however often it was in the hands of a worker that died.
    """

    jobs: int = 1_000
    poison: int = 10
    workers: int = 3
    seed: int = field(factory=seed)


class Supervisor:
    """Keeps so many workers running, and counts those that died by how they ended."""

    def __init__(self, ledger: Ledger, processes: Processes, workers: int, deaths: Counter[int]) -> None:
        self._deaths = deaths
        self._ledger = ledger
        self._processes = processes
        self._started = 0
        self._workers = [self._start() for _ in range(workers)]

    def look(self) -> None:
        for place, worker in enumerate(self._workers):
            if worker.exit_code is not None:
                self._deaths[worker.exit_code] += 1
                self._workers[place] = self._start()

    def stop(self, watch: Watch) -> Iterator[str]:
        # Before that a signal would end one like any program.
        names = {worker.name for worker in self._workers}
        watch.wait_until(lambda: names <= set(self._ledger.worker_ids()), "the workers to work", pause=0.1)
        for worker in self._workers:
            worker.send(signal.SIGTERM)
        watch.wait_until(lambda: all(worker.ended for worker in self._workers), "the workers to stop")
        for worker in self._workers:
            if worker.exit_code:
                yield f"worker {worker.name} exited with {worker.exit_code}:\n{worker.last_words}"

    def _start(self) -> Process:
        self._started += 1
        return self._processes.start_worker(f"worker-{self._started}")


def run(plan: Plan, ledger: Ledger, watch: Watch) -> Report:
    new_jobs = _new_jobs(plan)
    ids = ledger.create(new_jobs)
    deaths: Counter[int] = Counter()
    failures: list[str] = []
    with watch.bounded(), Processes(ledger.url, ledger.folder, **SETTINGS) as processes:
        supervisor = Supervisor(ledger, processes, plan.workers, deaths)

        def all_ended() -> bool:
            supervisor.look()
            ended = ledger.count(*END_STATUSES)
            watch.advance(ended, plan.jobs, "jobs")
            return ended >= plan.jobs

        watch.wait_until(all_ended, "jobs to end", pause=0.1)
        failures += supervisor.stop(watch)
    account = Account.of(ledger)
    poison = {job_id for job_id, new in zip(ids, new_jobs, strict=True) if new.type == POISON}
    others = [job_id for job_id in ids if job_id not in poison]
    return Report(
        {"settings": described(SETTINGS), "seconds": watch.elapsed, "workers_died": deaths.total()}
        | _figures(account, poison, others),
        [*watch.problems, *account.disagreements(), *_violations(account, poison, others), *failures],
    )


def _new_jobs(plan: Plan) -> list[NewJob]:
    chance = Random(plan.seed)
    poison = chance.sample(range(plan.jobs), plan.poison)
    new_jobs = [NewJob(SHORT, {"seconds": chance.uniform(0, _LONGEST_SECONDS)}) for _ in range(plan.jobs)]
    for number, place in enumerate(poison):
        how = DEATHS[number % len(DEATHS)]
        new_jobs[place] = NewJob(POISON, {"how": how, "seconds": chance.uniform(0, _LONGEST_SECONDS)})
    return new_jobs


def _figures(account: Account, poison: set[UUID], others: list[UUID]) -> dict[str, object]:
    starts = Counter(start.job_id for start in account.starts)
    claimed_by: dict[tuple[UUID, JsonValue], JsonValue] = {
        (claim.job_id, claim.seq): claim.detail["claimed_by"] for claim in account.events(Trigger.CLAIM)
    }
    expired = account.events(Trigger.EXPIRE)
    by_worker = Counter(claimed_by[event.job_id, event.detail["lease_seq"]] for event in expired)
    statuses = Counter(job.status for job in account.jobs.values())
    spared = [account.jobs[job_id] for job_id in others if job_id in account.jobs]
    return {
        "succeeded": statuses[Status.SUCCEEDED],
        "dead_letter": statuses[Status.DEAD_LETTER],
        "lost": len(account.created) - len(account.jobs),
        "leases_expired": len(expired),
        "most_held_by_a_worker_that_died": max(by_worker.values(), default=0),
        "starts_of_a_poison_job": sorted({starts[job_id] for job_id in poison}),
        "crashes_of_a_poison_job": sorted({job.crashes for job in account.jobs.values() if job.id in poison}),
        "others_that_were_in_a_crash": sum(job.crashes > 0 for job in spared),
        "most_crashes_of_another": max((job.crashes for job in spared), default=0),
        "attempts_of_another": sorted({job.attempt for job in spared}),
    }


def _violations(account: Account, poison: set[UUID], others: list[UUID]) -> Iterator[str]:
    jobs = [account.jobs[job_id] for job_id in account.created if job_id in account.jobs]
    starts = Counter(start.job_id for start in account.starts)
    broken = {
        "killed their process and started more than three times": [
            job_id for job_id in poison if starts[job_id] > MAX_CRASHES
        ],
        "killed their process and were not buried with three crashes": [
            job.id
            for job in jobs
            if job.id in poison and (job.status, job.crashes) != (Status.DEAD_LETTER, MAX_CRASHES)
        ],
        "killed nothing and did not succeed": [
            job.id for job in jobs if job.id not in poison and job.status is not Status.SUCCEEDED
        ],
        "killed nothing and lost an attempt": [job.id for job in jobs if job.id not in poison and job.attempt != 1],
    }
    yield from (line for what, ids in broken.items() if (line := violation(what, ids)))
    if not any(account.jobs[job_id].crashes for job_id in others if job_id in account.jobs):
        yield "nothing was shown: no other job was in the hands of a worker that died"


if __name__ == "__main__":
    sys.exit(main(Plan, run, stores=("postgres", "sqlite"), seconds=600))
