"""Rows as SQLite's driver takes them and gives them back.

SQLAlchemy converts value by value, through several calls each. What is done here equals what it does: tests/property
holds it so.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from operator import attrgetter, itemgetter
from typing import Any, TypeAlias

from sqlalchemy import Column, Table, Text, Uuid, type_coerce
from sqlalchemy.sql.elements import ColumnElement

from heimdex.adapters.columns import Milliseconds, StatusText, TriggerText, UtcDateTime
from heimdex.domain.events import JobEvent
from heimdex.domain.job import Job
from heimdex.domain.rules import to_milliseconds
from heimdex.domain.transitions import Status, Trigger

_AT_HAND = 4_096

Row: TypeAlias = tuple[Any, ...]


class RowForm:
    """Some columns of a table, and how the attributes of these names become values of the driver."""

    def __init__(self, table: Table, names: Sequence[str]) -> None:
        self.columns = tuple(table.c[name].name for name in names)
        self._values = itemgetter(*names)
        self._writers = tuple(_WRITERS.get(type(table.c[name].type), _as_it_is) for name in names)

    def rows(self, things: Iterable[Job | JobEvent]) -> list[Row]:
        values, writers = self._values, self._writers
        return [
            tuple(
                [value if value is None else write(value) for write, value in zip(writers, values(them), strict=True)]
            )
            for them in map(vars, things)
        ]


def as_stored(column: Column[Any]) -> ColumnElement[Any]:
    """Return the column as the driver gives it."""
    return type_coerce(column, Text)


# Rows of a batch share most of their values: what is at hand need not be made again.
@lru_cache(_AT_HAND)
def time_text(time: datetime) -> str:
    return time.replace(tzinfo=None).isoformat(" ", "microseconds")


def _as_it_is(value: object) -> object:
    return value


# The driver would look for an adapter of what is a string and has a class of its own.
_WORDS: dict[Status | Trigger, str] = {word: word.value for kind in (Status, Trigger) for word in kind}
_WRITERS: dict[type, Callable[[Any], object]] = {
    UtcDateTime: time_text,
    Uuid: attrgetter("hex"),
    Milliseconds: to_milliseconds,
    StatusText: _WORDS.__getitem__,
    TriggerText: _WORDS.__getitem__,
}
