"""The SQL stores as the tests drive them: a fresh schema, a clock that stands still until it is moved."""

import shutil
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path

import psycopg2
from sqlalchemy.engine import make_url

from heimdex.adapters.database import EngineSettings
from heimdex.adapters.schema import Schema
from heimdex.adapters.sql_store import SqlStore
from heimdex.domain.scope import Scope
from heimdex.service_layer.ports import UnitOfWork, Views
from tests.postgres_server import PostgresServer
from tests.stores import StoreHarness

TABLES = ("job", "job_event", "job_refusal", "asset", "worker", "paused_queue", "org_erasure")

_TEST_CLOCK = """
CREATE TABLE test_clock (at timestamptz);
INSERT INTO test_clock VALUES (NULL);
CREATE OR REPLACE FUNCTION heimdex_now() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT coalesce((SELECT at FROM test_clock), statement_timestamp()) $$;
"""


class SqlHarness(StoreHarness):
    def __init__(self, url: str, settings: EngineSettings | None = None) -> None:
        super().__init__()
        self.url = url
        self.store = SqlStore(
            url, settings or EngineSettings(), clock=self.clock, tools=self.tools, wakeups=self.wakeups
        )

    def unit_of_work(self, scope: Scope) -> UnitOfWork:
        return self.store.unit_of_work(scope)

    def unit_of_one_write(self, scope: Scope) -> UnitOfWork:
        return self.store.unit_of_one_write(scope)

    def views(self, scope: Scope) -> AbstractContextManager[Views]:
        return self.store.views(scope)

    def set_time(self, at: datetime) -> None:
        self.clock.set(at)

    def close(self) -> None:
        self.store.close()

    def _empty(self) -> None:
        raise NotImplementedError


class SqliteHarness(SqlHarness):
    many_writers = False

    def __init__(self, migrated: Path, folder: Path) -> None:
        self._migrated = migrated
        self._copy = folder / "heimdex.db"
        super().__init__(f"sqlite:///{self._copy}")
        self.start_anew()

    def _empty(self) -> None:
        # The last connection to close takes the write-ahead log with it.
        self.store.close()
        shutil.copyfile(self._migrated, self._copy)


class PostgresHarness(SqlHarness):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._admin = admin_connection(url)
        self.start_anew()

    def set_time(self, at: datetime) -> None:
        super().set_time(at)
        with self._admin.cursor() as cursor:
            cursor.execute("UPDATE test_clock SET at = %s", (at,))

    def close(self) -> None:
        super().close()
        self._admin.close()

    def _empty(self) -> None:
        """Delete all rows, past the triggers that keep the history."""
        deletions = "; ".join(f"DELETE FROM {table}" for table in TABLES)  # noqa: S608 - our own names
        with self._admin.cursor() as cursor:
            cursor.execute(f"SET session_replication_role = replica; {deletions}; RESET session_replication_role")


def migrated_sqlite(folder: Path) -> Path:
    """Make an SQLite file with the schema, to be copied for each test."""
    path = folder / "migrated.db"
    Schema(f"sqlite:///{path}").upgrade()
    return path


def migrated_postgres(server: PostgresServer, *, test_clock: bool = True) -> str:
    """Make a database with the schema and, unless told otherwise, the clock of the tests; return its URL."""
    name = server.fresh_name("test")
    server.create_database(name)
    url = server.url(name)
    Schema(url).upgrade()
    if test_clock:
        connection = admin_connection(url)
        with connection.cursor() as cursor:
            cursor.execute(_TEST_CLOCK)
        connection.close()
    return url


def admin_connection(url: str) -> "psycopg2.extensions.connection":
    """Return an autocommitting connection past SQLAlchemy and its guard. It waits 10 s at most for a lock."""
    parsed = make_url(url)
    address = parsed.set(drivername="postgresql").render_as_string(hide_password=False)
    connection = psycopg2.connect(address, options="-c lock_timeout=10s")
    connection.autocommit = True
    return connection
