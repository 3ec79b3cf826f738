"""The schema of a database: bring it up to date, say where it is, refuse to work on another one."""

import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Literal, cast

from sqlalchemy import Connection, Engine, String, column, create_engine, event, inspect, select, table
from sqlalchemy.engine import make_url
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from heimdex.adapters import roles, wall
from heimdex.adapters.database_errors import MIGRATE, translate_errors
from heimdex.adapters.sqlite_database import run
from heimdex.adapters.wall import Login
from heimdex.domain.errors import CapabilityMissing, SchemaMismatch, SchemaMissing
from heimdex.service_layer import ports
from heimdex.service_layer.ports import Duty, RolesMade, SchemaState

VERSION_TABLE = "heimdex_version"
HEAD = "0004"
"""The last of our revisions. Said here, since a worker that only looks need not load Alembic, which takes 9 MB."""


class Schema(ports.Schema):
    """The schema at a URL. Each call uses a connection of its own, outside the pool and its guard.

    Args:
        wall_required: whether `check` asks for row-level security, where the database has it.
        lock_timeout: how long a statement waits for a lock, so that an upgrade does not hold up what queues behind it.
    """

    def __init__(
        self,
        url: str,
        *,
        wall_required: bool = False,
        connect_timeout: timedelta = timedelta(seconds=10),
        lock_timeout: timedelta = timedelta(seconds=5),
    ) -> None:
        self._url = make_url(url)
        self._wall_required = wall_required
        self._connect_timeout = connect_timeout
        self._lock_timeout = lock_timeout

    def upgrade(self, revision: str = "head") -> SchemaState:
        with self._connect(_prepare_to_move) as connection:
            _move("upgrade", connection, revision)
        return self.state()

    def downgrade(self, revision: str) -> SchemaState:
        if self._has_no_file():
            raise SchemaMissing(self._nothing_there())
        with self._connect(_prepare_to_move) as connection:
            _move("downgrade", connection, revision)
        return self.state()

    def state(self) -> SchemaState:
        if self._has_no_file():
            return SchemaState(None, HEAD)
        with self._connect() as connection:
            return _state(connection)

    def check(self) -> SchemaState:
        state, _ = self.look()
        return state

    def look(self) -> tuple[SchemaState, Login | None]:
        """Check, and return who is connected where the database has row-level security."""
        if self._has_no_file():
            raise SchemaMissing(self._nothing_there())
        with self._connect() as connection:
            state = _state(connection)
            if state.current is None:
                raise SchemaMissing(f"the database has no Heimdex schema; {MIGRATE}")
            if not state.is_current:
                raise SchemaMismatch(_difference(state.current, state.head))
            login = wall.look(connection) if _has_roles(connection) else None
        if login is not None and self._wall_required:
            login.check_production()
        return state, login

    def make_roles(self, login: str | None = None, *, duty: Duty = Duty.BOTH) -> RolesMade:
        with self._connect() as connection:
            if not _has_roles(connection):
                raise CapabilityMissing("only PostgreSQL has roles; here nothing but Heimdex itself keeps readers out")
            with connection.begin():
                return roles.make_roles(connection, login, duty)

    def _has_no_file(self) -> bool:
        """Return whether this is an SQLite file that does not exist: to connect would make one."""
        file = self._url.database or ""
        if self._url.get_backend_name() != "sqlite" or file.startswith("file:"):
            return False
        return Path(file).parent.is_dir() and not Path(file).exists()

    def _nothing_there(self) -> str:
        return f"there is no file {self._url.database}; check the URL, or {MIGRATE} to make it"

    def _connect(self, prepare: Callable[[Engine], None] = lambda _: None) -> Connection:
        on_sqlite = self._url.get_backend_name() == "sqlite"
        limits = {"timeout": self._lock_timeout.total_seconds()} if on_sqlite else self._limits()
        engine = create_engine(self._url, poolclass=NullPool, hide_parameters=True, connect_args=limits)
        translate_errors(engine)
        prepare(engine)
        return engine.connect()

    def _limits(self) -> dict[str, object]:
        return {
            "connect_timeout": int(self._connect_timeout.total_seconds()),
            "options": f"-c lock_timeout={self._lock_timeout // timedelta(milliseconds=1)}",
        }


def _prepare_to_move(engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _lock_sqlite)


def _set_up_sqlite(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    # The driver's own transactions begin too late, and would let each CREATE TABLE stand alone.
    connection.isolation_level = None
    # The file keeps it. Left to our first unit of work, it would fail while a joined transaction writes.
    run(connection, "PRAGMA journal_mode=WAL")


def _lock_sqlite(connection: Connection) -> None:
    # The revision is read under the lock too: of two upgrades at once the second finds what the first has made.
    run(cast("sqlite3.Connection", connection.connection.dbapi_connection), "BEGIN IMMEDIATE")


def _state(connection: Connection) -> SchemaState:
    return SchemaState(_current(connection), HEAD)


def _current(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    version = column("version_num", String)
    return connection.execute(select(version).select_from(table(VERSION_TABLE, version))).scalar_one_or_none()


def _has_roles(connection: Connection) -> bool:
    return connection.dialect.name == "postgresql"


def _move(direction: Literal["upgrade", "downgrade"], connection: Connection, revision: str) -> None:
    from heimdex.adapters import migrating  # noqa: PLC0415 - see HEAD

    current = _current(connection)
    if current is not None and current not in migrating.known():
        raise SchemaMismatch(_difference(current, HEAD))
    migrating.move(direction, connection, revision)


def _difference(current: str, head: str) -> str:
    from heimdex.adapters import migrating  # noqa: PLC0415 - as above

    if current in migrating.known():
        return f"the database is at revision {current}, this Heimdex needs {head}; {MIGRATE}"
    return f"the database is at revision {current}, which this Heimdex ({head}) does not know; install a newer Heimdex"
