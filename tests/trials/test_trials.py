"""Each trial, small. What they measure in seconds is not asserted."""

import pytest

from tests.trials import poison, recovery, renewals, restarts
from tests.trials.command import OutOfTime, Watch
from tests.trials.ledger import Ledger

# They start some processes, one after the other; on a machine under load that takes its time.
pytestmark = pytest.mark.timeout(600)

NEVER_TOO_LONG = 500.0


def test_jobs_that_kill_their_process_are_buried_and_no_other_pays(ledger: Ledger, watch: Watch) -> None:
    report = poison.run(poison.Plan(jobs=60, poison=2, workers=2), ledger, watch)

    assert report.violations == [], report
    assert (report.figures["succeeded"], report.figures["dead_letter"]) == (58, 2)


def test_a_job_whose_worker_was_killed_is_taken_by_another(ledger: Ledger, watch: Watch) -> None:
    # A longer lease, since a machine under load may keep a worker from renewing.
    plan = recovery.Plan(kills=2, lease_seconds=3, median_seconds=NEVER_TOO_LONG, longest_seconds=NEVER_TOO_LONG)

    report = recovery.run(plan, ledger, watch)

    assert report.violations == [], report
    assert report.figures["recovered"] == 2


def test_restarts_spend_no_attempt_and_leave_no_lease(ledger: Ledger, watch: Watch) -> None:
    plan = restarts.Plan(
        restarts=2, workers=2, second_signals=1, exit_seconds=NEVER_TOO_LONG, claim_seconds=NEVER_TOO_LONG
    )

    report = restarts.run(plan, ledger, watch)

    assert report.violations == [], report
    # The last workers are stopped too.
    assert (report.figures["stopped_workers"], report.figures["second_signals"]) == (4, 1)


def test_renewals_are_counted_in_the_database_and_keep_every_lease(postgres_ledger: Ledger, watch: Watch) -> None:
    plan = renewals.Plan(renewals=60, held=20, lockers=0, busy=0, renew_seconds=0.5)

    report = renewals.run(plan, postgres_ledger, watch)

    assert report.violations == [], report
    assert (report.figures["succeeded"], report.figures["leases_expired"]) == (20, 0)


def test_a_function_that_keeps_the_interpreter_lock_loses_nobody_a_lease(postgres_ledger: Ledger, watch: Watch) -> None:
    plan = renewals.Plan(renewals=60, held=20, lockers=1, busy=0, lease_seconds=2, renew_seconds=0.5)

    report = renewals.run(plan, postgres_ledger, watch)

    assert report.violations == [], report


def test_a_trial_that_does_not_end_says_where_it_stands() -> None:
    watch = Watch(seconds=0)
    watch.advance(12, 200, "kills")

    with pytest.raises(OutOfTime, match="gave up after 0 s, 12 of 200 kills, waiting for the end"):
        watch.wait_until(lambda: False, "the end")
