"""PostgreSQL through psycopg2: its engine as we want it, its clock, its transactions."""

import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, cast
from uuid import UUID

import psycopg2
from attrs import evolve
from psycopg2.extensions import TRANSACTION_STATUS_INERROR
from sqlalchemy import Connection, Engine, Insert, Interval, create_engine, event, func, literal, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection
from sqlalchemy.sql.elements import ColumnElement

from heimdex.adapters.columns import UtcDateTime
from heimdex.adapters.database import Database, EngineSettings, Mode, OwnSession
from heimdex.adapters.orm import job_table
from heimdex.adapters.postgres_connection import ARGUMENTS, LateConnection, LateCursor, driver_connection
from heimdex.adapters.postgres_wakeups import PostgresWakeups
from heimdex.adapters.renewing_statements import on_postgres
from heimdex.adapters.roles import ORGANISATION
from heimdex.adapters.scoping import carrying
from heimdex.adapters.wall import Login
from heimdex.domain.errors import InvalidInput
from heimdex.domain.scope import Scope, System, Tenant

_MAY_BE_MISSING = True
_UNTIL_THE_END = True
_LONGEST_NOTIFY = timedelta(seconds=5)
# In seconds. Who only listens would not notice that the other side is gone without a word.
_KEEPALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
_RENEWING = System(actor="heimdex", reason="a worker's leases are of every organisation")
_REST_SECONDS = 1.0
_RESTING_SINCE = "heimdex_resting_since"
_CLOCK = System(actor="heimdex", reason="the database's clock belongs to no organisation")


class Postgres(Database):
    def __init__(self, url: URL, settings: EngineSettings) -> None:
        engine = create_engine(
            url,
            pool_size=settings.pool_size,
            max_overflow=settings.max_overflow,
            pool_timeout=settings.pool_timeout.total_seconds(),
            pool_recycle=int(settings.pool_recycle.total_seconds()),
            hide_parameters=True,
            echo=settings.echo,
            connect_args={**_arguments(settings), **ARGUMENTS},
        )
        super().__init__(engine, settings)
        event.listen(engine, "checkin", _begin_as_ever)
        ping_after_a_rest(engine)

    def now(self) -> ColumnElement[datetime]:
        return func.heimdex_now(type_=UtcDateTime)

    def later(self, length: timedelta) -> ColumnElement[datetime]:
        return self.now() + literal(length, Interval)

    def read_now(self, session: Session, /) -> datetime:
        return session.execute(carrying(select(self.now()), _CLOCK)).scalar_one()

    @property
    def claims_in_one_statement(self) -> bool:
        return True

    @property
    def one_writer(self) -> bool:
        return False

    def is_no_id(self, _: ColumnElement[UUID]) -> None:
        return None

    def insert_where_free(self) -> Insert:
        return postgresql.insert(job_table).on_conflict_do_nothing()

    def begin_late(self, scope: Scope) -> Session:
        return OwnSession(self._connect, self._ready(scope, Mode.WRITE))

    def is_undone(self, connection: Connection) -> bool:
        raw = cast("psycopg2.extensions.connection", connection.connection.dbapi_connection)
        return raw.info.transaction_status == TRANSACTION_STATUS_INERROR

    def take_part(self, connection: Connection, scope: Scope) -> Callable[[], None]:
        raw = cast("DBAPIConnection", connection.connection.dbapi_connection)
        if connection.dialect.detect_autocommit_setting(raw):
            raise InvalidInput("session_or_connection", "AUTOCOMMIT", "give one whose statements make a transaction")
        # Only the organisation: as which role to work is for the caller to say. A System names none.
        before = carrying(select(func.current_setting(ORGANISATION, _MAY_BE_MISSING)), scope)
        named = connection.execute(before).scalar_one() or ""
        name = partial(_name_organisation, connection, scope)
        if isinstance(scope, Tenant):
            name(scope.org_id.hex)
        return partial(name, named)

    def renewing(self, lease: timedelta, login: Login | None) -> Mapping[str, Any]:
        longest = lease / 3
        settings = evolve(
            self.settings,
            statement_timeout=min(longest, self.settings.statement_timeout),
            lock_timeout=min(longest, self.settings.lock_timeout),
            # libpq takes one second for two.
            connect_timeout=min(max(longest, timedelta(seconds=2)), self.settings.connect_timeout),
        )
        words = "" if login is None or login.missing else login.words(_RENEWING)
        return on_postgres(self.engine.url, self.engine.dialect, _arguments(settings), lease, words)

    def _ready(self, scope: Scope, mode: Mode) -> Callable[[Connection], None]:
        words = "" if self.wall is None else self.wall.words(scope)
        beginning = words if mode is Mode.ALONE else f"BEGIN{mode.value}; {words}"
        return lambda connection: driver_connection(connection).begin_with(beginning)

    def _may_speak(self, cursor: DBAPICursor) -> bool:
        return self.wall is None or cast("LateCursor", cursor).begins_late


def _arguments(settings: EngineSettings) -> dict[str, Any]:
    """Return the arguments of a connection, over those of the URL."""
    limits = {
        "statement_timeout": settings.statement_timeout,
        "lock_timeout": settings.lock_timeout,
        "idle_in_transaction_session_timeout": settings.statement_timeout * 2,
    }
    options = " ".join(f"-c {name}={limit // timedelta(milliseconds=1)}" for name, limit in limits.items())
    return {
        "application_name": settings.application_name,
        "options": f"{options} -c timezone=UTC",
        "connect_timeout": int(settings.connect_timeout.total_seconds()),
    }


def waking(url: URL, settings: EngineSettings) -> PostgresWakeups:
    """Return wake-ups between the processes that work on a database."""
    _, from_url = url.get_dialect()().create_connect_args(url)
    quick = evolve(
        settings,
        statement_timeout=min(_LONGEST_NOTIFY, settings.statement_timeout),
        lock_timeout=min(_LONGEST_NOTIFY, settings.lock_timeout),
    )
    arguments = _arguments(quick)
    # Nobody waits for the disk: what a crash takes was a hint. Said here and not by SET, which a pooler might keep for
    # others.
    arguments["options"] += " -c synchronous_commit=off"
    return PostgresWakeups({**_KEEPALIVE, **from_url, **arguments})


def ping_after_a_rest(engine: Engine) -> None:
    """Ask a pooled connection whether it is alive before it is used, unless it has just been.

    As `pool_pre_ping`, which asks each time, at the price of a round trip.
    """

    def rests(_: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
        entry.info[_RESTING_SINCE] = time.monotonic()

    def wake(connection: DBAPIConnection, entry: ConnectionPoolEntry, _: PoolProxiedConnection) -> None:
        since = entry.info.pop(_RESTING_SINCE, None)
        if since is None or time.monotonic() - since < _REST_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except psycopg2.Error:
            # The pool makes new connections in the place of this one and of all that are older.
            raise InvalidatePoolError from None

    event.listen(engine, "checkin", rests)
    event.listen(engine, "checkout", wake)


def _begin_as_ever(connection: DBAPIConnection | None, _: ConnectionPoolEntry) -> None:
    if connection is not None:
        cast("LateConnection", connection).begin_as_ever()


def _name_organisation(connection: Connection, scope: Scope, name: str) -> None:
    """Name the organisation of a caller's transaction, until it ends."""
    connection.execute(carrying(select(func.set_config(ORGANISATION, name, _UNTIL_THE_END)), scope))
