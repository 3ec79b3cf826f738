"""Looking into payloads, in the words of each database."""

from typing import Any

from sqlalchemy import Text, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import FunctionElement

from heimdex.adapters.orm import job_table
from heimdex.domain.job_filter import PayloadMatch, value_at

SQLITE_FUNCTION = "heimdex_value_at"


class _ValueAt(FunctionElement[str]):
    """The canonical text of a payload's value at a path, or NULL."""

    type = Text()
    inherit_cache = True


@compiles(_ValueAt)
def _on_postgresql(element: _ValueAt, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - SQLAlchemy says with what it calls
    payload, path = (compiler.process(clause, **options) for clause in element.clauses)
    # The text of a part of a canonical text is canonical.
    return f"({payload} #> string_to_array({path}, '.'))::text"


@compiles(_ValueAt, "sqlite")
def _on_sqlite(element: _ValueAt, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - as above
    payload, path = (compiler.process(clause, **options) for clause in element.clauses)
    # As bytes: a text that is no UTF-8 would fail before the function is called.
    return f"{SQLITE_FUNCTION}(CAST({payload} AS BLOB), {path})"


def has(wanted: PayloadMatch) -> ColumnElement[bool]:
    """Return the condition that a job's payload has a value at a path."""
    return _ValueAt(job_table.c.payload_json, literal(".".join(wanted.path), Text)) == wanted.value_json


def sqlite_value_at(payload: bytes, path: str) -> str | None:
    """What SQLite calls for each row. Its own functions would fail a whole query for one row that is no JSON."""
    try:
        return value_at(payload.decode(), tuple(path.split(".")))
    except UnicodeDecodeError:
        return None
