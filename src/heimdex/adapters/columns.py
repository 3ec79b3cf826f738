"""Column types: what the domain's values look like in PostgreSQL and in SQLite."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, DateTime, Dialect, Text, TypeDecorator, cast
from sqlalchemy.sql.elements import BindParameter, ColumnElement
from sqlalchemy.types import TypeEngine, UserDefinedType

from heimdex.domain.json_text import decode, trusted
from heimdex.domain.rules import from_milliseconds, to_milliseconds
from heimdex.domain.transitions import Status, Trigger


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC times. SQLite keeps them as text in UTC, PostgreSQL as timestamptz."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Milliseconds(TypeDecorator[timedelta]):
    """A length, as a whole number of milliseconds."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: timedelta | None, _: Dialect) -> int | None:
        return None if value is None else to_milliseconds(value)

    def process_result_value(self, value: int | None, _: Dialect) -> timedelta | None:
        return None if value is None else from_milliseconds(value)


class StatusText(TypeDecorator[Status]):
    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Status | None, _: Dialect) -> str | None:
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, _: Dialect) -> Status | None:
        return None if value is None else Status(value)


class TriggerText(TypeDecorator[Trigger]):
    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Trigger | None, _: Dialect) -> str | None:
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, _: Dialect) -> Trigger | None:
        return None if value is None else Trigger(value)


class Names(TypeDecorator[tuple[str, ...]]):
    """A sorted list of names, as JSON text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: tuple[str, ...] | None, _: Dialect) -> str | None:
        return None if value is None else trusted([*value])

    def process_result_value(self, value: str | None, _: Dialect) -> tuple[str, ...] | None:
        names = [] if value is None else decode(value)
        return tuple(str(name) for name in names) if isinstance(names, list) else ()


class _PostgresJson(UserDefinedType[str]):
    """PostgreSQL `json` seen as text, since the driver would parse it and `jsonb` would rewrite its numbers."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:  # noqa: ANN401 - the signature of SQLAlchemy
        return "JSON"

    def bind_expression(self, bindvalue: BindParameter[str]) -> ColumnElement[str]:
        return cast(bindvalue, self)

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[str]:
        return cast(column, Text)


def canonical_json() -> TypeEngine[str]:
    """Return the type of a column that keeps canonical JSON text unchanged.

    SQLite gets TEXT: a column declared JSON has numeric affinity there and would turn "1e16" into a number.
    """
    return _PostgresJson().with_variant(Text(), "sqlite")
