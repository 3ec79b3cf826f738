"""A row that was written past Heimdex, and what it costs the jobs beside it: nothing."""

import sqlite3
from contextlib import closing
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy.engine import make_url

from heimdex.domain.errors import InvalidInput, UniqueViolation
from heimdex.domain.job import Job
from heimdex.domain.outcomes import Fail, Release
from heimdex.domain.results import Ending
from heimdex.domain.scope import System, Tenant
from heimdex.domain.transitions import Status
from tests.sql_stores import SqlHarness, admin_connection

OURS = Tenant(UUID(int=1), actor="user@example.com")
SYSTEM = System(actor="worker", reason="a worker serves every organisation")
WORKER = UUID(int=101)
LEASE = timedelta(seconds=30)


@pytest.fixture(params=["sqlite_store", "postgres_store"])
def store(request: pytest.FixtureRequest) -> SqlHarness:
    harness: SqlHarness = request.getfixturevalue(request.param)
    return harness


def write_past_heimdex(store: SqlHarness, assignment: str, job: Job) -> None:
    # SQLite keeps an id as its 32 digits.
    statement = f"UPDATE job SET {assignment} WHERE replace(CAST(id AS text), '-', '') = '{job.id.hex}'"  # noqa: S608 - of this test
    url = make_url(store.url)
    if url.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(str(url.database))) as file, file:
            assert file.execute(statement).rowcount == 1
    else:
        with closing(admin_connection(store.url)) as server, server.cursor() as cursor:
            cursor.execute(statement)
            assert cursor.rowcount == 1


def create(store: SqlHarness, *, priority: int = 0) -> Job:
    with store.unit_of_work(OURS) as uow:
        return uow.jobs.create("t", priority=priority).job


def claim(store: SqlHarness, limit: int) -> list[Job]:
    with store.unit_of_work(SYSTEM) as uow:
        return uow.jobs.claim_due(worker=WORKER, types=["t"], lease=LEASE, limit=limit)


def status(store: SqlHarness, job: Job) -> Status:
    with store.unit_of_work(SYSTEM) as uow:
        return uow.jobs.get(job.id).status


def test_a_row_whose_version_lags_is_passed_over_by_a_claim_one_by_one(store: SqlHarness) -> None:
    bad = create(store, priority=9)
    [held] = claim(store, 1)
    with store.unit_of_work(SYSTEM) as uow:
        uow.jobs.finish([Ending(held, Release("the worker stops"))])
    good, other = create(store), create(store)
    write_past_heimdex(store, "version = 1", bad)

    with pytest.raises(UniqueViolation, match="pk_job_event"):
        claim(store, 3)
    with store.unit_of_work(SYSTEM) as uow:
        answer = uow.jobs.claim_one_by_one(worker=WORKER, types=["t"], lease=LEASE, limit=1)

    assert ([job.id for job in answer.jobs], answer.passed_over) == ([good.id], (bad.id,))
    assert [status(store, job) for job in (bad, good, other)] == [Status.QUEUED, Status.RUNNING, Status.QUEUED]


def test_a_row_whose_version_lags_is_passed_over_by_an_expiry_one_by_one(store: SqlHarness) -> None:
    bad, good = create(store, priority=9), create(store)
    claim(store, 2)
    write_past_heimdex(store, "version = 1", bad)
    store.advance(LEASE)

    with pytest.raises(UniqueViolation, match="pk_job_event"), store.unit_of_work(SYSTEM) as uow:
        uow.jobs.expire(limit=9)
    with store.unit_of_work(SYSTEM) as uow:
        answer = uow.jobs.expire_one_by_one(limit=9)

    assert ([job.id for job in answer.jobs], answer.passed_over) == ([good.id], (bad.id,))
    assert [status(store, job) for job in (bad, good)] == [Status.RUNNING, Status.QUEUED]


def test_a_page_one_by_one_looks_at_no_more_rows_than_its_limit(store: SqlHarness) -> None:
    bad, good = create(store, priority=9), create(store)
    claim(store, 2)
    write_past_heimdex(store, "version = 1", bad)
    store.advance(LEASE)

    with store.unit_of_work(SYSTEM) as uow:
        first = uow.jobs.expire_one_by_one(limit=1)
    with store.unit_of_work(SYSTEM) as uow:
        second = uow.jobs.expire_one_by_one(limit=1, after=first.passed_over[-1])

    assert (first.jobs, first.passed_over) == ((), (bad.id,))
    assert ([job.id for job in second.jobs], second.passed_over) == ([good.id], ())


def test_a_job_whose_backoff_is_no_backoff_can_fail_for_good_but_not_be_retried(store: SqlHarness) -> None:
    # Before the claim: a run is ended as the job was when it began, as long as nobody has moved it since.
    write_past_heimdex(store, "backoff_factor = 0.5", create(store))
    [held] = claim(store, 1)

    with pytest.raises(InvalidInput, match=r"backoff\.factor"), store.unit_of_work(SYSTEM) as uow:
        uow.jobs.finish([Ending(held, Fail("code", "message"))])
    with store.unit_of_work(SYSTEM) as uow:
        uow.jobs.finish([Ending(held, Fail("code", "message", permanent=True))])

    assert status(store, held) is Status.FAILED
