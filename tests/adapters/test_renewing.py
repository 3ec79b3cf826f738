"""What the process beside a worker renews, on the databases that it renews in."""

import re
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from itertools import pairwise
from time import monotonic

from sqlalchemy.engine import make_url

from heimdex.adapters import renewing_process
from heimdex.adapters.renewing import ProcessRenewer
from heimdex.adapters.sql_store import SqlStore
from heimdex.bootstrap import Application, bootstrap
from heimdex.config import Settings
from heimdex.domain.outcomes import Release, Succeed
from heimdex.domain.results import Ending
from tests.adapters.renewing_steps import (
    EVERY,
    FOR_EVER,
    LEASE,
    SYSTEM,
    WORKER,
    lease_of,
    renewing,
    running,
    stored,
    wait_for_renewal,
)
from tests.contract.steps import columns, hold_of


def database_time(app: Application) -> datetime:
    assert isinstance(app.store, SqlStore)
    with app.store.database.reading(SYSTEM) as session:
        return app.store.database.read_now(session)


def test_it_renews_as_the_repository_does(app: Application, renewer: ProcessRenewer) -> None:
    job, other = running(app), running(app)
    began, before = monotonic(), database_time(app)
    renewer.add(hold_of(job), until=FOR_EVER)
    renewed_at = wait_for_renewal(renewer, hold_of(job))
    with app.unit_of_work(SYSTEM) as uow:
        uow.jobs.renew([hold_of(other)], lease=LEASE)
    leases = [lease_of(app, job), lease_of(app, other)]
    after = database_time(app)

    assert began < renewed_at <= monotonic()
    assert columns(stored(app, job)) == columns(job) | {"lease_until": lease_of(app, job)}
    # SQLite counts in milliseconds.
    assert before + LEASE - timedelta(milliseconds=1) <= min(leases)
    assert max(leases) <= after + LEASE


def test_a_hold_whose_job_was_claimed_again_is_not_renewed(app: Application, renewer: ProcessRenewer) -> None:
    stale, held = running(app), running(app)
    with app.unit_of_work(SYSTEM) as uow:
        uow.jobs.finish([Ending(stale, Release("the worker stops"))])
        again = uow.jobs.claim(stale.id, worker=WORKER, lease=timedelta(seconds=30))
    for job in (stale, held):
        renewer.add(hold_of(job), until=FOR_EVER)
    for _ in range(2):
        wait_for_renewal(renewer, hold_of(held))

    assert renewer.renewed_at(hold_of(stale)) is None
    assert columns(stored(app, again)) == columns(again)


def test_it_goes_on_renewing_before_a_renewal_is_as_old_as_the_interval(
    app: Application, renewer: ProcessRenewer
) -> None:
    job = running(app)
    renewer.add(hold_of(job), until=FOR_EVER)
    moments = [wait_for_renewal(renewer, hold_of(job)) for _ in range(6)]

    between = [later - earlier for earlier, later in pairwise(moments)]
    assert min(between) >= EVERY.total_seconds() * renewing_process.DUE
    # The machine may be busy; most of them are in time.
    assert sorted(between)[1] < EVERY.total_seconds() * 1.5


def test_a_hold_that_has_ended_is_not_renewed_and_those_beside_it_are(
    app: Application, renewer: ProcessRenewer
) -> None:
    ended, held = running(app), running(app)
    with app.unit_of_work(SYSTEM) as uow:
        uow.jobs.finish([Ending(ended, Succeed())])
    for job in (ended, held):
        renewer.add(hold_of(job), until=FOR_EVER)
    for _ in range(2):
        wait_for_renewal(renewer, hold_of(held))

    assert renewer.renewed_at(hold_of(ended)) is None
    with app.views(SYSTEM) as views:
        assert views.refusals(ended.id) == 0


def test_a_lease_is_not_renewed_beyond_its_end_nor_after_it_was_taken_away(
    app: Application, renewer: ProcessRenewer
) -> None:
    bounded, removed, held = (running(app) for _ in range(3))
    renewer.add(hold_of(bounded), until=monotonic())
    renewer.add(hold_of(removed), until=FOR_EVER)
    renewer.remove(hold_of(removed))
    renewer.add(hold_of(held), until=FOR_EVER)
    for _ in range(3):
        wait_for_renewal(renewer, hold_of(held))

    assert renewer.renewed_at(hold_of(bounded)) is None
    assert [stored(app, job).lease_until for job in (bounded, removed)] == [bounded.lease_until, removed.lease_until]


def test_a_place_that_is_taken_again_says_nothing_of_who_had_it_before(
    app: Application, renewer: ProcessRenewer
) -> None:
    before, after = running(app), running(app)
    renewer.add(hold_of(before), until=FOR_EVER)
    wait_for_renewal(renewer, hold_of(before))
    renewer.remove(hold_of(before))
    renewer.add(hold_of(after), until=FOR_EVER)
    at_first = renewer.renewed_at(hold_of(after))

    assert at_first is None
    assert renewer.renewed_at(hold_of(before)) is None
    assert wait_for_renewal(renewer, hold_of(after))


def test_more_holds_than_it_has_places_for_are_left_to_the_loop(app: Application) -> None:
    first, second = running(app), running(app)
    with renewing(app, most=1) as renewer:
        renewer.add(hold_of(first), until=FOR_EVER)
        renewer.add(hold_of(second), until=FOR_EVER)
        wait_for_renewal(renewer, hold_of(first))
        assert renewer.renewed_at(hold_of(second)) is None
        renewer.remove(hold_of(second))
        renewer.remove(hold_of(first))
        renewer.add(hold_of(second), until=FOR_EVER)
        wait_for_renewal(renewer, hold_of(second))


def test_a_row_that_somebody_has_locked_costs_the_others_nothing(bare_postgres_url: str) -> None:
    with bootstrap(Settings(database_url=bare_postgres_url)) as app:
        locked, free = running(app), running(app)
        with renewing(app) as renewer, app.unit_of_work(SYSTEM) as uow:
            uow.jobs.log(locked.id, {})
            for job in (locked, free):
                renewer.add(hold_of(job), until=FOR_EVER)
            wait_for_renewal(renewer, hold_of(free))
            wait_for_renewal(renewer, hold_of(free))
            assert renewer.renewed_at(hold_of(locked)) is None


def test_a_time_that_it_writes_has_the_form_of_the_repositorys_in_sqlite(bare_sqlite_url: str) -> None:
    file = make_url(bare_sqlite_url).database or ""
    with bootstrap(Settings(database_url=bare_sqlite_url)) as app:
        ours, its = running(app), running(app)
        with app.unit_of_work(SYSTEM) as uow:
            uow.jobs.renew([hold_of(ours)], lease=LEASE)
        with renewing(app) as renewer:
            renewer.add(hold_of(its), until=FOR_EVER)
            wait_for_renewal(renewer, hold_of(its))
        with closing(sqlite3.connect(file)) as connection:
            texts = dict(connection.execute("SELECT lease_until, typeof(lease_until) FROM job"))

        assert set(texts.values()) == {"text"}
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}", text) for text in texts), texts
        assert {f"{lease_of(app, job):%Y-%m-%d %H:%M:%S.%f}" for job in (ours, its)} == texts.keys()
