"""Databases that are made for a test and removed after it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from uuid import uuid4

from sqlalchemy import URL, Engine, NullPool, create_engine, make_url

from heimdex.adapters.database_errors import translate_errors
from heimdex.adapters.schema import Schema
from heimdex.domain.errors import InvalidInput

# What SQLite keeps beside a file.
_BESIDE = ("-wal", "-shm", "-journal")


def throwaway_database(url: str) -> AbstractContextManager[str]:
    """Make a database with the schema, give its URL, and remove it.

    Args:
        url: of an SQLite file that does not exist yet, or of a database of the PostgreSQL server to make one on.
    """
    parsed = make_url(url)
    return _on_server(parsed) if parsed.get_backend_name() == "postgresql" else _in_file(parsed)


@contextmanager
def _on_server(server: URL) -> Iterator[str]:
    name = f"heimdex_test_{uuid4().hex[:16]}"
    engine = create_engine(server, poolclass=NullPool, isolation_level="AUTOCOMMIT", hide_parameters=True)
    translate_errors(engine)
    # From template0, which nobody can be connected to.
    _run(engine, f"CREATE DATABASE {name} TEMPLATE template0")
    try:
        url = server.set(database=name).render_as_string(hide_password=False)
        Schema(url).upgrade()
        yield url
    finally:
        # Whoever is still connected has forgotten to close, or to end.
        _run(engine, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@contextmanager
def _in_file(url: URL) -> Iterator[str]:
    path = Path(url.database or "")
    if path.exists():
        raise InvalidInput("url", str(path), "name a file that does not exist: it is removed afterwards")
    try:
        Schema(url.render_as_string(hide_password=False)).upgrade()
        yield url.render_as_string(hide_password=False)
    finally:
        for part in (path, *(path.with_name(path.name + ending) for ending in _BESIDE)):
            part.unlink(missing_ok=True)


def _run(engine: Engine, statement: str) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)
