"""Statements in a driver's own SQL, which SQLAlchemy neither compiles nor converts values for.

The guard of the engine holds them to their scope as it does every other statement.
"""

from typing import Any, cast

from attrs import frozen
from sqlalchemy import Connection, CursorResult
from sqlalchemy.engine.default import DefaultExecutionContext

from heimdex.domain.scope import Scope, Tenant

_OPTION = "heimdex_driver_statement"


@frozen
class DriverStatement:
    """SQL whose values are given by their places.

    Args:
        organisation: the place of the organisation, among the values of a row.
    """

    sql: str
    organisation: int


@frozen
class _Run:
    statement: DriverStatement
    scope: Scope


def on_driver(
    connection: Connection, statement: DriverStatement, scope: Scope, rows: list[tuple[Any, ...]]
) -> "CursorResult[Any]":
    """Run a statement for each row of values; the row count is that of all."""
    return connection.exec_driver_sql(statement.sql, rows, execution_options={_OPTION: _Run(statement, scope)})


def driver_may_run(context: DefaultExecutionContext) -> bool:
    """Return whether what is about to run came through `on_driver`, and under a Tenant with its organisation only."""
    run = context.execution_options.get(_OPTION)
    # The very text: the option of another statement, on a connection, says nothing of this one.
    if not isinstance(run, _Run) or run.statement.sql is not context.statement:
        return False
    if isinstance(run.scope, Tenant):
        place, organisation = run.statement.organisation, run.scope.org_id.hex
        return all(row[place] == organisation for row in cast("list[tuple[object, ...]]", context.parameters))
    return True
