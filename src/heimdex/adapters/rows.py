"""Jobs from the rows of a driver: the same as through the mapping, which tests/property holds."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from operator import itemgetter
from typing import Any
from uuid import UUID

from attrs import fields_dict
from sqlalchemy import Uuid

from heimdex.adapters.columns import Milliseconds, StatusText, UtcDateTime
from heimdex.adapters.orm import job_table
from heimdex.domain.job import Job, as_kept
from heimdex.domain.rules import from_milliseconds
from heimdex.domain.transitions import Status

_AT_HAND = 4_096
# What hardly two jobs have in common, and what is stored as it is.
_OWN = frozenset({"payload_json", "result_json", "idempotency_key", "fingerprint"})
# So that no job's dict has to grow.
_BLANK = dict.fromkeys(fields_dict(Job))


def jobs_from(rows: Iterable[Sequence[Any]], names: Sequence[str], known: dict[str, object]) -> list[Job]:
    """Return the jobs of rows that were selected by `read_as`.

    Args:
        names: the attributes in the order of the row.
        known: the attributes that are the same for every row, and were not selected.
    """
    own = [(name, place) for place, name in enumerate(names) if name in _OWN]
    common = [(name, place) for place, name in enumerate(names) if name not in _OWN and name != "id"]
    common_of, id_at = itemgetter(*(place for _, place in common)), names.index("id")
    # Jobs of one kind have most in common: it is read once for each kind, and copied for each job.
    kinds: dict[object, dict[str, object]] = {}
    jobs = []
    for row in rows:
        values = common_of(row)
        kind = kinds.get(values)
        if kind is None:
            kind = kinds[values] = {**_BLANK, **known, **_read(common, row)}
        columns = kind.copy()
        columns["id"] = UUID(row[id_at])
        for name, place in own:
            columns[name] = row[place]
        jobs.append(as_kept(columns))
    return jobs


def _read(places: Iterable[tuple[str, int]], row: Sequence[Any]) -> dict[str, object]:
    columns = {}
    for name, place in places:
        value, reader = row[place], _READERS.get(type(job_table.c[name].type))
        columns[name] = value if value is None or reader is None else reader(value)
    return columns


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
