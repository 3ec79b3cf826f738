"""A store on PostgreSQL or SQLite: units of work and views of one database, its schema looked at before first use."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from heimdex.adapters.database import EngineSettings, open_database
from heimdex.adapters.job_verbs import Tools
from heimdex.adapters.orm import map_domain
from heimdex.adapters.schema import Schema
from heimdex.adapters.unit_of_work import SqlAlchemyUnitOfWork
from heimdex.adapters.views import open_views
from heimdex.domain.scope import Scope
from heimdex.service_layer.ports import Clock, Store, Views, Wakeups


class SqlStore(Store):
    def __init__(self, url: str, settings: EngineSettings, *, clock: Clock, tools: Tools, wakeups: Wakeups) -> None:
        map_domain()
        self.database = open_database(url, settings, clock)
        self._schema = Schema(url)
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

    @contextmanager
    def views(self, scope: Scope) -> Iterator[Views]:
        self._check_once()
        with open_views(self.database, scope) as views:
            yield views

    def close(self) -> None:
        self.database.close()

    def _check_once(self) -> None:
        """Refuse to work on a schema that is missing, older or newer; a schema that was right is not asked again."""
        if self._unchecked:
            with self._checking:
                if self._unchecked:
                    self._schema.check()
                    self._unchecked = False
