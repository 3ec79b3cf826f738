"""What is SQLite's own: its pragmas, one writer at a time, readers beside it, a lock that no error keeps."""

import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import cast
from uuid import UUID

import pytest
from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from heimdex.adapters.database import EngineSettings
from heimdex.adapters.orm import worker_table
from heimdex.adapters.scoping import carrying
from heimdex.adapters.unit_of_work import SqlAlchemyUnitOfWork
from heimdex.domain.errors import DatabaseError, DatabaseUnavailable, TransientDatabaseError
from heimdex.domain.scope import System, Tenant
from heimdex.service_layer.ports import UnitOfWork
from tests.actors import Actor
from tests.sql_stores import SqlHarness, SqliteHarness

OURS = Tenant(UUID(int=1), actor="a")
SYSTEM = System(actor="s", reason="a test looks at everything")


def session_of(uow: UnitOfWork) -> Session:
    assert isinstance(uow, SqlAlchemyUnitOfWork)
    return uow.open_transaction()


def ask(session: Session, statement: str) -> object:
    return session.connection().execute(carrying(text(statement), SYSTEM)).scalar()


def raw(session: Session) -> sqlite3.Connection:
    return cast("sqlite3.Connection", session.connection().connection.dbapi_connection)


@pytest.mark.parametrize(
    ("pragma", "value"),
    [
        ("journal_mode", "wal"),
        ("synchronous", 2),
        ("foreign_keys", 1),
        ("recursive_triggers", 1),
        ("cache_size", -16_000),
    ],
)
def test_every_connection_is_set_up(sqlite_store: SqliteHarness, pragma: str, value: object) -> None:
    with sqlite_store.unit_of_work(SYSTEM) as uow:
        assert ask(session_of(uow), f"PRAGMA {pragma}") == value


def test_views_cannot_write_and_leave_a_connection_that_can(sqlite_store: SqliteHarness) -> None:
    database = sqlite_store.store.database
    row = {"id": UUID(int=9), "name": "w", "types": (), "queues": ()} | dict.fromkeys(
        ("started_at", "seen_at"), sqlite_store.clock.now()
    )
    with database.reading(SYSTEM) as session, pytest.raises(DatabaseUnavailable, match="readonly"):
        session.connection().execute(carrying(insert(worker_table).values(row), SYSTEM))

    with sqlite_store.unit_of_work(OURS) as uow:
        uow.jobs.create("t")


def test_a_unit_of_work_after_another_leaves_prepared_statements_as_they_are(sqlite_store: SqliteHarness) -> None:
    sent: list[str] = []
    with sqlite_store.unit_of_work(OURS) as uow:
        raw(session_of(uow)).set_trace_callback(sent.append)
    with sqlite_store.unit_of_work(OURS) as uow:
        uow.jobs.create("t")
    with sqlite_store.views(OURS) as views:
        assert len(views.history_ids()) == 1
    with sqlite_store.unit_of_work(OURS) as uow:
        uow.jobs.create("t")

    pragmas = [statement for statement in sent if statement.startswith("PRAGMA")]
    assert pragmas == ["PRAGMA query_only=ON", "PRAGMA query_only=OFF"]


def test_a_unit_of_work_has_the_write_lock_from_its_beginning(sqlite_store: SqliteHarness) -> None:
    other = sqlite3.connect(sqlite_store.url.removeprefix("sqlite:///"), isolation_level=None, timeout=0)
    with sqlite_store.unit_of_work(OURS), pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")
    other.execute("BEGIN IMMEDIATE")
    other.close()


def test_views_neither_wait_for_a_writer_nor_hold_one_up(sqlite_store: SqliteHarness) -> None:
    with Actor(sqlite_store, OURS) as writer:
        job = writer.does(lambda uow: uow.jobs.create("t")).job
        with sqlite_store.views(OURS) as views:
            assert views.history_ids() == []
            writer.commits()
            assert views.history_ids() == [job.id]


def test_many_threads_write_one_after_the_other(sqlite_store: SqliteHarness) -> None:
    def create(_: int) -> None:
        with sqlite_store.unit_of_work(OURS) as uow:
            uow.jobs.create("t")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(create, range(40)))

    with sqlite_store.views(OURS) as views:
        assert len(views.history_ids()) == 40


def test_a_thread_that_waits_too_long_for_another_is_told(sqlite_store: SqliteHarness) -> None:
    brief = SqlHarness(sqlite_store.url, EngineSettings(lock_timeout=timedelta(milliseconds=20)))
    with Actor(brief, OURS) as one:
        one.does(lambda uow: uow.jobs.queued())
        with pytest.raises(TransientDatabaseError, match="another thread"), brief.unit_of_work(OURS):
            pass
        one.commits()

    with brief.unit_of_work(OURS) as uow:
        uow.jobs.create("t")
    brief.close()


def write_and(store: SqliteHarness, then: Callable[[UnitOfWork], object]) -> None:
    with store.unit_of_work(OURS) as uow:
        uow.jobs.create("t")
        then(uow)


def close_the_connection(uow: UnitOfWork) -> None:
    raw(session_of(uow)).close()


def end_the_transaction(uow: UnitOfWork) -> None:
    raw(session_of(uow)).execute("ROLLBACK")


def raise_an_error(_: UnitOfWork) -> None:
    raise TransientDatabaseError("mine")


@pytest.mark.parametrize("then", [close_the_connection, end_the_transaction, raise_an_error])
def test_a_unit_of_work_that_fails_leaves_the_store_free(
    sqlite_store: SqliteHarness, then: Callable[[UnitOfWork], object]
) -> None:
    with pytest.raises(DatabaseError):
        write_and(sqlite_store, then)
    write_and(sqlite_store, lambda _: None)

    with sqlite_store.views(OURS) as views:
        assert len(views.history_ids()) == 1


def test_a_transaction_that_the_database_ended_is_told_at_the_end(sqlite_store: SqliteHarness) -> None:
    with pytest.raises(DatabaseError, match="nothing was committed"):
        write_and(sqlite_store, end_the_transaction)


def test_a_child_forked_while_a_thread_writes_is_not_held_up(sqlite_store: SqliteHarness) -> None:
    with Actor(sqlite_store, OURS) as writer:
        writer.does(lambda uow: uow.jobs.queued())
        child = os.fork()
        if child == 0:
            # The thread that has the lock does not exist here; the file is still locked by the parent.
            free = sqlite_store.store.database._writer.acquire(blocking=False)  # type: ignore[attr-defined]  # of SQLite alone
            os._exit(0 if free else 1)
        writer.commits()

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
