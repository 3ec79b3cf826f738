"""SQL, database libraries and database names stay in the adapters."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.source import PACKAGE, imports, modules, name, strings

SQL = re.compile(
    r"\b(?:SELECT\s+\S|INSERT\s+(?:OR\s+\w+\s+)?INTO\b|UPDATE\s+\S+\s+SET\b|DELETE\s+FROM\b|TRUNCATE\s+\S"
    r"|(?:CREATE|ALTER|DROP)\s+(?:\w+\s+)?(?:TABLE|INDEX|TRIGGER|FUNCTION|ROLE|POLICY)\b|SET\s+LOCAL\b|PRAGMA\s+\S)"
)
LIBRARIES = {"psycopg", "psycopg2", "sqlalchemy", "sqlite3"}
# A dialect's or driver's name as a value, alone or at the head of a URL. Prose may name a database.
DIALECT = re.compile(r"^(?:postgres|postgresql|psycopg2?|sqlite3?)(?:\+\w+)?(?:$|:)")
MAY_NAME_A_DIALECT = {
    "src/heimdex/config.py": "accepts or refuses a URL by its scheme",
    "src/heimdex/bootstrap.py": "picks the adapter by the URL's scheme",
}


def _outside_adapters() -> Iterator[Path]:
    return (path for path in modules() if not path.is_relative_to(PACKAGE / "adapters"))


def test_no_sql_outside_the_adapters() -> None:
    found = [
        f"{name(path)}:{line} {text}"
        for path in _outside_adapters()
        for line, text in strings(path)
        if SQL.search(text)
    ]
    assert not found, "\n".join(found)


def test_no_database_library_outside_the_adapters() -> None:
    found = [
        f"{name(path)}:{line} {imported}"
        for path in _outside_adapters()
        for line, imported in imports(path)
        if imported.partition(".")[0] in LIBRARIES
    ]
    assert not found, "\n".join(found)


def test_no_dialect_name_outside_the_adapters() -> None:
    found = [
        f"{name(path)}:{line} {text}"
        for path in _outside_adapters()
        for line, text in strings(path)
        if name(path) not in MAY_NAME_A_DIALECT and DIALECT.search(text)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "SELECT\n  id",
        "INSERT INTO job",
        "UPDATE job SET x = 1",
        "DELETE FROM job",
        "DROP TABLE job",
        "SET LOCAL x",
    ],
)
def test_sql_is_recognised(text: str) -> None:
    assert SQL.search(text)


@pytest.mark.parametrize("text", ["Select a job", "update the job, then set it", "SELECT", "delete from the folder"])
def test_prose_is_not_taken_for_sql(text: str) -> None:
    assert not SQL.search(text)


@pytest.mark.parametrize("text", ["sqlite", "postgresql+psycopg2", "postgresql://localhost/x", "sqlite:///"])
def test_a_dialect_name_is_recognised(text: str) -> None:
    assert DIALECT.search(text)


@pytest.mark.parametrize("text", ["SQLite needs a file", "postgresql is not installed", "postgres_server"])
def test_prose_is_not_taken_for_a_dialect_name(text: str) -> None:
    assert not DIALECT.search(text)
