"""The schema of a database: bring it up to date, say where it is, refuse to work on another one."""

from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from heimdex.adapters.database_errors import MIGRATE, translate_errors
from heimdex.domain.errors import InvalidInput, SchemaMismatch, SchemaMissing
from heimdex.service_layer import ports
from heimdex.service_layer.ports import SchemaState

VERSION_TABLE = "heimdex_version"

_MIGRATIONS = Path(__file__).parent / "migrations"


class Schema(ports.Schema):
    """The schema at a URL. Each call uses a connection of its own, outside the pool and its guard."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)

    def upgrade(self, revision: str = "head") -> SchemaState:
        with self._connect() as connection:
            _migrate(command.upgrade, connection, revision)
        return self.state()

    def downgrade(self, revision: str) -> SchemaState:
        with self._connect() as connection:
            _migrate(command.downgrade, connection, revision)
        return self.state()

    def state(self) -> SchemaState:
        with self._connect() as connection:
            context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
            return SchemaState(context.get_current_revision(), _head())

    def check(self) -> SchemaState:
        """Return the state when it is the one that this Heimdex needs.

        Raises:
            SchemaMissing: there is no schema.
            SchemaMismatch: it is older or newer.
        """
        state = self.state()
        if state.current is None:
            raise SchemaMissing(f"the database has no Heimdex schema; {MIGRATE}")
        if not state.is_current:
            raise SchemaMismatch(_difference(state.current, state.head))
        return state

    def _connect(self) -> Connection:
        engine: Engine = create_engine(self._url, poolclass=NullPool, hide_parameters=True)
        translate_errors(engine)
        return engine.connect()


def _migrate(move: Callable[[Config, str], None], connection: Connection, revision: str) -> None:
    current = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()
    if current is not None and current not in _known():
        raise SchemaMismatch(_difference(current, _head()))
    try:
        move(_configuration(connection), revision)
    except CommandError:
        raise InvalidInput("revision", revision, f"give head or one of {', '.join(sorted(_known()))}") from None


def _known() -> set[str]:
    return {script.revision for script in ScriptDirectory(str(_MIGRATIONS)).walk_revisions()}


def _difference(current: str, head: str) -> str:
    if current in _known():
        return f"the database is at revision {current}, this Heimdex needs {head}; {MIGRATE}"
    return f"the database is at revision {current}, which this Heimdex ({head}) does not know; install a newer Heimdex"


def _head() -> str:
    head = ScriptDirectory(str(_MIGRATIONS)).get_current_head()
    if head is None:
        raise SchemaMismatch("this installation has no migrations; install Heimdex again")
    return head


def _configuration(connection: Connection) -> Config:
    configuration = Config()
    configuration.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    configuration.attributes["connection"] = connection
    return configuration
