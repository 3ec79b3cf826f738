"""A connection to PostgreSQL whose transaction begins in the text of its first statement: no round trip goes to BEGIN.

psycopg2 sends a BEGIN of its own before the first statement, and waits for the answer.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias, cast
from uuid import UUID

from psycopg2.extensions import TRANSACTION_STATUS_IDLE, connection, cursor
from psycopg2.sql import Composable
from sqlalchemy import Connection

from heimdex.adapters.database_errors import give_up
from heimdex.adapters.scoping import check_organisation
from heimdex.domain.scope import Scope

_EXECUTEMANY = False
_Query: TypeAlias = str | bytes | Composable
_Values: TypeAlias = Sequence[Any] | Mapping[str, Any] | None


class LateConnection(connection):
    """As every connection of psycopg2, until it is told how to begin."""

    _beginning: str | None = None

    @property
    def begins_late(self) -> bool:
        return self._beginning is not None

    def begin_with(self, beginning: str) -> None:
        """Put this text before the first statement of every transaction, until `begin_as_ever`.

        Args:
            beginning: SQL that ends with a semicolon, without a percent sign.
        """
        # Else the driver says BEGIN, too. Nothing is sent for it.
        self.autocommit = True
        self._beginning = beginning

    def begin_as_ever(self) -> None:
        if self._beginning is not None:
            self._beginning = None
            if not self.closed:
                self.autocommit = False

    def before_statement(self) -> str:
        """Return what goes before the text of the next statement."""
        if self._beginning is None or self.get_transaction_status() != TRANSACTION_STATUS_IDLE:
            return ""
        return self._beginning

    def commit(self) -> None:
        self._end("COMMIT")

    def rollback(self) -> None:
        self._end("ROLLBACK")

    def _end(self, how: str) -> None:
        if self._beginning is None:
            super().commit() if how == "COMMIT" else super().rollback()
        elif self.closed or self.get_transaction_status() != TRANSACTION_STATUS_IDLE:
            cursor(self).execute(how)


class LateCursor(cursor):
    @property
    def begins_late(self) -> bool:
        """Whether its connection was told how to begin."""
        return _connection_of(self).begins_late

    def execute(self, query: _Query, vars: _Values = None) -> None:  # noqa: A002 - the driver's name
        if isinstance(query, str):
            query = _connection_of(self).before_statement() + query
        else:
            self._begin()
        super().execute(query, vars)

    def executemany(self, query: _Query, vars_list: Iterable[_Values]) -> None:
        self._begin()
        super().executemany(query, vars_list)

    def copy_expert(self, sql: _Query, file: Any, size: int = 8192) -> None:  # noqa: ANN401 - the driver's signature
        self._begin()
        super().copy_expert(sql, file, size)

    def _begin(self) -> None:
        if beginning := _connection_of(self).before_statement():
            super().execute(beginning)


ARGUMENTS: Mapping[str, type] = MappingProxyType({"connection_factory": LateConnection, "cursor_factory": LateCursor})
"""What the driver is told so that it makes such connections."""


def ask(connection: Connection, statement: str, scope: Scope, org_id: UUID, *values: object) -> Any:  # noqa: ANN401 - whatever the column holds
    """Run a statement past SQLAlchemy, which takes longer over it than the server; return its one row's one column.

    The rule of the guard holds, and who listens to the engine's statements hears of this one.

    Args:
        statement: SQL whose first parameter is the organisation.

    Raises:
        UnscopedStatement: that is not the scope's.
    """
    check_organisation(statement, scope, org_id)
    parameters = (org_id.hex, *values)
    cursor, listeners = driver_connection(connection).cursor(), connection.engine.dispatch
    try:
        for before in listeners.before_cursor_execute:
            before(connection, cursor, statement, parameters, None, _EXECUTEMANY)
        cursor.execute(statement, parameters)
        [[answer]] = cursor.fetchall()
        for after in listeners.after_cursor_execute:
            after(connection, cursor, statement, parameters, None, _EXECUTEMANY)
    except BaseException as error:
        give_up(connection, error)
        raise
    finally:
        cursor.close()
    return answer


def driver_connection(connection: Connection) -> LateConnection:
    """Return the driver's connection below one of an engine of ours."""
    return cast("LateConnection", connection.connection.dbapi_connection)


def _connection_of(cursor: LateCursor) -> LateConnection:
    return cast("LateConnection", cursor.connection)
