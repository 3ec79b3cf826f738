"""Fixtures for stores: databases are migrated once per process, and emptied or copied for each test."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from heimdex.adapters.claim_bounds import ClaimBounds
from tests.memory_stores import MemoryHarness
from tests.postgres_server import PostgresServer
from tests.sql_stores import PostgresHarness, SqliteHarness, migrated_postgres, migrated_sqlite
from tests.stores import StoreHarness


@pytest.fixture(scope="session")
def migrated_sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return migrated_sqlite(tmp_path_factory.mktemp("migrated"))


@pytest.fixture(scope="session")
def migrated_postgres_url(postgres_server: PostgresServer) -> str:
    return migrated_postgres(postgres_server)


@pytest.fixture
def memory_store() -> MemoryHarness:
    return MemoryHarness()


@pytest.fixture(scope="session")
def lasting_sqlite_store(
    migrated_sqlite_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SqliteHarness]:
    store = SqliteHarness(migrated_sqlite_file, tmp_path_factory.mktemp("sqlite"))
    yield store
    store.close()


@pytest.fixture
def sqlite_store(lasting_sqlite_store: SqliteHarness) -> SqliteHarness:
    lasting_sqlite_store.start_anew()
    return lasting_sqlite_store


@pytest.fixture(scope="session")
def lasting_postgres_store(migrated_postgres_url: str) -> Iterator[PostgresHarness]:
    store = PostgresHarness(migrated_postgres_url)
    yield store
    store.close()


@pytest.fixture
def postgres_store(lasting_postgres_store: PostgresHarness) -> PostgresHarness:
    lasting_postgres_store.start_anew()
    return lasting_postgres_store


@pytest.fixture
def bounded_postgres_store(postgres_store: PostgresHarness) -> Iterator[PostgresHarness]:
    """Return PostgreSQL where claims look from the start once, and then from bounds that lag behind by nothing."""
    database = postgres_store.store.database
    usual = database.claim_bounds
    database.claim_bounds = ClaimBounds(tolerated=-1_000_000, lag=timedelta(0), monotonic=lambda: 0.0)
    yield postgres_store
    database.claim_bounds = usual


@pytest.fixture(params=["memory_store", "sqlite_store", "postgres_store"])
def store(request: pytest.FixtureRequest) -> StoreHarness:
    """Return each store in turn."""
    harness: StoreHarness = request.getfixturevalue(request.param)
    return harness


@pytest.fixture
def lock_step(
    memory_store: MemoryHarness, sqlite_store: SqliteHarness, bounded_postgres_store: PostgresHarness
) -> Sequence[StoreHarness]:
    """Return one store of each kind, memory first."""
    return memory_store, sqlite_store, bounded_postgres_store
