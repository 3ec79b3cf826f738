"""Who no longer holds a job changes nothing: each of a holder's writes, after each way in which a hold can end."""

from collections.abc import Callable

import pytest

from heimdex.domain.job import Hold, Job
from heimdex.domain.outcomes import Cancel, Fail, Outcome, Progress, Release, Snooze, Succeed
from heimdex.domain.results import Ending, Note, Refusal, Report
from heimdex.service_layer.ports import JobRepository
from tests.contract.steps import (
    LEASE,
    NOBODY,
    OTHER_WORKER,
    OURS,
    SYSTEM,
    THEIRS,
    claim_by_id,
    columns,
    create,
    every_job,
    expire,
    finish,
    history,
    hold_of,
    refusals,
    running,
    stored,
)
from tests.stores import StoreHarness


def expired(store: StoreHarness, _: Job) -> None:
    store.advance(LEASE)
    expire(store)


def expired_and_claimed_again(store: StoreHarness, held: Job) -> None:
    expired(store, held)
    claim_by_id(store, held, worker=OTHER_WORKER)


def given_back_and_claimed_again_by_the_same_worker(store: StoreHarness, held: Job) -> None:
    finish(store, held, Release("the worker stops"))
    claim_by_id(store, held)


def finished(store: StoreHarness, held: Job) -> None:
    finish(store, held, Succeed())


WAYS_TO_LOSE_A_HOLD: list[Callable[[StoreHarness, Job], None]] = [
    expired,
    expired_and_claimed_again,
    given_back_and_claimed_again_by_the_same_worker,
    finished,
]
OUTCOMES: dict[str, Outcome] = {
    "succeed": Succeed('"late"'),
    "fail": Fail("late", "too late"),
    "snooze": Snooze(LEASE),
    "cancel": Cancel("late"),
    "release": Release("late"),
}


def finishing(outcome: Outcome) -> Callable[[JobRepository, Job], tuple[Refusal, ...]]:
    return lambda jobs, held: jobs.finish([Ending(held, outcome)]).refusals


def reporting(entry: Progress | Note) -> Callable[[JobRepository, Job], tuple[Refusal, ...]]:
    return lambda jobs, held: jobs.report([Report(hold_of(held), entry)]).refusals


WRITES: dict[str, Callable[[JobRepository, Job], tuple[Refusal, ...]]] = {
    **{word: finishing(outcome) for word, outcome in OUTCOMES.items()},
    "progress": reporting(Progress("late", 50)),
    "log": reporting(Note('{"late":true}')),
}


@pytest.mark.parametrize("lose", WAYS_TO_LOSE_A_HOLD)
@pytest.mark.parametrize("trigger", WRITES)
def test_a_stale_holders_write_changes_nothing_and_is_recorded(
    store: StoreHarness, trigger: str, lose: Callable[[StoreHarness, Job], None]
) -> None:
    held = running(store)
    lose(store, held)
    before, events = columns(stored(store, held)), len(history(store, held))

    with store.unit_of_work(SYSTEM) as uow:
        refused = WRITES[trigger](uow.jobs, held)

    assert refused == (Refusal(held.id, hold_of(held).lease_seq, trigger),)
    assert columns(stored(store, held)) == before
    assert len(history(store, held)) == events
    assert refusals(store, held) == 1


@pytest.mark.parametrize("lose", WAYS_TO_LOSE_A_HOLD)
def test_a_stale_holder_cannot_renew(store: StoreHarness, lose: Callable[[StoreHarness, Job], None]) -> None:
    held = running(store)
    lose(store, held)
    before = columns(stored(store, held))

    with store.unit_of_work(SYSTEM) as uow:
        assert uow.jobs.renew([hold_of(held)], lease=LEASE) == frozenset()

    assert columns(stored(store, held)) == before
    assert refusals(store, held) == 1


def test_of_all_that_a_stale_holder_writes_after_another_worker_took_over_nothing_is_accepted(
    store: StoreHarness,
) -> None:
    stale = running(store)
    expired_and_claimed_again(store, stale)
    held, events = stored(store, stale), history(store, stale)

    refused: list[Refusal] = []
    for write in WRITES.values():
        with store.unit_of_work(SYSTEM) as uow:
            refused += write(uow.jobs, stale)
    with store.unit_of_work(SYSTEM) as uow:
        assert uow.jobs.renew([hold_of(stale)], lease=LEASE) == frozenset()

    assert [refusal.trigger for refusal in refused] == list(WRITES)
    assert refusals(store, stale) == len(WRITES) + 1 == 8
    assert columns(stored(store, stale)) == columns(held)
    assert [event.seq for event in history(store, stale)] == [event.seq for event in events]
    with store.unit_of_work(SYSTEM) as uow:
        assert uow.jobs.renew([hold_of(held)], lease=LEASE) == {hold_of(held)}
    assert [job.result for job in finish(store, held, Succeed('"mine"')).jobs] == ["mine"]


def test_the_new_holder_is_not_disturbed_by_the_stale_one(store: StoreHarness) -> None:
    stale = running(store)
    expired(store, stale)
    held = claim_by_id(store, stale, worker=OTHER_WORKER)
    finish(store, stale, Fail("late", "too late", permanent=True))

    written = finish(store, held, Succeed('"mine"'))

    assert [job.result for job in written.jobs] == ["mine"]
    assert stored(store, held).last_error_code == "worker_lost"


def test_losers_of_a_batch_are_told_apart_from_winners(store: StoreHarness) -> None:
    first, lost, last = (running(store) for _ in range(3))
    finish(store, lost, Succeed())

    with store.unit_of_work(SYSTEM) as uow:
        written = uow.jobs.finish([Ending(job, Succeed('"late"')) for job in (last, lost, first)])

    assert [job.id for job in written.jobs] == [first.id, last.id]
    assert [refusal.job_id for refusal in written.refusals] == [lost.id]
    assert [job.result for job in every_job(store)] == ["late", None, "late"]


def test_the_second_ending_of_a_run_in_one_batch_is_refused(store: StoreHarness) -> None:
    held = running(store)

    with store.unit_of_work(SYSTEM) as uow:
        written = uow.jobs.finish([Ending(held, Succeed('"first"')), Ending(held, Cancel("second"))])

    assert [job.result for job in written.jobs] == ["first"]
    assert written.refusals == (Refusal(held.id, 2, "cancel"),)
    assert (stored(store, held).result, refusals(store, held)) == ("first", 1)


def test_a_later_version_under_the_same_hold_is_no_obstacle(store: StoreHarness) -> None:
    held = running(store)
    with store.unit_of_work(OURS) as uow:
        uow.jobs.log(held.id, {"checkpoint": 1})
        uow.jobs.report([Report(hold_of(held), Progress("reading", 10))])

    written = finish(store, held, Succeed())

    assert (len(written.jobs), written.jobs[0].version, written.jobs[0].stage) == (1, 5, "reading")
    assert refusals(store, held) == 0


def test_a_hold_that_never_was_is_refused(store: StoreHarness) -> None:
    job = create(store)
    holds = [Hold(job.id, 1), Hold(NOBODY, 2)]

    with store.unit_of_work(SYSTEM) as uow:
        assert uow.jobs.renew(holds, lease=LEASE) == frozenset()
        written = uow.jobs.report([Report(hold, Note("{}")) for hold in holds])

    assert [refusal.job_id for refusal in written.refusals] == sorted([job.id, NOBODY])
    assert columns(stored(store, job)) == columns(job)
    # Of a job that does not exist nothing is recorded.
    assert refusals(store, job) == 2


def test_a_stranger_with_the_right_number_changes_nothing_and_leaves_no_trace(store: StoreHarness) -> None:
    held = running(store)
    before = columns(stored(store, held))

    with store.unit_of_work(THEIRS) as uow:
        written = uow.jobs.finish([Ending(held, Succeed())])
        reported = uow.jobs.report([Report(hold_of(held), Progress(None, 1))])
        renewed = uow.jobs.renew([hold_of(held)], lease=LEASE)

    assert (written.jobs, reported.jobs, renewed) == ((), (), frozenset())
    assert (len(written.refusals), len(reported.refusals)) == (1, 1)
    assert columns(stored(store, held)) == before
    assert refusals(store, held) == 0


def test_refusals_are_rolled_back_with_their_unit_of_work(store: StoreHarness) -> None:
    held = running(store)
    finish(store, held, Succeed())
    with store.unit_of_work(SYSTEM) as uow:
        uow.jobs.finish([Ending(held, Succeed())])
        uow.rollback()

    assert refusals(store, held) == 0
