"""A database behind SQLAlchemy: what every one of them has, whatever its engine."""

import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, TypeVar
from uuid import UUID

from attrs import frozen
from sqlalchemy import Connection, Engine, Insert
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from heimdex.adapters.claim_bounds import ClaimBounds
from heimdex.adapters.database_errors import translate_errors, translated
from heimdex.adapters.scoping import guard
from heimdex.adapters.wall import Login
from heimdex.domain.scope import Scope

Thing = TypeVar("Thing")


@frozen(kw_only=True)
class EngineSettings:
    """How connections are made and kept. Times not given by the caller are those of the guide.

    Args:
        connect_timeout: in whole seconds, at least 2, as libpq counts.
        statement_timeout: PostgreSQL also ends a transaction in which nothing happens for twice as long.
        wall_required: whether to refuse to work where row-level security does not stand, as production does.
    """

    pool_size: int = 5
    max_overflow: int = 10
    pool_timeout: timedelta = timedelta(seconds=30)
    pool_recycle: timedelta = timedelta(minutes=5)
    connect_timeout: timedelta = timedelta(seconds=10)
    statement_timeout: timedelta = timedelta(seconds=30)
    lock_timeout: timedelta = timedelta(seconds=5)
    application_name: str = "heimdex"
    echo: bool = False
    wall_required: bool = False


class Mode(Enum):
    """What a transaction may do, in the words of SQL for it."""

    WRITE = ""
    READ = " READ ONLY"
    BEHOLD = " ISOLATION LEVEL REPEATABLE READ READ ONLY"
    """It sees one moment in all its statements."""
    ALONE = "alone"
    """It is one statement, which commits with itself."""


class OwnSession(Session):
    """The session of one connection of its own, whose transaction has begun.

    Who wants no more than the connection does not pay for the session's own bookkeeping of a transaction.

    Args:
        connect: is called once, when somebody needs the connection.
        ready: is called before a transaction of the connection begins.
    """

    def __init__(self, connect: Callable[[], Connection], ready: Callable[[Connection], None]) -> None:
        super().__init__(autoflush=False, expire_on_commit=False, join_transaction_mode="rollback_only")
        self._own: Connection | None = None
        self._connect = connect
        self._ready = ready

    def connection(
        self,
        bind_arguments: Mapping[str, Any] | None = None,
        execution_options: Mapping[str, Any] | None = None,
    ) -> Connection:
        return self._begun()

    def get_bind(self, *_: Any, **_options: Any) -> Connection:  # noqa: ANN401 - the signature of SQLAlchemy
        return self._begun()

    def in_transaction(self) -> bool:
        return self._own is not None and self._own.in_transaction()

    def commit(self) -> None:
        if super().in_transaction():
            super().commit()
        if self._own is not None:
            self._own.commit()

    def rollback(self) -> None:
        # The session is only closed: begun within a savepoint it would roll back that one, which may have gone.
        if super().in_transaction():
            super().close()
        if self._own is not None:
            self._own.rollback()

    def close(self) -> None:
        if super().in_transaction() or next(iter(self), None) is not None:
            super().close()
        if self._own is not None:
            self._own.close()

    def _begun(self) -> Connection:
        if self._own is None:
            self._own = self._connect()
        if not self._own.in_transaction():
            self._ready(self._own)
            self._own.begin()
        return self._own


class Database(ABC):
    """One database. Units of work write through `begin`, views read through `reading`."""

    wall: Login | None = None

    def __init__(self, engine: Engine, settings: EngineSettings) -> None:
        self.engine = engine
        self.settings = settings
        self.claim_bounds = ClaimBounds()
        translate_errors(engine)
        guard(engine, self._may_speak)
        # A forked child opens connections of its own: a shared one would hand it other people's rows.
        after_fork(engine, lambda inherited: inherited.dispose(close=False))
        after_fork(self, lambda inherited: inherited.claim_bounds.start_anew())

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

    @property
    @abstractmethod
    def one_writer(self) -> bool:
        """Whether its writers wait for each other, so that a second connection could not write beside the first."""

    @abstractmethod
    def is_no_id(self, column: "ColumnElement[UUID]") -> ColumnElement[bool] | None:
        """Return whether a column of ids holds something else, which was written past Heimdex; None: it cannot."""

    @abstractmethod
    def insert_where_free(self) -> Insert:
        """Return an INSERT of jobs that passes over those whose id or idempotency key is taken."""

    def begin(self, scope: Scope) -> Session:
        """Return a session of a scope whose transaction has begun."""
        return self._session(scope, Mode.WRITE)

    def begin_late(self, scope: Scope) -> Session:
        """Return a session of a scope whose transaction may begin when somebody needs it."""
        return self.begin(scope)

    def connect_alone(self, scope: Scope) -> Connection:
        """Return a connection of a scope, on which each statement is a transaction."""
        ready = self._ready(scope, Mode.ALONE)
        connection = self._connect()
        try:
            ready(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    @abstractmethod
    def is_undone(self, connection: Connection) -> bool:
        """Return whether the database has given up this transaction, so that a COMMIT would keep nothing of it."""

    @abstractmethod
    def take_part(self, connection: Connection, scope: Scope) -> Callable[[], None]:
        """Make a caller's transaction ready for a savepoint that works in a scope; returns what takes that back."""

    @abstractmethod
    def renewing(self, lease: timedelta, login: Login | None) -> Mapping[str, Any]:
        """Return what a process beside a worker needs to know to renew leases here, connected as this login."""

    def end(self, session: Session) -> None:
        session.close()

    @contextmanager
    def reading(self, scope: Scope) -> Iterator[Session]:
        """Give a session of a scope that can only read."""
        with self._session(scope, Mode.READ) as session:
            yield session

    @contextmanager
    def beholding(self, scope: Scope) -> Iterator[Session]:
        """Give a session of a scope that can only read, and sees one moment in all its statements."""
        with self._session(scope, Mode.BEHOLD) as session:
            yield session

    def _may_speak(self, _: DBAPICursor) -> bool:
        """Return whether the transaction of a cursor has been made ready."""
        return True

    @abstractmethod
    def _ready(self, scope: Scope, mode: Mode) -> Callable[[Connection], None]:
        """Return what is called before a transaction of this scope begins on a connection."""

    def close(self) -> None:
        self.engine.dispose()

    def stand_behind(self, login: Login) -> None:
        """Let every later transaction work as the role of its scope."""
        self.wall = login

    def _session(self, scope: Scope, mode: Mode) -> Session:
        """Return a session whose transaction has begun."""
        session = OwnSession(self._connect, self._ready(scope, mode))
        try:
            session.connection()
        except BaseException:
            session.close()
            raise
        return session

    def _connect(self) -> Connection:
        try:
            return self.engine.connect()
        except PoolTimeoutError as error:
            raise translated(error) from error


def after_fork(thing: Thing, act: Callable[[Thing], None]) -> None:
    """Do `act` to `thing` in every forked child, as long as it is alive."""
    reference = weakref.ref(thing)

    def act_if_alive() -> None:
        inherited = reference()
        if inherited is not None:
            act(inherited)

    os.register_at_fork(after_in_child=act_if_alive)
