"""Options that every command has, and some that many have. Only typer is loaded here, so that help stays quick."""

from contextvars import ContextVar
from functools import partial
from typing import Annotated, TypeAlias
from uuid import UUID

import typer
from attrs import frozen

_option = partial(typer.Option, rich_help_panel="Options of every command")

Org: TypeAlias = Annotated[
    str | None, _option("--org", metavar="UUID", help="The organisation to act for, instead of HEIMDEX_ORG.")
]
DatabaseUrl: TypeAlias = Annotated[
    str | None, _option("--database-url", metavar="URL", help="Where the ledger is, instead of HEIMDEX_DATABASE_URL.")
]
AsJson: TypeAlias = Annotated[bool, _option("--json", help="Answer with one JSON document.")]
Debug: TypeAlias = Annotated[bool, _option("--debug", help="Show tracebacks with errors.")]


api_url: ContextVar[str | None] = ContextVar("api_url", default=None)
"""The API that --api names, before the name of the command."""

JobId: TypeAlias = Annotated[UUID, typer.Argument(help="The job's id.", metavar="ID", show_default=False)]
Reason: TypeAlias = Annotated[
    str, typer.Option("--reason", help="Why; it is kept.", metavar="TEXT", show_default=False)
]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", help="Do not ask whether this is meant.")]


class Misuse(typer.TyperException):
    """A command line of which each part is right, and which means nothing."""

    exit_code = 2


@frozen(kw_only=True)
class Asked:
    """What was asked for beside a command's own parameters; None where the environment decides."""

    json: bool
    org: str | None
    database_url: str | None
    debug: bool
