"""The connection of a worker's loop: job functions cannot use it up, and its statements leave time for a renewal."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text

from heimdex.adapters.database import EngineSettings
from heimdex.adapters.memory_ledger import MemoryLedger
from heimdex.adapters.memory_store import MemoryStore
from heimdex.adapters.scoping import carrying
from heimdex.adapters.unit_of_work import SqlAlchemyUnitOfWork
from heimdex.domain.errors import DatabaseUnavailable
from heimdex.domain.scope import System
from heimdex.domain.transitions import Status
from tests.sql_stores import PostgresHarness, SqlHarness, SqliteHarness

SYSTEM = System(actor="worker", reason="a worker serves every organisation")


@pytest.fixture
def small(postgres_store: PostgresHarness) -> Iterator[SqlHarness]:
    """Return a store whose pool has one connection."""
    pool = EngineSettings(pool_size=1, max_overflow=0, pool_timeout=timedelta(milliseconds=50))
    harness = SqlHarness(postgres_store.url, pool)
    yield harness
    harness.close()


def test_a_used_up_pool_does_not_stop_the_reserved_connection(small: SqlHarness) -> None:
    start_uow, close = small.store.reserve(timedelta(seconds=10))
    taken = small.store.database.begin(SYSTEM)
    try:
        with pytest.raises(DatabaseUnavailable), small.unit_of_work(SYSTEM):
            pass
        with start_uow(SYSTEM) as uow:
            assert uow.jobs.ids(Status.QUEUED) == []
    finally:
        small.store.database.end(taken)
        close()


@pytest.mark.parametrize("name", ["statement_timeout", "lock_timeout"])
def test_no_statement_of_it_takes_longer_than_it_may(small: SqlHarness, name: str) -> None:
    start_uow, close = small.store.reserve(timedelta(milliseconds=1234))
    with start_uow(SYSTEM) as uow:
        assert isinstance(uow, SqlAlchemyUnitOfWork)
        shown = uow.open_transaction().scalar(carrying(text(f"SHOW {name}"), SYSTEM))
    close()

    assert shown == "1234ms"


def test_what_is_shorter_already_stays_as_it_is(small: SqlHarness) -> None:
    start_uow, close = small.store.reserve(timedelta(hours=1))
    with start_uow(SYSTEM) as uow:
        assert isinstance(uow, SqlAlchemyUnitOfWork)
        shown = uow.open_transaction().scalar(carrying(text("SHOW lock_timeout"), SYSTEM))
    close()

    assert shown == "5s"


def test_stores_with_one_writer_give_their_own_units_of_work(sqlite_store: SqliteHarness) -> None:
    memory = MemoryLedger(MemoryStore(sqlite_store.clock), tools=sqlite_store.tools, wakeups=sqlite_store.wakeups)
    for store in (sqlite_store.store, memory):
        start_uow, close = store.reserve(timedelta(seconds=10))
        close()
        with start_uow(SYSTEM) as uow:
            assert uow.jobs.find(UUID(int=1)) is None
