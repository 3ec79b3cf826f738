"""The wall between organisations, in SQL: every statement carries its scope, and under a Tenant its organisation.

`scoped` puts them there. A guard on the engines that Heimdex builds refuses a statement in which they are missing, so
that a filter that was forgotten altogether is an error and not a leak. It looks at the names and values of parameters,
not at what the SQL does with them: that a statement filters every table that it reads is for its author to see to, for
the tests of the wall, and on PostgreSQL for row-level security.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, Self, TypeVar
from uuid import UUID

from sqlalchemy import Engine, Executable, Table, event
from sqlalchemy.engine.default import DefaultExecutionContext
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor, ExecutionContext
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.elements import ColumnElement, ReleaseSavepointClause, RollbackToSavepointClause, SavepointClause

from heimdex.domain.errors import UnscopedStatement
from heimdex.domain.scope import Scope, System, Tenant

_OPTION = "heimdex_scope"
_ORG_ID = "org_id"
# They touch no rows.
_SAVEPOINTS = (SavepointClause, RollbackToSavepointClause, ReleaseSavepointClause)

AnyStatement = TypeVar("AnyStatement", bound=Executable)


class _Filterable(Protocol):
    """A SELECT, UPDATE or DELETE."""

    def where(self, *clauses: ColumnElement[bool]) -> Self: ...

    def execution_options(self, **options: Any) -> Self: ...  # noqa: ANN401 - the signature of SQLAlchemy


Filtered = TypeVar("Filtered", bound=_Filterable)


def scoped(statement: Filtered, scope: Scope, table: Table) -> Filtered:
    """Return the statement as this scope may run it: under a Tenant, only on the organisation's rows of `table`."""
    if isinstance(scope, Tenant):
        statement = statement.where(table.c.org_id == scope.org_id)
    return statement.execution_options(**{_OPTION: scope})


def carrying(statement: AnyStatement, scope: Scope) -> AnyStatement:
    """Mark a statement that names its organisation itself (an INSERT, or SQL text) with its scope."""
    return statement.execution_options(**{_OPTION: scope})


def check_organisation(statement: str, scope: Scope, org_id: UUID) -> None:
    """Look, as the guard does, at a statement that goes past SQLAlchemy, of which `org_id` is a parameter.

    Raises:
        UnscopedStatement: the scope is another organisation's.
    """
    if isinstance(scope, Tenant) and scope.org_id != org_id:
        raise UnscopedStatement(statement)


def carries_scope(context: ExecutionContext | None) -> bool:
    """Return whether the statement that runs is one of ours."""
    statement = None if context is None else context.invoked_statement
    return statement is not None and _OPTION in statement.get_execution_options()


def guard(engine: Engine, may_speak: Callable[[DBAPICursor], bool] = lambda _: True) -> None:
    """Make the engine refuse statements without a scope, or under a Tenant without its organisation as a parameter.

    From the first connection on, since SQLAlchemy asks that one a few things of its own. By events of the dialect: one
    listener among the engine's, and every connection takes longer to begin and to end.

    Args:
        may_speak: whether what is said on a cursor is said in a transaction of ours.
    """

    def refuse(cursor: DBAPICursor, statement: str, context: DefaultExecutionContext) -> None:
        if not (_may_run(context) and may_speak(cursor)):
            raise UnscopedStatement(statement)

    def refuse_with_parameters(
        cursor: DBAPICursor, statement: str, _: object, context: DefaultExecutionContext
    ) -> None:
        refuse(cursor, statement, context)

    def stand(_: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
        event.listen(engine, "do_execute", refuse_with_parameters)
        event.listen(engine, "do_executemany", refuse_with_parameters)
        event.listen(engine, "do_execute_no_params", refuse)

    event.listen(engine, "connect", stand, once=True)


def _may_run(context: DefaultExecutionContext) -> bool:
    statement = context.invoked_statement
    if isinstance(statement, _SAVEPOINTS):
        return True
    # Only the statement's own scope counts: one on a connection or a session would serve whatever runs there.
    scope = None if statement is None else statement.get_execution_options().get(_OPTION)
    if isinstance(scope, Tenant):
        return _names_only(scope.org_id, context.compiled_parameters)
    return isinstance(scope, System)


def _names_only(org_id: UUID, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether each set of parameters has `org_id`, in however many places, and each time this one.

    A parameter is called after its column, and numbered (`org_id_1`) where a statement has it in several places.
    """
    names = [name for name in rows[0] if name == _ORG_ID or name.startswith(f"{_ORG_ID}_")] if rows else []
    # A UUID, or its text with or without hyphens, as each database wants it.
    return bool(names) and all(str(row[name]).replace("-", "") == org_id.hex for row in rows for name in names)
