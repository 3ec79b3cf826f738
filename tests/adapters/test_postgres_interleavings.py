"""What only PostgreSQL can do to a unit of work: other plans, locks that time out, connections that are lost."""

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from heimdex.adapters.database import EngineSettings
from heimdex.adapters.scoping import carrying
from heimdex.adapters.unit_of_work import SqlAlchemyUnitOfWork
from heimdex.domain.asset import NewAsset
from heimdex.domain.errors import (
    CommitOutcomeUnknown,
    ConnectionLost,
    DatabaseError,
    TransientDatabaseError,
    UniqueViolation,
)
from heimdex.domain.job import Job
from heimdex.domain.new_job import NewJob
from heimdex.domain.scope import System, Tenant
from heimdex.domain.transitions import Status
from heimdex.service_layer.ports import UnitOfWork
from tests.actors import PATIENCE, Actor
from tests.sql_stores import PostgresHarness, SqlHarness, admin_connection

TENANT = Tenant(UUID(int=1), actor="a")
WORKER = System(actor="worker", reason="a worker serves every organisation")
LEASE = timedelta(seconds=30)


@pytest.fixture
def store(postgres_store: PostgresHarness) -> PostgresHarness:
    return postgres_store


@pytest.fixture
def impatient(store: PostgresHarness) -> Iterator[SqlHarness]:
    """Return the same database through an engine that waits 100 ms for a lock."""
    harness = SqlHarness(store.url, EngineSettings(lock_timeout=timedelta(milliseconds=100)))
    # Each harness counts its ids from 1; these are not to be those of the other.
    for _ in range(100):
        harness.tools.ids()
    yield harness
    harness.close()


def create(store: PostgresHarness, count: int) -> list[Job]:
    with store.unit_of_work(TENANT) as uow:
        return [created.job for created in uow.jobs.create_many([NewJob("t", {"n": n}) for n in range(count)])]


def statuses(store: PostgresHarness) -> dict[Status, int]:
    with store.views(WORKER) as views:
        return {status: count for status, count in views.statistics().by_status.items() if count}


def run(uow: UnitOfWork, statement: str) -> object:
    """Run a statement on the connection of a unit of work."""
    assert isinstance(uow, SqlAlchemyUnitOfWork)
    return uow.open_transaction().connection().execute(carrying(text(statement), WORKER)).scalar()


def terminate(uow: UnitOfWork, store: PostgresHarness) -> None:
    admin = admin_connection(store.url)
    admin.cursor().execute("SELECT pg_terminate_backend(%s, 5000)", (run(uow, "SELECT pg_backend_pid()"),))
    admin.close()


@pytest.mark.parametrize("off", ["hashjoin", "mergejoin", "nestloop", "seqscan", "indexscan", "bitmapscan", "sort"])
@pytest.mark.parametrize("prepare", ["SELECT 1", "ANALYZE job"])
def test_a_claim_never_takes_more_than_its_limit_whatever_the_plan(
    store: PostgresHarness, off: str, prepare: str
) -> None:
    create(store, 60)
    admin = admin_connection(store.url)
    admin.cursor().execute(prepare)
    admin.close()
    for limit in (1, 7):
        with store.unit_of_work(WORKER) as uow:
            run(uow, f"SELECT set_config('enable_{off}', 'off', true)")
            assert len(uow.jobs.claim_due(worker=uuid4(), types={"t"}, lease=LEASE, limit=limit)) == limit


def claim_by_id(job: Job) -> Callable[[UnitOfWork], Job]:
    return lambda uow: uow.jobs.claim(job.id, worker=uuid4(), lease=LEASE)


def test_a_lock_that_is_not_had_in_time_is_transient(store: PostgresHarness, impatient: SqlHarness) -> None:
    [job] = create(store, 1)
    with Actor(store, WORKER) as one:
        one.does(claim_by_id(job))
        with pytest.raises(TransientDatabaseError, match="lock timeout"), impatient.unit_of_work(WORKER) as uow:
            claim_by_id(job)(uow)


def test_an_error_that_was_passed_over_is_told_at_the_end(store: PostgresHarness, impatient: SqlHarness) -> None:
    [job] = create(store, 1)

    def pass_over() -> None:
        with impatient.unit_of_work(WORKER) as uow:
            uow.jobs.create("t", org_id=TENANT.org_id)
            with pytest.raises(TransientDatabaseError):
                claim_by_id(job)(uow)

    with Actor(store, WORKER) as one:
        one.does(claim_by_id(job))
        with pytest.raises(DatabaseError, match="nothing was committed"):
            pass_over()
        one.rolls_back()

    assert statuses(store) == {Status.QUEUED: 1}


def test_after_a_rollback_such_a_unit_of_work_goes_on(store: PostgresHarness, impatient: SqlHarness) -> None:
    [job] = create(store, 1)
    with Actor(store, WORKER) as one:
        one.does(claim_by_id(job))
        with impatient.unit_of_work(WORKER) as uow:
            with pytest.raises(TransientDatabaseError):
                claim_by_id(job)(uow)
            uow.rollback()
            kept = uow.jobs.create("t", org_id=TENANT.org_id).job
        one.rolls_back()

    with store.views(WORKER) as views:
        assert views.find(kept.id) is not None


def test_a_uri_that_another_unit_of_work_adds_first_is_refused_once_that_is_committed(store: PostgresHarness) -> None:
    [job] = create(store, 1)
    asset = NewAsset.of("file:///a", media_type="text/plain", size=1, sha256="0" * 64)
    with Actor(store, TENANT) as one, Actor(store, TENANT) as other:
        one.does(lambda uow: uow.assets.add(job, asset))
        step = other.begins(lambda uow: uow.assets.add(job, asset))
        one.commits()
        with pytest.raises(UniqueViolation, match="uq_asset_org_job_uri"):
            step.result(PATIENCE)
        other.commits()


def lose_connection_and(store: PostgresHarness, then: Callable[[UnitOfWork], object]) -> None:
    with store.unit_of_work(TENANT) as uow:
        uow.jobs.create("t")
        terminate(uow, store)
        then(uow)


def create_one(uow: UnitOfWork) -> None:
    uow.jobs.create("t")


def create_several(uow: UnitOfWork) -> None:
    uow.jobs.create_many([NewJob("t", idempotency_key="a"), NewJob("t", idempotency_key="b")])


def roll_back(uow: UnitOfWork) -> None:
    uow.rollback()


def fail_on_its_own(_: UnitOfWork) -> None:
    raise ValueError("mine")


def pass_over_the_loss(uow: UnitOfWork) -> None:
    with pytest.raises(ConnectionLost):
        uow.jobs.create("t")


@pytest.mark.parametrize("then", [create_one, create_several, roll_back])
def test_a_connection_lost_before_commit_is_transient_and_nothing_is_kept(
    store: PostgresHarness, then: Callable[[UnitOfWork], object]
) -> None:
    with pytest.raises(TransientDatabaseError):
        lose_connection_and(store, then)

    assert statuses(store) == {}


def test_a_connection_lost_at_commit_is_an_unknown_outcome(store: PostgresHarness) -> None:
    with pytest.raises(CommitOutcomeUnknown, match="look whether the rows are there"):
        lose_connection_and(store, lambda _: None)

    assert statuses(store) == {}


def test_a_loss_that_was_passed_over_is_told_at_the_end(store: PostgresHarness) -> None:
    with pytest.raises(TransientDatabaseError):
        lose_connection_and(store, pass_over_the_loss)

    assert statuses(store) == {}


def test_an_error_of_the_block_is_not_hidden_by_a_lost_connection(store: PostgresHarness) -> None:
    with pytest.raises(ValueError, match="mine"):
        lose_connection_and(store, fail_on_its_own)


def test_the_next_unit_of_work_after_a_lost_connection_gets_another_one(store: PostgresHarness) -> None:
    with pytest.raises(CommitOutcomeUnknown):
        lose_connection_and(store, lambda _: None)
    create(store, 1)

    assert statuses(store) == {Status.QUEUED: 1}


def test_a_forked_child_has_connections_of_its_own(store: PostgresHarness) -> None:
    def backend() -> str:
        with store.unit_of_work(WORKER) as uow:
            return str(run(uow, "SELECT pg_backend_pid()"))

    parents = {backend() for _ in range(20)}
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, backend().encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)

    assert os.read(reading, 100).decode() not in {"", *parents}
    assert backend() in parents
    os.close(reading)
