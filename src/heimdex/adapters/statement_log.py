"""Listening to the statements that reach a database."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine.default import DefaultExecutionContext
from sqlalchemy.engine.interfaces import DBAPICursor

from heimdex.adapters.sql_store import SqlStore
from heimdex.domain.errors import InvalidInput
from heimdex.service_layer.ports import Store


def logged_statements(store: Store) -> AbstractContextManager[list[str]]:
    """Give a list to which every statement of the store is added while the block runs, as SQL without parameters.

    Raises:
        InvalidInput: the store runs no statements.
    """
    if not isinstance(store, SqlStore):
        raise InvalidInput("store", type(store).__name__, "use SQLite or PostgreSQL: in memory there are no statements")
    return _listening(store.database.engine)


@contextmanager
def _listening(engine: Engine) -> Iterator[list[str]]:
    statements: list[str] = []

    def add(
        _connection: Connection,
        _cursor: DBAPICursor,
        statement: str,
        _parameters: object,
        _context: DefaultExecutionContext | None,
        _executemany: bool,  # noqa: FBT001 - the signature of SQLAlchemy's event
    ) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", add)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", add)
