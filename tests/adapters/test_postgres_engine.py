"""What a connection to PostgreSQL is told when it is made."""

from datetime import timedelta

from sqlalchemy import func, select

from heimdex.adapters.database import EngineSettings
from heimdex.adapters.scoping import carrying
from heimdex.domain.scope import System
from tests.sql_stores import PostgresHarness, SqlHarness

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
