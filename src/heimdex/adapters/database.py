"""A database behind SQLAlchemy: what every one of them has, whatever its engine."""

import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar

from attrs import frozen
from sqlalchemy import Connection, Engine, Insert
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from heimdex.adapters.database_errors import translate_errors, translated
from heimdex.adapters.scoping import guard

Thing = TypeVar("Thing")


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
        after_fork(engine, lambda inherited: inherited.dispose(close=False))

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


def after_fork(thing: Thing, act: Callable[[Thing], None]) -> None:
    """Do `act` to `thing` in every forked child, as long as it is alive."""
    reference = weakref.ref(thing)

    def act_if_alive() -> None:
        inherited = reference()
        if inherited is not None:
            act(inherited)

    os.register_at_fork(after_in_child=act_if_alive)
