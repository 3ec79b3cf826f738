"""The options that every command has. Only typer is loaded here, so that help stays quick."""

from functools import partial
from typing import Annotated, TypeAlias

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


@frozen(kw_only=True)
class Asked:
    """What was asked for beside a command's own parameters; None where the environment decides."""

    json: bool
    org: str | None
    database_url: str | None
    debug: bool
