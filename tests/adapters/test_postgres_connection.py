"""Transactions that begin in the text of their first statement, and statements that go past SQLAlchemy."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from io import StringIO
from uuid import UUID

import pytest
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, TRANSACTION_STATUS_INTRANS, cursor
from sqlalchemy import Connection, event

from heimdex.adapters.database import EngineSettings
from heimdex.adapters.postgres_connection import LateConnection, ask, driver_connection
from heimdex.adapters.statement_log import logged_statements
from heimdex.domain.commands import CreateJobs
from heimdex.domain.errors import (
    CommitOutcomeUnknown,
    ConnectionLost,
    DatabaseError,
    DataRejected,
    TransientDatabaseError,
    UnscopedStatement,
)
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.new_job import NewJob
from heimdex.domain.scope import System, Tenant
from heimdex.service_layer.handlers import create_jobs
from heimdex.service_layer.ports import UnitOfWork
from tests.sql_stores import PostgresHarness, SqlHarness, admin_connection

OURS = Tenant(UUID(int=1), actor="a")
THEIRS = UUID(int=2)
SYSTEM = System(actor="s", reason="a test looks at everything")
ECHO = "SELECT %s || %s"


@pytest.fixture
def store(postgres_store: PostgresHarness) -> Iterator[SqlHarness]:
    """Return a store whose pool has one connection."""
    harness = SqlHarness(postgres_store.url, EngineSettings(pool_size=1, max_overflow=0))
    yield harness
    harness.close()


@pytest.fixture
def connection(store: SqlHarness) -> Iterator[Connection]:
    session = store.store.database.begin(OURS)
    yield session.connection()
    session.rollback()
    store.store.database.end(session)


def begun(connection: Connection) -> bool:
    return driver_connection(connection).get_transaction_status() == TRANSACTION_STATUS_INTRANS


def test_a_transaction_begins_with_its_first_statement(connection: Connection) -> None:
    raw = driver_connection(connection)
    assert not begun(connection)

    for query, sent in (("SELECT 1", b"BEGIN; SELECT 1"), ("SELECT 2", b"SELECT 2")):
        asking = raw.cursor()
        asking.execute(query)
        assert (asking.query, begun(connection)) == (sent, True)


FIRST: dict[str, Callable[[cursor], object]] = {
    "text": lambda asking: asking.execute("SELECT 1"),
    "bytes": lambda asking: asking.execute(b"SELECT 1"),
    "many": lambda asking: asking.executemany("SELECT %s", [(1,), (2,)]),
    "copy": lambda asking: asking.copy_expert("COPY (SELECT 1) TO STDOUT", StringIO()),
}


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("end", [LateConnection.commit, LateConnection.rollback])
def test_it_begins_whatever_comes_first_and_ends(
    connection: Connection, first: str, end: Callable[[LateConnection], None]
) -> None:
    raw = driver_connection(connection)
    for _ in range(2):
        FIRST[first](raw.cursor())
        assert begun(connection)
        end(raw)
        assert raw.get_transaction_status() == TRANSACTION_STATUS_IDLE


def test_a_connection_that_is_given_back_begins_as_ever(store: SqlHarness) -> None:
    with store.unit_of_work(OURS) as uow:
        uow.jobs.create("t")
    with store.store.database.engine.connect() as connection:
        raw = driver_connection(connection)
        assert (raw.begins_late, raw.autocommit) == (False, False)
        raw.cursor().execute("SELECT 1")
        assert begun(connection)


def test_a_statement_past_sqlalchemy_names_its_own_organisation(connection: Connection) -> None:
    with pytest.raises(UnscopedStatement):
        ask(connection, ECHO, OURS, THEIRS, "x")

    assert ask(connection, ECHO, OURS, OURS.org_id, "x") == f"{OURS.org_id.hex}x"
    assert ask(connection, ECHO, SYSTEM, THEIRS, "x") == f"{THEIRS.hex}x"


def test_who_listens_to_statements_hears_of_those_past_sqlalchemy(store: SqlHarness, connection: Connection) -> None:
    with logged_statements(store.store) as statements:
        ask(connection, ECHO, OURS, OURS.org_id, "x")

    assert statements == [ECHO]


def test_what_fails_past_sqlalchemy_is_an_error_of_ours(connection: Connection) -> None:
    with pytest.raises(DataRejected, match="integer"):
        ask(connection, "SELECT %s || CAST(%s AS integer)", OURS, OURS.org_id, "x")
    connection.rollback()
    with pytest.raises(DatabaseError):
        ask(connection, ECHO, OURS, OURS.org_id, object())
    with pytest.raises(DatabaseError, match="NUL"):
        ask(connection, ECHO, OURS, OURS.org_id, "\0")


def test_a_connection_that_is_lost_past_sqlalchemy_is_not_used_again(store: SqlHarness) -> None:
    with pytest.raises(ConnectionLost), store.unit_of_work(OURS) as uow:
        create_once_its_backend_is_gone(store, uow)

    with store.unit_of_work(OURS) as uow:
        uow.jobs.create("t")
        assert len(uow.jobs.queued()) == 1


@pytest.mark.parametrize("kept", [True, False])
def test_a_create_that_lost_its_connection_looks_whether_it_is_there(store: SqlHarness, *, kept: bool) -> None:
    when = "after_cursor_execute" if kept else "before_cursor_execute"
    new = NewJob("t", id=UUID(int=7 << 76 | 2 << 62))
    command = CreateJobs(scope=OURS, new_jobs=[new])

    def lose(*context: object) -> None:
        if "heimdex_create_job" in str(context[2]):
            raise ConnectionLost("as a test has it")

    event.listen(store.store.database.engine, when, lose)
    with nullcontext() if kept else pytest.raises(TransientDatabaseError, match="not there"):
        [created] = create_jobs(command, start_uow=store.unit_of_work, start_one_write=store.store.unit_of_one_write)
        assert (created.job.id, created.replayed) == (new.id, False)
    event.remove(store.store.database.engine, when, lose)

    with store.unit_of_work(OURS) as uow:
        assert len(uow.jobs.queued()) == kept


def create_once_its_backend_is_gone(store: SqlHarness, uow: UnitOfWork) -> None:
    connection = uow.open_transaction().connection()  # type: ignore[attr-defined]  # past the port
    pid = ask(connection, "SELECT pg_backend_pid() WHERE %s IS NOT NULL", OURS, OURS.org_id)
    terminate(store, pid)
    uow.jobs.create("t")


def terminate(store: SqlHarness, pid: int) -> None:
    admin = admin_connection(store.url)
    admin.cursor().execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    admin.close()


def test_one_write_is_one_round_trip_and_gives_its_connection_back_as_it_was(store: SqlHarness) -> None:
    with logged_statements(store.store) as statements, store.store.unit_of_one_write(OURS) as uow:
        uow.jobs.create("t")
        # The pool has one connection, so that it has been given back; and whoever looks sees the job.
        with store.views(SYSTEM) as views:
            assert views.count(JobFilter()) == 1

    statements.pop()
    assert [statement.split("(")[0] for statement in statements] == ["SELECT heimdex_create_job_v1"]
    with store.store.database.engine.connect() as connection:
        raw = driver_connection(connection)
        assert (raw.begins_late, raw.autocommit) == (False, False)


def test_a_connection_lost_in_one_write_is_an_unknown_outcome(store: SqlHarness) -> None:
    with store.store.database.engine.connect() as connection:
        pid = driver_connection(connection).info.backend_pid
    terminate(store, pid)
    unknown = pytest.raises(CommitOutcomeUnknown, match="look whether the row is there")
    with unknown, store.store.unit_of_one_write(OURS) as uow:
        uow.jobs.create("t")

    with store.store.unit_of_one_write(OURS) as uow:
        uow.jobs.create("t")
    with store.unit_of_work(OURS) as uow:
        assert len(uow.jobs.queued()) == 1
