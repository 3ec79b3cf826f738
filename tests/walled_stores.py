"""PostgreSQL with both walls, as logins see it that are neither superusers nor owners."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from uuid import uuid4

import psycopg2
import pytest
from psycopg2 import sql
from sqlalchemy.engine import make_url

from heimdex.adapters.database import EngineSettings
from heimdex.adapters.schema import Schema
from heimdex.service_layer.ports import Duty
from tests.postgres_server import PostgresServer
from tests.sql_stores import TABLES, SqlHarness, admin_connection, migrated_postgres


class WalledHarness(SqlHarness):
    """A store as a login sees it; time and emptiness are the superuser's."""

    def __init__(self, admin_url: str, login_url: str, settings: EngineSettings | None = None) -> None:
        super().__init__(login_url, settings)
        self._admin = admin_connection(admin_url)
        self.start_anew()

    def set_time(self, at: datetime) -> None:
        super().set_time(at)
        with self._admin.cursor() as cursor:
            cursor.execute("UPDATE test_clock SET at = %s", (at,))

    def close(self) -> None:
        super().close()
        self._admin.close()

    def _empty(self) -> None:
        deletions = "; ".join(f"DELETE FROM {table}" for table in TABLES)  # noqa: S608 - our own names
        with self._admin.cursor() as cursor:
            cursor.execute(f"SET session_replication_role = replica; {deletions}; RESET session_replication_role")


@contextmanager
def new_login(admin_url: str, options: str = "") -> Iterator[str]:
    """Make a login of its own on the server, give its URL of the same database, and drop it."""
    name, password = f'Login "{uuid4().hex[:12]}', uuid4().hex
    admin = admin_connection(admin_url)
    identifier = sql.Identifier(name)
    with admin.cursor() as cursor:
        cursor.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} {}").format(identifier, sql.Literal(password), sql.SQL(options))
        )
    yield make_url(admin_url).set(username=name, password=password).render_as_string(hide_password=False)
    with admin.cursor() as cursor:
        cursor.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(identifier))
    admin.close()


def name_of(url: str) -> str:
    """Return the login of a URL."""
    return make_url(url).username or ""


def asked(url: str, question: str) -> object:
    """Return the one answer to a question, asked past SQLAlchemy by a URL's login."""
    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = psycopg2.connect(address)
    try:
        with connection.cursor() as cursor:
            cursor.execute(question)
            [answer] = cursor.fetchone() or (None,)
            return answer
    finally:
        connection.close()


@pytest.fixture(scope="session")
def walled_url(postgres_server: PostgresServer) -> str:
    """Return the superuser's URL of a migrated database with roles and policies."""
    url = migrated_postgres(postgres_server)
    Schema(url).make_roles()
    admin = admin_connection(url)
    with admin.cursor() as cursor:
        cursor.execute("GRANT SELECT ON test_clock TO PUBLIC")
    admin.close()
    return url


def _member(walled_url: str, duty: Duty) -> Iterator[str]:
    with new_login(walled_url) as url:
        Schema(walled_url).make_roles(name_of(url), duty=duty)
        yield url


@pytest.fixture(scope="session")
def api_url(walled_url: str) -> Iterator[str]:
    yield from _member(walled_url, Duty.API)


@pytest.fixture(scope="session")
def worker_url(walled_url: str) -> Iterator[str]:
    yield from _member(walled_url, Duty.WORKER)


@pytest.fixture(scope="session")
def both_url(walled_url: str) -> Iterator[str]:
    yield from _member(walled_url, Duty.BOTH)


@pytest.fixture(scope="session")
def lasting_walled_store(walled_url: str, both_url: str) -> Iterator[WalledHarness]:
    store = WalledHarness(walled_url, both_url)
    yield store
    store.close()


@pytest.fixture
def walled_store(lasting_walled_store: WalledHarness) -> WalledHarness:
    """Return a store whose login is a member of api and worker."""
    lasting_walled_store.start_anew()
    return lasting_walled_store
