"""A store on PostgreSQL or SQLite: units of work and views of one database, its schema looked at before first use."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from logging import getLogger
from threading import Lock
from typing import Any

from attrs import evolve
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from heimdex.adapters.database import Database, EngineSettings
from heimdex.adapters.job_verbs import Tools
from heimdex.adapters.joining import JoinedUnitOfWork, join
from heimdex.adapters.orm import map_domain
from heimdex.adapters.postgres_database import Postgres, waking
from heimdex.adapters.renewing import ProcessRenewer, has_python
from heimdex.adapters.schema import Schema
from heimdex.adapters.sqlite_database import Sqlite
from heimdex.adapters.unit_of_work import SqlAlchemyUnitOfWork
from heimdex.adapters.views import open_views
from heimdex.adapters.wakeups import LocalWakeups
from heimdex.adapters.wall import Login
from heimdex.domain.errors import InvalidSetting
from heimdex.domain.scope import Scope
from heimdex.service_layer.ports import Clock, NoRenewer, Renewer, StartUnitOfWork, Store, Views, Wakeups

_POSTGRES = "postgresql+psycopg2"
_URL_REMEDY = "give postgresql://user@host/database, sqlite:///file.db or memory://"


class Look:
    """Looks at a schema until it was right, and not again; keeps who was connected."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._unseen = True
        self._login: Login | None = None
        self._looking = Lock()

    def login(self) -> Login | None:
        with self._looking:
            if self._unseen:
                _, self._login = self._schema.look()
                self._unseen = False
            return self._login


class SqlStore(Store):
    """Units of work and views of one database.

    Args:
        look: of a store on the same database, which looks for both.
    """

    def __init__(
        self,
        url: str,
        settings: EngineSettings,
        *,
        clock: Clock,
        tools: Tools,
        wakeups: Wakeups,
        look: Look | None = None,
    ) -> None:
        map_domain()
        self.database = open_database(url, settings, clock)
        self._schema = Schema(
            url,
            wall_required=settings.wall_required,
            connect_timeout=settings.connect_timeout,
            lock_timeout=settings.lock_timeout,
        )
        self._look = look or Look(self._schema)
        self._url = url
        self._clock = clock
        self._tools = tools
        self._wakeups = wakeups
        self._unchecked = True
        self._checking = Lock()

    @property
    def schema(self) -> Schema:
        return self._schema

    def unit_of_work(self, scope: Scope) -> SqlAlchemyUnitOfWork:
        self._check_once()
        return SqlAlchemyUnitOfWork(self.database, scope, self._tools, self._wakeups)

    def unit_of_one_write(self, scope: Scope) -> SqlAlchemyUnitOfWork:
        unit = self.unit_of_work(scope)
        unit.expect_one_write()
        return unit

    def join(self, session_or_connection: object, scope: Scope) -> JoinedUnitOfWork:
        self._check_once()
        return join(self.database, session_or_connection, scope, self._tools, self._wakeups)

    def reserve(self, longest: timedelta) -> tuple[StartUnitOfWork, Callable[[], None]]:
        if not self.writes_side_by_side:
            return self.unit_of_work, lambda: None
        settings = evolve(
            self.database.settings,
            # One for the worker's loop, one for its claims.
            pool_size=2,
            max_overflow=0,
            pool_timeout=min(longest, self.database.settings.pool_timeout),
            statement_timeout=min(longest, self.database.settings.statement_timeout),
            lock_timeout=min(longest, self.database.settings.lock_timeout),
        )
        apart = SqlStore(
            self._url, settings, clock=self._clock, tools=self._tools, wakeups=self._wakeups, look=self._look
        )
        # What one puts back into the queue, the other looks for.
        apart.database.claim_bounds = self.database.claim_bounds
        return apart.unit_of_work, apart.close

    @property
    def writes_side_by_side(self) -> bool:
        return not self.database.one_writer

    def renewer(self, *, lease: timedelta, every: timedelta, most: int) -> Renewer:
        def instructions() -> Mapping[str, Any]:
            # Known since before the first claim, so that nobody waits here for a server that is silent.
            return self.database.renewing(lease, self._look.login())

        if not has_python():
            return NoRenewer()
        return ProcessRenewer(instructions, every=every, most=most)

    @contextmanager
    def views(self, scope: Scope) -> Iterator[Views]:
        self._check_once()
        with open_views(self.database, scope) as views:
            yield views

    def close(self) -> None:
        self.database.close()

    def _check_once(self) -> None:
        """Refuse to work on a schema that is missing, older or newer."""
        if self._unchecked:
            with self._checking:
                if self._unchecked:
                    login = self._look.login()
                    if login is not None:
                        self._stand_behind(login)
                    self._unchecked = False

    def _stand_behind(self, login: Login) -> None:
        if login.missing is None:
            self.database.stand_behind(login)
        else:
            getLogger("heimdex").warning("organisations have one wall, not two: %s", login.missing)


def open_database(url: str, settings: EngineSettings, clock: Clock) -> Database:
    """Return the database that a URL names. No connection is made yet.

    Raises:
        InvalidSetting: it is neither PostgreSQL through psycopg2 nor an SQLite file.
    """
    parsed = _parsed(url)
    if parsed.drivername == _POSTGRES:
        return Postgres(parsed, settings)
    if parsed.drivername in {"sqlite", "sqlite+pysqlite"}:
        if parsed.database in {None, "", ":memory:"} or "mode" in parsed.query:
            raise InvalidSetting(
                "HEIMDEX_DATABASE_URL", url, "name a file, or use memory:// for a store that is not kept"
            )
        return Sqlite(parsed, settings, clock)
    raise InvalidSetting("HEIMDEX_DATABASE_URL", _without_password(url), _URL_REMEDY)


def open_wakeups(url: str, settings: EngineSettings) -> LocalWakeups:
    """Return wake-ups for those who work on a database: in every process on PostgreSQL, else in this one."""
    parsed = _parsed(url)
    return waking(parsed, settings) if parsed.drivername == _POSTGRES else LocalWakeups()


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        raise InvalidSetting("HEIMDEX_DATABASE_URL", _without_password(url), _URL_REMEDY) from None


def _without_password(url: str) -> str:
    """Return a URL, or what was meant to be one, without the parts that may hold a password."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2].partition('?')[0]}"
