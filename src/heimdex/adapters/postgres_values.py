"""Rows to PostgreSQL in bulk, as literals of arrays, and the expressions that `rows` reads.

The driver and SQLAlchemy convert value by value, through several calls each; a batch of hundreds of rows with dozens of
columns spends most of its time there. What is done here equals what they do: tests/property holds it so.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import BigInteger, Column, Double, Integer, Uuid
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

from heimdex.adapters.columns import Milliseconds, StatusText, UtcDateTime
from heimdex.adapters.orm import job_table
from heimdex.domain.rules import to_milliseconds

_AT_HAND = 4_096
_BARE = (Integer, BigInteger, Double, Uuid)


def array(values: Iterable[object]) -> str:
    """Return numbers, ids or words as the literal of an array; nothing in them is quoted."""
    return f"{{{','.join(['NULL' if value is None else str(value) for value in values])}}}"


def text_array(values: Iterable[str | None]) -> str:
    return f"{{{','.join(['NULL' if value is None else _quoted(value) for value in values])}}}"


def time_array(values: Iterable[datetime | None]) -> str:
    return f"{{{','.join(['NULL' if value is None else _time_text(value) for value in values])}}}"


def array_of(column: Column[Any]) -> Callable[[Iterable[Any]], str]:
    """Return what writes the values of a column as the literal of an array."""
    match column.type:
        case UtcDateTime():
            return time_array
        case Milliseconds():
            return lambda lengths: array([None if length is None else to_milliseconds(length) for length in lengths])
        case StatusText():
            return array
        case kind if isinstance(kind, _BARE):
            return array
        case _:
            return text_array


def scalar_of(column: Column[Any]) -> Callable[[Any], object]:
    """Return what makes one value of a column ready for the driver."""
    match column.type:
        case Milliseconds():
            return lambda length: None if length is None else to_milliseconds(length)
        case Uuid():
            return lambda value: None if value is None else str(value)
        case _:
            return lambda value: value


@cache
def sql_type(name: str) -> str:
    """Return the type that the elements of a job column's array have in SQL; JSON comes as its text."""
    if name.endswith("_json"):
        return "text"
    return job_table.c[name].type.compile(dialect=PGDialect_psycopg2())  # type: ignore[no-untyped-call]  # SQLAlchemy leaves its dialects untyped


def read_as(column: Column[Any]) -> str:
    """Return the expression for a column of which `jobs_from` makes a job."""
    match column.type:
        case UtcDateTime():
            return f"CAST({column.name} AT TIME ZONE 'UTC' AS text)"
        case Uuid():
            return f"CAST({column.name} AS text)"
        case _:
            return f"CAST({column.name} AS text)" if column.key.endswith("_json") else column.name


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


# Rows of a batch share most of their values: what is at hand need not be made again.
_time_text = lru_cache(_AT_HAND)(datetime.isoformat)
