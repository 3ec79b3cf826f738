"""Which of a worker's runs somebody wants to stop."""

from heimdex.domain.job import Hold, Job
from heimdex.domain.outcomes import Release, Succeed
from heimdex.domain.scope import Scope
from tests.contract.steps import (
    LEASE,
    NOBODY,
    OTHER_WORKER,
    OURS,
    SYSTEM,
    THEIRS,
    claim_by_id,
    columns,
    expire,
    finish,
    hold_of,
    refusals,
    running,
    stored,
)
from tests.stores import StoreHarness


def asked_to_stop(store: StoreHarness, *, scope: Scope = OURS) -> Job:
    """Return a job that runs, as its claim returned it, and whose cancel was requested since."""
    held = running(store, scope=scope)
    with store.unit_of_work(scope) as uow:
        uow.jobs.cancel(held.id, reason="not wanted")
    return held


def requested(store: StoreHarness, *holds: Hold, scope: Scope = SYSTEM) -> frozenset[Hold]:
    with store.unit_of_work(scope) as uow:
        return uow.jobs.cancel_requested(holds)


def test_the_runs_whose_cancel_was_requested_are_told_apart_from_the_others(store: StoreHarness) -> None:
    first, other, second = asked_to_stop(store), running(store), asked_to_stop(store)

    assert requested(store, *map(hold_of, (other, second, first))) == {hold_of(first), hold_of(second)}


def test_only_those_that_were_asked_for_are_told(store: StoreHarness) -> None:
    asked_to_stop(store)

    assert requested(store, hold_of(running(store))) == frozenset()
    assert requested(store) == frozenset()


def test_asking_changes_nothing(store: StoreHarness) -> None:
    held = asked_to_stop(store)
    before = columns(stored(store, held))
    requested(store, hold_of(held), Hold(NOBODY, 2), Hold(held.id, 7))

    assert columns(stored(store, held)) == before
    assert refusals(store, held) == 0


def test_a_hold_that_has_ended_or_never_was_is_not_told(store: StoreHarness) -> None:
    ended, held = asked_to_stop(store), asked_to_stop(store)
    finish(store, ended, Succeed())

    assert requested(store, hold_of(ended), Hold(held.id, 7), Hold(NOBODY, 2)) == frozenset()


def test_a_request_does_not_outlive_the_job_s_end(store: StoreHarness) -> None:
    held = asked_to_stop(store)
    finish(store, held, Release("the worker stops"))
    with store.unit_of_work(OURS) as uow:
        uow.jobs.retry_by_hand(held.id, reason="wanted after all")
    again = claim_by_id(store, held, worker=OTHER_WORKER)

    assert requested(store, hold_of(again), hold_of(held)) == frozenset()


def test_a_run_whose_lease_has_run_out_is_told_until_it_is_expired(store: StoreHarness) -> None:
    held = asked_to_stop(store)
    store.advance(LEASE)
    assert requested(store, hold_of(held)) == {hold_of(held)}

    expire(store)
    assert requested(store, hold_of(held)) == frozenset()


def test_a_stranger_is_told_nothing(store: StoreHarness) -> None:
    held = asked_to_stop(store)

    assert requested(store, hold_of(held), scope=THEIRS) == frozenset()
    assert requested(store, hold_of(held), scope=OURS) == {hold_of(held)}


def test_a_request_of_the_same_unit_of_work_is_seen(store: StoreHarness) -> None:
    held = running(store)
    with store.unit_of_work(OURS) as uow:
        uow.jobs.cancel(held.id, reason="not wanted")
        assert uow.jobs.cancel_requested([hold_of(held)]) == {hold_of(held)}
        uow.rollback()
        assert uow.jobs.cancel_requested([hold_of(held)]) == frozenset()
