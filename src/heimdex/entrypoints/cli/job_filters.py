"""The options that choose jobs: those of a list, and those of a bulk."""

from datetime import datetime
from typing import Annotated, TypeAlias
from uuid import UUID

import typer

from heimdex.domain.errors import InvalidInput
from heimdex.domain.job_filter import LONGEST_SEARCH, JobFilter, PayloadMatch
from heimdex.domain.json_text import decode
from heimdex.domain.transitions import Status

_STATUSES = ", ".join(Status)

OfStatus: TypeAlias = Annotated[
    Status | None, typer.Option("--status", help=f"Only jobs in this status: {_STATUSES}.", metavar="STATUS")
]
OfType: TypeAlias = Annotated[str | None, typer.Option("--type", help="Only jobs of this type.", metavar="TYPE")]
OfQueue: TypeAlias = Annotated[str | None, typer.Option("--queue", help="Only jobs of this queue.", metavar="QUEUE")]
RequestedBy: TypeAlias = Annotated[
    str | None, typer.Option("--requested-by", help="Only jobs that this actor asked for.", metavar="ACTOR")
]
OfParent: TypeAlias = Annotated[UUID | None, typer.Option("--parent", help="Only children of this job.", metavar="ID")]
CreatedFrom: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--created-from", help="Only jobs created then or later, such as 2030-01-31T08:00:00Z.", metavar="TIME"
    ),
]
CreatedBefore: TypeAlias = Annotated[
    str | None, typer.Option("--created-before", help="Only jobs created before this time.", metavar="TIME")
]
InPayload: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--payload",
        help="Only jobs with this value in their payload, such as customer.id=42. With --type and both times, at most "
        f"{LONGEST_SEARCH.days} days apart.",
        metavar="PATH=JSON",
    ),
]


def filter_of(
    *,
    status: Status | None,
    type: str | None,
    queue: str | None,
    requested_by: str | None,
    parent: UUID | None,
    created_from: str | None,
    created_before: str | None,
    payload: str | None,
) -> JobFilter:
    """Return the filter that was typed.

    Raises:
        InvalidInput: a part of it is none, or payloads are searched without bounds.
    """
    return JobFilter(
        status=status,
        type=type,
        queue=queue,
        requested_by=requested_by,
        parent_id=parent,
        created_from=None if created_from is None else time_of("--created-from", created_from),
        created_before=None if created_before is None else time_of("--created-before", created_before),
        payload=None if payload is None else _match(payload),
    )


def time_of(option: str, text: str) -> datetime:
    """Return the time that an option names.

    Raises:
        InvalidInput: it is no time, or one without its offset.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.utcoffset() is None:
        raise InvalidInput(option, text, "give a date and a time with its offset, such as 2030-01-31T08:00:00Z")
    return time


def _match(text: str) -> PayloadMatch:
    path, _, value = text.partition("=")
    try:
        wanted = decode(value)
    except ValueError:
        remedy = "give a path and its value as JSON, such as customer.id=42 or name='\"a text\"'"
        raise InvalidInput("--payload", text, remedy) from None
    return PayloadMatch(tuple(path.split(".")), wanted)
