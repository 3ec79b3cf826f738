"""An SQLite file: its connections set up, one writer at a time, readers that cannot write."""

import sqlite3
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID

from sqlalchemy import Connection, Insert, Text, create_engine, event, func, literal, or_, text, type_coerce
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.elements import ColumnElement

from heimdex.adapters.columns import UtcDateTime
from heimdex.adapters.database import Database, EngineSettings, Mode, after_fork
from heimdex.adapters.database_errors import translated
from heimdex.adapters.orm import job_table
from heimdex.adapters.payload_search import SQLITE_FUNCTION, sqlite_value_at
from heimdex.adapters.renewing_statements import on_sqlite
from heimdex.adapters.scoping import carrying
from heimdex.adapters.wall import Login
from heimdex.domain.errors import TransientDatabaseError
from heimdex.domain.scope import Scope
from heimdex.service_layer.ports import Clock

# Ids are text of hexadecimal digits, without hyphens.
_ID_LENGTH = 32
_READ_ONLY = "heimdex_read_only"
# A batch of a thousand jobs changes more pages than the two megabytes that SQLite keeps of its own accord.
_CACHE = "cache_size=-16000"
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "recursive_triggers=ON", _CACHE)


class Sqlite(Database):
    """An SQLite file. Units of work take the write lock when they begin, so that none fails half-way for want of it."""

    def __init__(self, url: URL, settings: EngineSettings, clock: Clock) -> None:
        self._clock = clock
        self._forget_writers()
        engine = create_engine(
            url,
            pool_size=settings.pool_size,
            max_overflow=settings.max_overflow,
            pool_timeout=settings.pool_timeout.total_seconds(),
            hide_parameters=True,
            echo=settings.echo,
            connect_args={"check_same_thread": False, "timeout": settings.lock_timeout.total_seconds()},
        )
        event.listen(engine, "connect", _set_up)
        event.listen(engine, "begin", _begin)
        super().__init__(engine, settings)
        after_fork(self, Sqlite._forget_writers)

    def now(self) -> ColumnElement[datetime]:
        return literal(self._clock.now(), UtcDateTime)

    def later(self, length: timedelta) -> ColumnElement[datetime]:
        return literal(self._clock.now() + length, UtcDateTime)

    def read_now(self, _: Session, /) -> datetime:
        return self._clock.now()

    @property
    def claims_in_one_statement(self) -> bool:
        return False

    @property
    def one_writer(self) -> bool:
        return True

    def is_no_id(self, column: ColumnElement[UUID]) -> ColumnElement[bool]:
        stored = type_coerce(column, Text)
        return or_(func.typeof(stored) != "text", func.length(stored) != _ID_LENGTH, stored.op("GLOB")("*[^0-9a-f]*"))

    def insert_where_free(self) -> Insert:
        return sqlite.insert(job_table).on_conflict_do_nothing()

    def begin(self, scope: Scope) -> Session:
        if not self._writer.acquire(timeout=self.settings.lock_timeout.total_seconds()):
            raise TransientDatabaseError("another thread of this process kept the SQLite database locked")
        try:
            return super().begin(scope)
        except BaseException:
            self._writer.release()
            raise

    def is_undone(self, connection: Connection) -> bool:
        return not cast("sqlite3.Connection", connection.connection.dbapi_connection).in_transaction

    def take_part(self, connection: Connection, scope: Scope) -> Callable[[], None]:
        # Python begins a transaction late, and a savepoint outside of one would commit when it is released.
        if not cast("sqlite3.Connection", connection.connection.driver_connection).in_transaction:
            connection.execute(carrying(text("BEGIN IMMEDIATE"), scope))
        return lambda: None

    def renewing(self, lease: timedelta, login: Login | None) -> Mapping[str, Any]:
        return on_sqlite(self.engine.url, self.engine.dialect, min(lease / 3, self.settings.lock_timeout), lease)

    def end(self, session: Session) -> None:
        try:
            super().end(session)
        finally:
            self._writer.release()

    def _ready(self, _: Scope, mode: Mode) -> Callable[[Connection], None]:
        return _as_it_is if mode is Mode.WRITE else _read_only

    def _forget_writers(self) -> None:
        # Threads of one process queue here: waiting for SQLite's own lock is by polling, slow and unfair.
        self._writer = threading.Lock()


def _as_it_is(_: Connection) -> None: ...


def _read_only(connection: Connection) -> None:
    # Whatever reads, reads of one moment.
    connection.execution_options(**{_READ_ONLY: True})


def _set_up(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    # The driver's own transactions begin too late: ours begin in the "begin" event.
    connection.isolation_level = None
    connection.create_function(SQLITE_FUNCTION, 2, sqlite_value_at, deterministic=True)
    run(connection, *(f"PRAGMA {pragma}" for pragma in _PRAGMAS))


def _begin(connection: Connection) -> None:
    raw = cast("sqlite3.Connection", connection.connection.dbapi_connection)
    read_only = bool(connection.get_execution_options().get(_READ_ONLY))
    # Said only when it changes: every PRAGMA of this kind makes SQLite prepare all statements of the connection anew.
    if connection.info.get(_READ_ONLY, False) is not read_only:
        run(raw, f"PRAGMA query_only={'ON' if read_only else 'OFF'}")
        connection.info[_READ_ONLY] = read_only
    run(raw, "BEGIN" if read_only else "BEGIN IMMEDIATE")


def run(connection: sqlite3.Connection, *statements: str) -> None:
    """Run statements past SQLAlchemy, whose error translation does not reach its own events."""
    try:
        for statement in statements:
            connection.execute(statement)
    except sqlite3.Error as error:
        raise translated(error) from error
