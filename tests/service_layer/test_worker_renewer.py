"""A worker beside which somebody else renews: what it takes over, and what it does when that one falls silent."""

from datetime import timedelta

from heimdex.domain.commands import RenewLeases
from heimdex.domain.errors import DatabaseUnavailable, LeaseLost
from heimdex.domain.transitions import Trigger
from heimdex.service_layer.job_context import JobContext
from tests.service_layer.worker_harness import (
    SYSTEM,
    HandLedger,
    HandRenewer,
    HandWorker,
    Payload,
    nothing,
    put_forward,
    registry,
)

IN_ONE_GO = [Trigger.CREATE, Trigger.CLAIM, Trigger.SUCCEED]


def test_what_is_renewed_elsewhere_the_loop_does_not_renew() -> None:
    ledger = HandLedger(registry())
    renewer = HandRenewer(ledger)
    worker = HandWorker(ledger, renewer=renewer)

    def long(payload: Payload, ctx: JobContext) -> None:
        for _ in range(12):
            worker.pass_time(8)
            renewer.renew()
        ctx.check()

    ledger.jobs.register("long")(long)
    job_id = ledger.create("long")
    worker.settle()

    assert ledger.triggers(job_id) == IN_ONE_GO
    assert ledger.faults.begun[RenewLeases] == 0


def test_the_loop_renews_when_the_renewer_is_silent_and_leaves_it_off_when_it_is_back() -> None:
    ledger = HandLedger(registry())
    renewer = HandRenewer(ledger)
    worker = HandWorker(ledger, renewer=renewer)
    renewals = []

    def long(payload: Payload, ctx: JobContext) -> None:
        worker.pass_time(8)
        renewer.renew()
        worker.pass_time(9.9)
        renewals.append(ledger.faults.begun[RenewLeases])
        worker.pass_time(0.2)
        renewals.append(ledger.faults.begun[RenewLeases])
        worker.pass_time(40)
        renewals.append(ledger.faults.begun[RenewLeases])
        for _ in range(5):
            renewer.renew()
            worker.pass_time(8)
        renewals.append(ledger.faults.begun[RenewLeases])
        ctx.check()

    ledger.jobs.register("long")(long)
    job_id = ledger.create("long")
    worker.settle()

    assert renewals == [0, 1, 5, 5]
    assert ledger.triggers(job_id) == IN_ONE_GO


def test_a_loss_that_the_renewer_cannot_tell_is_found_and_recorded_by_the_loop() -> None:
    ledger = HandLedger(registry())
    renewer = HandRenewer(ledger)
    worker = HandWorker(ledger, renewer=renewer)
    lost: list[set[int]] = []

    def long(payload: Payload, ctx: JobContext) -> None:
        if ctx.job.crashes:
            return
        worker.pass_time(8)
        renewer.renew()
        ledger.expire_elsewhere(job_id)
        renewer.renew()
        worker.pass_time(11)
        try:
            ctx.check()
        except LeaseLost:
            lost.append({hold.lease_seq for hold in renewer.until})

    ledger.jobs.register("long")(long)
    job_id = ledger.create("long")
    worker.settle()

    # It was claimed a second time meanwhile.
    assert lost == [{5}]
    assert ledger.refusals(job_id) == 1


def test_a_loop_that_stood_still_for_two_leases_takes_over_what_was_renewed_before_it_ends_a_run() -> None:
    ledger = HandLedger(registry())
    renewer = HandRenewer(ledger)
    worker = HandWorker(ledger, renewer=renewer)

    def hold_the_interpreter(payload: Payload, ctx: JobContext) -> None:
        for _ in range(8):
            put_forward(ledger.clock, timedelta(seconds=7.5))
            renewer.renew()
        worker.pass_time(1)
        ctx.check()

    ledger.jobs.register("hold")(hold_the_interpreter)
    job_id = ledger.create("hold")
    worker.settle()

    assert ledger.triggers(job_id) == IN_ONE_GO
    assert ledger.faults.begun[RenewLeases] == 0


def test_a_loop_that_stood_still_and_was_not_renewed_lets_go() -> None:
    ledger = HandLedger(registry())
    renewer = HandRenewer(ledger)
    worker = HandWorker(ledger, renewer=renewer)
    lost = []

    def hold_the_interpreter(payload: Payload, ctx: JobContext) -> None:
        renewer.renew()
        put_forward(ledger.clock, timedelta(seconds=31))
        worker.step()
        try:
            ctx.check()
        except LeaseLost:
            lost.append(dict(renewer.until))

    ledger.jobs.register("hold", max_attempts=1)(hold_the_interpreter)
    ledger.create("hold")
    worker.settle()

    assert lost == [{}]


def test_a_lease_is_renewed_elsewhere_until_the_worker_would_have_ended_the_run_and_no_longer() -> None:
    ledger = HandLedger(registry())
    renewer = HandRenewer(ledger)
    worker = HandWorker(ledger, renewer=renewer)
    claimed_at = ledger.clock.monotonic()
    held = []

    def long(payload: Payload, ctx: JobContext) -> None:
        held.append(dict(renewer.until))

    ledger.jobs.register("long", timeout=timedelta(minutes=5))(long)
    job_id = ledger.create("long")
    worker.settle()

    [during] = held
    # A lease, twice ten seconds of waiting for a slot, and the timeout.
    assert [(hold.job_id, until - claimed_at) for hold, until in during.items()] == [(job_id, 30 + 20 + 300)]
    assert renewer.until == {}


def test_whatever_way_a_run_ends_it_is_renewed_no_more() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    renewer = HandRenewer(ledger)
    worker = HandWorker(ledger, renewer=renewer)
    for _ in range(5):
        ledger.create("nothing")
    worker.claim()
    assert len(renewer.until) == 2
    worker.runner.run_next()
    worker.stop()
    worker.run_until_stopped()
    worker.worker.close()

    assert renewer.until == {}
    assert renewer.closed


def test_leases_that_are_due_soon_are_renewed_with_the_first() -> None:
    ledger = HandLedger(registry())
    worker = HandWorker(ledger, slots=2)

    def first(payload: Payload, ctx: JobContext) -> None:
        worker.pass_time(4)
        ledger.create("second")
        worker.claim()
        worker.runner.run_next()

    def second(payload: Payload, ctx: JobContext) -> None:
        worker.pass_time(28)

    ledger.jobs.register("first")(first)
    ledger.jobs.register("second")(second)
    job_id = ledger.create("first")
    worker.settle()

    assert ledger.triggers(job_id) == IN_ONE_GO
    # After 10, 20 and 30 seconds, both each time.
    assert ledger.faults.begun[RenewLeases] == 3


def test_the_lease_of_a_run_whose_end_is_not_yet_written_is_renewed() -> None:
    ledger = HandLedger(registry())
    renewer = HandRenewer(ledger)
    worker = HandWorker(ledger, renewer=renewer)

    def returns(payload: Payload, ctx: JobContext) -> None:
        ledger.faults.down = DatabaseUnavailable("this worker cannot write, and who renews beside it can")

    ledger.jobs.register("returns")(returns)
    job_id = ledger.create("returns")
    worker.settle()
    for _ in range(5):
        worker.pass_time(8)
        renewer.renew()
    with ledger.store.unit_of_work(SYSTEM) as uow:
        assert uow.jobs.expire(limit=10) == []
    ledger.faults.down = None
    worker.pass_time(5)

    assert ledger.triggers(job_id) == IN_ONE_GO
    assert renewer.until == {}
