"""Our revisions through Alembic. Loaded only where a schema is moved, or is not at the last revision."""

from pathlib import Path
from typing import Literal

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from heimdex.domain.errors import InvalidInput

_MIGRATIONS = Path(__file__).parent / "migrations"


def move(direction: Literal["upgrade", "downgrade"], connection: Connection, revision: str) -> None:
    """Bring the schema to a revision.

    Raises:
        InvalidInput: there is no such revision.
    """
    steps = {"upgrade": command.upgrade, "downgrade": command.downgrade}
    try:
        steps[direction](_configuration(connection), revision)
    except CommandError:
        raise InvalidInput("revision", revision, f"give head or one of {', '.join(sorted(known()))}") from None


def known() -> set[str]:
    return {script.revision for script in ScriptDirectory(str(_MIGRATIONS)).walk_revisions()}


def head() -> str | None:
    return ScriptDirectory(str(_MIGRATIONS)).get_current_head()


def _configuration(connection: Connection) -> Config:
    configuration = Config()
    configuration.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    configuration.attributes["connection"] = connection
    return configuration
