"""The one place where a driver's error becomes one of ours."""

import re
import sqlite3
from typing import Never, cast

import psycopg2
from sqlalchemy import Connection, Dialect, Engine, ExceptionContext, event
from sqlalchemy.engine.interfaces import DBAPIModule
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from heimdex.adapters.scoping import carries_scope
from heimdex.domain.constraints import ASSET_URI, IDEMPOTENCY_KEY, JOB_ID
from heimdex.domain.errors import (
    ConnectionLost,
    DatabaseError,
    DatabaseUnavailable,
    DataRejected,
    HeimdexError,
    SchemaMismatch,
    SchemaMissing,
    SerializationConflict,
    TransientDatabaseError,
    UniqueViolation,
)

MIGRATE = "run `heimdex db upgrade`"

# SQLSTATE -> what it means for the caller. Source: PostgreSQL manual, appendix A.
_BY_SQLSTATE: dict[str, type[DatabaseError]] = {
    "40001": SerializationConflict,
    "40P01": TransientDatabaseError,
    "55P03": TransientDatabaseError,
    "57014": TransientDatabaseError,
    "57P01": ConnectionLost,
    "57P02": ConnectionLost,
    "57P03": DatabaseUnavailable,
    "53100": DatabaseUnavailable,
    "53200": DatabaseUnavailable,
    "53300": DatabaseUnavailable,
    "25006": DatabaseUnavailable,
    "3D000": DatabaseUnavailable,
    "28000": DatabaseUnavailable,
    "28P01": DatabaseUnavailable,
    "42501": DatabaseUnavailable,
    "42P01": SchemaMissing,
    "42883": SchemaMissing,
    "42703": SchemaMismatch,
}
_BY_SQLSTATE_CLASS: dict[str, type[DatabaseError]] = {
    "08": ConnectionLost,
    "22": DataRejected,
    "23": DataRejected,
    "54": DataRejected,
    "HX": DataRejected,  # our own: the triggers that keep the history
}
_UNIQUE_VIOLATION = "23505"
# Primary result code -> the same. Source: SQLite, "Result and Error Codes".
_BY_SQLITE_CODE: dict[int, type[DatabaseError]] = {
    sqlite3.SQLITE_BUSY: TransientDatabaseError,
    sqlite3.SQLITE_LOCKED: TransientDatabaseError,
    sqlite3.SQLITE_READONLY: DatabaseUnavailable,
    sqlite3.SQLITE_CANTOPEN: DatabaseUnavailable,
    sqlite3.SQLITE_FULL: DatabaseUnavailable,
    sqlite3.SQLITE_IOERR: DatabaseUnavailable,
    sqlite3.SQLITE_PERM: DatabaseUnavailable,
    sqlite3.SQLITE_NOTADB: DatabaseUnavailable,
    sqlite3.SQLITE_CORRUPT: DatabaseUnavailable,
    sqlite3.SQLITE_CONSTRAINT: DataRejected,
    sqlite3.SQLITE_TOOBIG: DataRejected,
    sqlite3.SQLITE_MISMATCH: DataRejected,
}
# SQLite names the columns of a unique constraint, and not the constraint.
_SQLITE_CONSTRAINTS = {
    "asset.id": "pk_asset",
    "asset.org_id, asset.job_id, asset.uri": ASSET_URI,
    "job.id": JOB_ID,
    "job.org_id, job.idempotency_key": IDEMPOTENCY_KEY,
    "job_event.job_id, job_event.seq": "pk_job_event",
    "job_refusal.id": "pk_job_refusal",
    "worker.id": "pk_worker",
}


def translate_errors(engine: Engine) -> None:
    """Make everything that fails on this engine raise an error of ours."""
    event.listen(engine, "handle_error", _translate)


def translate_our_errors(dialect: Dialect) -> None:
    """Make those statements that carry a scope of ours raise an error of ours, on an engine that is a caller's."""
    if not event.contains(dialect, "handle_error", _translate_ours):
        event.listen(dialect, "handle_error", _translate_ours)


def give_up(connection: Connection, error: BaseException) -> None:
    """Raise our error for what a statement raised that went past SQLAlchemy, and let go of a connection that is lost.

    An interrupt is left alone: it is nobody's error.
    """
    if isinstance(error, HeimdexError):
        return
    lost = isinstance(error, psycopg2.Error) and _is_lost(connection, error)
    if lost or not isinstance(error, Exception):
        connection.invalidate(error)
    if lost:
        # Most likely those that rest in the pool are lost, too.
        connection.engine.dispose()
    if isinstance(error, Exception):
        _raise_translated(error, lost=lost)


def _is_lost(connection: Connection, error: psycopg2.Error) -> bool:
    raw = connection.connection.dbapi_connection
    return connection.dialect.is_disconnect(cast("DBAPIModule.Error", error), raw, None)


def _translate_ours(context: ExceptionContext) -> None:
    if carries_scope(context.execution_context):
        _translate(context)


def _translate(context: ExceptionContext) -> None:
    error = context.original_exception
    # An interrupt may come in the middle of a statement; it is nobody's error.
    if isinstance(error, HeimdexError) or not isinstance(error, Exception):
        return
    _raise_translated(error, lost=context.is_disconnect)


def _raise_translated(error: Exception, *, lost: bool) -> Never:
    ours = translated(error, lost=lost)
    # SQLAlchemy shows the driver's error as the cause of ours; the lines after its first repeat a row's values.
    error.args = (_first_line(error),)
    raise ours from error


def translated(error: BaseException, *, lost: bool = False) -> HeimdexError:
    """Return our error for an error of a driver or of the pool."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return translated(error.orig, lost=lost or error.connection_invalidated)
    if isinstance(error, PoolTimeoutError):
        return DatabaseUnavailable("no connection became free in time; raise the pool size or use fewer threads")
    if isinstance(error, psycopg2.Error) or _sqlstate(error):
        return _from_postgres(error, lost=lost)
    if isinstance(error, sqlite3.Error):
        return _from_sqlite(error)
    if isinstance(error, InvalidRequestError):
        return DatabaseError(_first_line(error))
    if lost:
        return ConnectionLost(_first_line(error))
    return DatabaseError(f"{type(error).__name__}: {_first_line(error)}")


def _sqlstate(error: BaseException) -> str:
    """Return what PostgreSQL called the error, whichever driver brought it."""
    return getattr(error, "pgcode", None) or getattr(error, "sqlstate", None) or ""


def _constraint(error: BaseException) -> str:
    # psycopg has it in its diagnosis, asyncpg on the error that SQLAlchemy made this one from.
    for place in (getattr(error, "diag", None), error.__cause__):
        if name := getattr(place, "constraint_name", None):
            return str(name)
    return "unknown"


def _from_postgres(error: BaseException, *, lost: bool) -> HeimdexError:
    state, line = _sqlstate(error), _first_line(error)
    if state == _UNIQUE_VIOLATION:
        return UniqueViolation(_constraint(error))
    kind = _BY_SQLSTATE.get(state) or _BY_SQLSTATE_CLASS.get(state[:2])
    if kind is None and (lost or isinstance(error, psycopg2.InterfaceError)):
        kind = ConnectionLost
    if kind is None and not state and isinstance(error, psycopg2.OperationalError):
        return DatabaseUnavailable(f"{line}; check that the server runs and that HEIMDEX_DATABASE_URL is right")
    return _told(kind or DatabaseError, line)


def _from_sqlite(error: sqlite3.Error) -> HeimdexError:
    line, code = _first_line(error), getattr(error, "sqlite_errorcode", 0) & 0xFF
    if match := re.match(r"UNIQUE constraint failed: (.*)", line):
        return UniqueViolation(_SQLITE_CONSTRAINTS.get(match[1], match[1]))
    if line.startswith("no such table"):
        return _told(SchemaMissing, line)
    if re.search(r"no such column|has no column named", line):
        return _told(SchemaMismatch, line)
    kind = _BY_SQLITE_CODE.get(code, DatabaseError)
    if kind is DatabaseUnavailable:
        line = f"{line}; check that the file and its folder exist, are writable and have room"
    return kind(line)


def _told(kind: type[DatabaseError], line: str) -> DatabaseError:
    return kind(f"{line}; {MIGRATE}" if issubclass(kind, SchemaMissing | SchemaMismatch) else line)


def _first_line(error: BaseException) -> str:
    """Return the driver's first line; the lines after it repeat values."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
