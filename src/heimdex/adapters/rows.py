"""Jobs from the rows of a driver, column by column: the same as through the mapping, which tests/property holds."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import Uuid

from heimdex.adapters.columns import Milliseconds, StatusText, UtcDateTime
from heimdex.adapters.orm import job_table
from heimdex.domain.job import Job, as_kept
from heimdex.domain.rules import from_milliseconds
from heimdex.domain.transitions import Status

_AT_HAND = 4_096


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
