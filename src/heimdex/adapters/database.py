"""A database behind SQLAlchemy: its engine as we want it, its time, and what it can do."""

import os
import sqlite3
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

import psycopg2
from attrs import frozen
from psycopg2.extensions import TRANSACTION_STATUS_INERROR
from sqlalchemy import Connection, Engine, Insert, Interval, create_engine, event, func, literal, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.elements import ColumnElement

from heimdex.adapters.columns import UtcDateTime
from heimdex.adapters.database_errors import translate_errors, translated
from heimdex.adapters.orm import job_table
from heimdex.adapters.scoping import carrying, guard
from heimdex.domain.errors import InvalidSetting, TransientDatabaseError
from heimdex.domain.scope import System
from heimdex.service_layer.ports import Clock

Thing = TypeVar("Thing")

_READ_ONLY = "heimdex_read_only"
_CLOCK = System(actor="heimdex", reason="the database's clock belongs to no organisation")


@frozen(kw_only=True)
class EngineSettings:
    """How connections are made and kept. Times not given by the caller are those of the guide."""

    pool_size: int = 5
    max_overflow: int = 10
    pool_timeout: timedelta = timedelta(seconds=30)
    pool_recycle: timedelta = timedelta(minutes=5)
    statement_timeout: timedelta = timedelta(seconds=30)
    lock_timeout: timedelta = timedelta(seconds=5)
    application_name: str = "heimdex"
    echo: bool = False


class Database(ABC):
    """One database. Units of work write through `session`, views read through `reading`."""

    def __init__(self, engine: Engine, settings: EngineSettings) -> None:
        self.engine = engine
        self._reader = engine.execution_options(**self._read_only)
        self.settings = settings
        translate_errors(engine)
        guard(engine)
        # A forked child opens connections of its own: a shared one would hand it other people's rows.
        _after_fork(engine, lambda inherited: inherited.dispose(close=False))

    @abstractmethod
    def now(self) -> ColumnElement[datetime]:
        """Return the database's time as an expression."""

    @abstractmethod
    def later(self, length: timedelta) -> ColumnElement[datetime]:
        """Return the database's time plus a length as an expression."""

    @abstractmethod
    def read_now(self, session: Session, /) -> datetime: ...

    @property
    @abstractmethod
    def claims_in_one_statement(self) -> bool:
        """Whether a statement may write two tables and return rows, and knows arrays."""

    @abstractmethod
    def insert_where_free(self) -> Insert:
        """Return an INSERT of jobs that passes over those whose id or idempotency key is taken."""

    @abstractmethod
    def begin(self) -> Session:
        """Return a session whose transaction has begun."""

    @abstractmethod
    def is_undone(self, connection: Connection) -> bool:
        """Return whether the database has given up this transaction, so that a COMMIT would keep nothing of it."""

    def end(self, session: Session) -> None:
        session.close()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Give a session that can only read."""
        with self._session(self._reader) as session:
            yield session

    @property
    @abstractmethod
    def _read_only(self) -> dict[str, Any]: ...

    def close(self) -> None:
        self.engine.dispose()

    def _session(self, engine: Engine) -> Session:
        """Return a session whose transaction has begun."""
        session = Session(engine, autoflush=False, expire_on_commit=False)
        try:
            session.connection()
        except PoolTimeoutError as error:
            session.close()
            raise translated(error) from error
        except BaseException:
            session.close()
            raise
        return session


class Postgres(Database):
    def __init__(self, url: URL, settings: EngineSettings) -> None:
        limits = {
            "statement_timeout": settings.statement_timeout,
            "lock_timeout": settings.lock_timeout,
            "idle_in_transaction_session_timeout": settings.statement_timeout * 2,
        }
        options = " ".join(f"-c {name}={limit // timedelta(milliseconds=1)}" for name, limit in limits.items())
        engine = create_engine(
            url,
            pool_size=settings.pool_size,
            max_overflow=settings.max_overflow,
            pool_timeout=settings.pool_timeout.total_seconds(),
            pool_recycle=int(settings.pool_recycle.total_seconds()),
            pool_pre_ping=True,
            hide_parameters=True,
            echo=settings.echo,
            connect_args={
                "application_name": settings.application_name,
                "options": f"{options} -c timezone=UTC",
                "connect_timeout": 10,
            },
        )
        super().__init__(engine, settings)

    def now(self) -> ColumnElement[datetime]:
        return func.heimdex_now(type_=UtcDateTime)

    def later(self, length: timedelta) -> ColumnElement[datetime]:
        return self.now() + literal(length, Interval)

    def read_now(self, session: Session, /) -> datetime:
        return session.execute(carrying(select(self.now()), _CLOCK)).scalar_one()

    @property
    def claims_in_one_statement(self) -> bool:
        return True

    def insert_where_free(self) -> Insert:
        return postgresql.insert(job_table).on_conflict_do_nothing()

    def begin(self) -> Session:
        return self._session(self.engine)

    def is_undone(self, connection: Connection) -> bool:
        raw = cast("psycopg2.extensions.connection", connection.connection.dbapi_connection)
        return raw.info.transaction_status == TRANSACTION_STATUS_INERROR

    @property
    def _read_only(self) -> dict[str, Any]:
        return {"postgresql_readonly": True}


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
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        super().__init__(engine, settings)
        _after_fork(self, Sqlite._forget_writers)

    def now(self) -> ColumnElement[datetime]:
        return literal(self._clock.now(), UtcDateTime)

    def later(self, length: timedelta) -> ColumnElement[datetime]:
        return literal(self._clock.now() + length, UtcDateTime)

    def read_now(self, _: Session, /) -> datetime:
        return self._clock.now()

    @property
    def claims_in_one_statement(self) -> bool:
        return False

    def insert_where_free(self) -> Insert:
        return sqlite.insert(job_table).on_conflict_do_nothing()

    def begin(self) -> Session:
        if not self._writer.acquire(timeout=self.settings.lock_timeout.total_seconds()):
            raise TransientDatabaseError("another thread of this process kept the SQLite database locked")
        try:
            return self._session(self.engine)
        except BaseException:
            self._writer.release()
            raise

    def is_undone(self, connection: Connection) -> bool:
        return not cast("sqlite3.Connection", connection.connection.dbapi_connection).in_transaction

    def end(self, session: Session) -> None:
        try:
            super().end(session)
        finally:
            self._writer.release()

    @property
    def _read_only(self) -> dict[str, Any]:
        return {_READ_ONLY: True}

    def _forget_writers(self) -> None:
        # Threads of one process queue here: waiting for SQLite's own lock is by polling, slow and unfair.
        self._writer = threading.Lock()


def open_database(url: str, settings: EngineSettings, clock: Clock) -> Database:
    """Return the database that a URL names. No connection is made yet.

    Raises:
        InvalidSetting: it is neither PostgreSQL through psycopg2 nor an SQLite file.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise InvalidSetting("HEIMDEX_DATABASE_URL", _without_password(url), _URL_REMEDY) from None
    if parsed.drivername == "postgresql+psycopg2":
        return Postgres(parsed, settings)
    if parsed.drivername in {"sqlite", "sqlite+pysqlite"}:
        if parsed.database in {None, "", ":memory:"} or "mode" in parsed.query:
            raise InvalidSetting(
                "HEIMDEX_DATABASE_URL", url, "name a file, or use memory:// for a store that is not kept"
            )
        return Sqlite(parsed, settings, clock)
    raise InvalidSetting("HEIMDEX_DATABASE_URL", _without_password(url), _URL_REMEDY)


_SQLITE_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "recursive_triggers=ON")
_URL_REMEDY = "give postgresql://user@host/database, sqlite:///file.db or memory://"


def _without_password(url: str) -> str:
    """Return a URL, or what was meant to be one, without the parts that may hold a password."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2].partition('?')[0]}"


def _set_up_sqlite(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    # The driver's own transactions begin too late: ours begin in the "begin" event.
    connection.isolation_level = None
    _run(connection, *(f"PRAGMA {pragma}" for pragma in _SQLITE_PRAGMAS))


def _begin_sqlite(connection: Connection) -> None:
    raw = cast("sqlite3.Connection", connection.connection.dbapi_connection)
    read_only = bool(connection.get_execution_options().get(_READ_ONLY))
    _run(raw, f"PRAGMA query_only={'ON' if read_only else 'OFF'}", "BEGIN" if read_only else "BEGIN IMMEDIATE")


def _run(connection: sqlite3.Connection, *statements: str) -> None:
    """Run statements past SQLAlchemy, whose error translation does not reach its own events."""
    try:
        for statement in statements:
            connection.execute(statement)
    except sqlite3.Error as error:
        raise translated(error) from error


def _after_fork(thing: Thing, act: Callable[[Thing], None]) -> None:
    """Do `act` to `thing` in every forked child, as long as it is alive."""
    reference = weakref.ref(thing)

    def act_if_alive() -> None:
        inherited = reference()
        if inherited is not None:
            act(inherited)

    os.register_at_fork(after_in_child=act_if_alive)
