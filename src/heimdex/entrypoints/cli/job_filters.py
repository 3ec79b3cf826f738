"""The options that choose jobs: those of a list, and those of a bulk."""

from typing import Annotated, TypeAlias
from uuid import UUID

import typer

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
