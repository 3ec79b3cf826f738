"""Rows to and from PostgreSQL in bulk: columns as array literals on the way in, jobs from driver rows on the way out.

The driver and SQLAlchemy convert value by value, through several calls each; a batch of hundreds of rows with dozens of
columns spends most of its time there. What is done here equals what they do: tests/property holds it so.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, Double, Integer, Uuid
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

from heimdex.adapters.columns import Milliseconds, StatusText, UtcDateTime
from heimdex.adapters.orm import job_table
from heimdex.domain.job import Job, as_kept
from heimdex.domain.rules import from_milliseconds, to_milliseconds
from heimdex.domain.transitions import Status

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


def jobs_from(rows: Iterable[Sequence[Any]], names: Sequence[str], known: dict[str, object]) -> list[Job]:
    """Return the jobs of rows that were selected by `read_as`.

    Args:
        names: the attributes in the order of the row.
        known: the attributes that are the same for every row, and were not selected.
    """
    # Column by column, since a batch shares most of its values.
    columns = [_read(name, values) for name, values in zip(names, zip(*rows, strict=True), strict=False)]
    # `known` first: so each job's dict is made once, and none has to grow.
    return [as_kept({**known, **dict(zip(names, row, strict=True))}) for row in zip(*columns, strict=True)]


def _read(name: str, values: Sequence[Any]) -> Sequence[object]:
    reader = _READERS.get(type(job_table.c[name].type))
    if reader is None:
        return values
    read = {value: None if value is None else reader(value) for value in set(values)}
    return [read[value] for value in values]


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


# Rows of a batch share most of their values: what is at hand need not be made again.
_time_text = lru_cache(_AT_HAND)(datetime.isoformat)


@lru_cache(_AT_HAND)
def time_from(text: str) -> datetime:
    """Return the time that `read_as` selects."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


_READERS: dict[type, Callable[[Any], object]] = {
    UtcDateTime: time_from,
    Uuid: UUID,
    Milliseconds: from_milliseconds,
    StatusText: Status,
}
