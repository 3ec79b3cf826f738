"""Leases are renewed in time, whatever the job functions and the machine do. `make renewals`."""

import sys
from collections.abc import Iterator
from math import ceil

from attrs import frozen

from heimdex import END_STATUSES, NewJob, Status, Trigger
from heimdex.domain.new_job import JobLimits
from heimdex.domain.rules import from_milliseconds
from tests.trials.account import Account, violation
from tests.trials.command import Report, Watch, main
from tests.trials.job_functions import LOCKING, SHORT
from tests.trials.ledger import Ledger
from tests.trials.processes import Processes, described

_REST_SECONDS = 1.0
_COUNTING = """
CREATE TABLE trial_renewal (renewed bigint NOT NULL, late bigint NOT NULL, expired bigint NOT NULL, least interval);
CREATE FUNCTION trial_count_renewals() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO trial_renewal
    SELECT count(*) FILTER (WHERE before.version = after.version),
        count(*) FILTER (WHERE before.version = after.version AND before.lease_until <= heimdex_now()),
        count(*) FILTER (WHERE before.crashes < after.crashes),
        min(before.lease_until - heimdex_now()) FILTER (WHERE before.version = after.version)
    FROM before JOIN after USING (id)
    WHERE before.lease_until IS DISTINCT FROM after.lease_until AND before.lease_until IS NOT NULL
    HAVING count(*) > 0;
    RETURN NULL;
END $$;
CREATE TRIGGER trial_count_renewals AFTER UPDATE ON job REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION trial_count_renewals();
"""
_COUNTED = """
SELECT coalesce(sum(renewed), 0)::bigint, coalesce(sum(late), 0)::bigint, coalesce(sum(expired), 0)::bigint,
    count(*) FILTER (WHERE renewed > 0), coalesce(extract(epoch FROM min(least)), 0)::float
FROM trial_renewal
"""


@frozen(kw_only=True)
class Plan:
    """One worker holds many jobs. Most sleep; some hold the interpreter lock for two leases, again and again.

    Busy processes take the processors, and the reaper of a second worker looks every half second. A trigger in the
    scratch database counts the rows whose lease_until moves while their version does not. No lease may expire.
    """

    renewals: int = 100_000
    held: int = 1_000
    lockers: int = 2
    busy: int = 2
    lease_seconds: float = 5.0
    renew_seconds: float = 1.0
    # As many leases as one call holds the lock for.
    locked_leases: float = 2.0

    @property
    def delay_seconds(self) -> float:
        """How long the lock is left alone, so that all jobs can start."""
        return 1 + self.held / 100

    @property
    def seconds(self) -> float:
        """How long the jobs run, with a third to spare: a renewal may come a little later than it is due."""
        return self.delay_seconds + 1.33 * self.renewals / self.held * self.renew_seconds

    @property
    def settings(self) -> dict[str, str]:
        return {
            "LEASE_SECONDS": f"{self.lease_seconds:g}",
            "RENEW_SECONDS": f"{self.renew_seconds:g}",
            "SWEEP_SECONDS": "0.5",
            "POLL_SECONDS": "1",
            "CONCURRENCY": str(self.held),
            "BATCH": str(self.held),
        }

    def new_jobs(self) -> list[NewJob]:
        limits = JobLimits(timeout=from_milliseconds(int(1_000 * (4 * self.seconds + 600))))
        locked = self.lease_seconds * self.locked_leases
        # All of them take turns at the one lock.
        times = ceil((self.seconds - self.delay_seconds) / (locked * max(self.lockers, 1)))
        locking = {"delay": self.delay_seconds, "seconds": locked, "times": times, "rest": _REST_SECONDS}
        sleeping = self.held - self.lockers
        return [
            *(NewJob(LOCKING, locking, limits=limits) for _ in range(self.lockers)),
            *(NewJob(SHORT, {"seconds": self.seconds}, limits=limits) for _ in range(sleeping)),
        ]


@frozen
class Renewals:
    """What the trigger counted.

    Args:
        late: rows that were renewed when their lease had run out.
        least_left: of a lease when it was renewed, in seconds.
    """

    rows: int
    late: int
    expired: int
    statements: int
    least_left: float

    @classmethod
    def of(cls, ledger: Ledger) -> "Renewals":
        [counted] = ledger.query(_COUNTED)
        return cls(*counted)


def run(plan: Plan, ledger: Ledger, watch: Watch) -> Report:
    ledger.execute(_COUNTING)
    ledger.create(plan.new_jobs())
    with watch.bounded(), Processes(ledger.url, ledger.folder, **plan.settings) as processes:
        # It takes no jobs: it is there to find leases that have run out.
        workers = [processes.start_worker("reaper", "--queue", "elsewhere")]
        watch.wait_until(lambda: "reaper" in ledger.worker_ids(), "the reaper to work", pause=0.1)
        for number in range(plan.busy):
            processes.start_busy(f"busy-{number}")
        workers.append(processes.start_worker("holder"))

        def is_over() -> bool:
            for worker in workers:
                worker.expect_running()
            renewals = Renewals.of(ledger)
            watch.advance(renewals.rows, plan.renewals, "renewals")
            # A lost lease is the answer already, and what was lost would run again, one at a time.
            return renewals.expired > 0 or ledger.count(*END_STATUSES) == plan.held

        watch.wait_until(is_over, "jobs to end", pause=0.5)
    renewals, account = Renewals.of(ledger), Account.of(ledger)
    return Report(_figures(plan, account, renewals, watch), [*watch.problems, *_violations(plan, account, renewals)])


def _figures(plan: Plan, account: Account, renewals: Renewals, watch: Watch) -> dict[str, object]:
    return {
        "settings": described(plan.settings),
        "one_call_holds_the_lock_for_s": plan.lease_seconds * plan.locked_leases,
        "seconds": watch.elapsed,
        "rows_renewed": renewals.rows,
        "statements": renewals.statements,
        "renewed_too_late": renewals.late,
        "leases_expired": len(account.events(Trigger.EXPIRE)),
        "least_left_of_a_lease_s": round(renewals.least_left, 3),
        "started": len(account.starts),
        "succeeded": sum(job.status is Status.SUCCEEDED for job in account.jobs.values()),
    }


def _violations(plan: Plan, account: Account, renewals: Renewals) -> Iterator[str]:
    if expired := account.events(Trigger.EXPIRE):
        yield violation("lost their lease while their worker lived", sorted({event.job_id for event in expired}))
        return
    if renewals.rows < plan.renewals:
        yield f"nothing was shown: {renewals.rows:,} rows were renewed of the {plan.renewals:,} asked for"
    if renewals.late:
        yield f"{renewals.late:,} leases were renewed after they had run out"
    lives = {(job.status, job.attempt, job.crashes) for job in account.jobs.values()}
    if lives != {(Status.SUCCEEDED, 1, 0)}:
        yield f"jobs ended otherwise than succeeded in attempt 1 without a crash: {lives}"
    yield from account.disagreements()


if __name__ == "__main__":
    sys.exit(main(Plan, run, stores=("postgres",), seconds=1_800))
