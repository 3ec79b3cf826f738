"""What a connection to PostgreSQL is told when it is made."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select

from heimdex.adapters import postgres_database
from heimdex.adapters.database import EngineSettings
from heimdex.adapters.scoping import carrying
from heimdex.domain.errors import TransientDatabaseError
from heimdex.domain.scope import System
from tests.sql_stores import PostgresHarness, SqlHarness, admin_connection

SYSTEM = System(actor="a", reason="settings belong to no organisation")
SETTINGS = EngineSettings(
    application_name="shop api", statement_timeout=timedelta(seconds=7), lock_timeout=timedelta(milliseconds=1_500)
)


def test_names_and_limits_are_those_of_the_settings(postgres_store: PostgresHarness) -> None:
    harness = SqlHarness(postgres_store.url, SETTINGS)
    names = ("application_name", "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "TimeZone")
    asked = carrying(select(*(func.current_setting(name) for name in names)), SYSTEM)
    with harness.store.database.reading(SYSTEM) as session:
        answer = tuple(session.execute(asked).one())
    harness.close()

    assert answer == ("shop api", "7s", "1500ms", "14s", "UTC")


def backend(store: SqlHarness) -> int:
    with store.store.database.reading(SYSTEM) as session:
        return int(session.execute(carrying(select(func.pg_backend_pid()), SYSTEM)).scalar_one())


def lose_the_only_connection(store: PostgresHarness) -> SqlHarness:
    """Return a store on the same database whose pool holds one connection, which the server has ended."""
    harness = SqlHarness(store.url, EngineSettings(pool_size=1, max_overflow=0))
    lost = backend(harness)
    admin = admin_connection(store.url)
    admin.cursor().execute("SELECT pg_terminate_backend(%s, 5000)", (lost,))
    admin.close()
    return harness


def test_a_connection_that_has_rested_is_asked_whether_it_lives(
    postgres_store: PostgresHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_database, "_REST_SECONDS", 0.0)
    harness = lose_the_only_connection(postgres_store)

    assert backend(harness)
    harness.close()


def test_a_connection_that_was_just_used_is_not_asked(
    postgres_store: PostgresHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_database, "_REST_SECONDS", 60.0)
    harness = lose_the_only_connection(postgres_store)

    with pytest.raises(TransientDatabaseError):
        backend(harness)
    assert backend(harness)
    harness.close()
