"""`heimdex db`: the schema of the database, and its roles."""

from typing import Annotated

import typer

from heimdex.entrypoints.cli.errors import FOUND_SOMETHING
from heimdex.entrypoints.cli.options import AsJson, Asked, DatabaseUrl, Debug, Org
from heimdex.service_layer.ports import Duty

app = typer.Typer(name="db", help="Make the database's schema and roles, and look at it.", no_args_is_help=True)


@app.command()
def upgrade(
    revision: Annotated[str, typer.Argument(help="The revision to go to.")] = "head",
    *,
    org: Org = None,
    database_url: DatabaseUrl = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Bring the schema to the newest revision, or to the one given. Does nothing where it is there already."""
    from heimdex.entrypoints.cli import output, tables
    from heimdex.entrypoints.cli.opening import application

    with application(Asked(json=json, org=org, database_url=database_url, debug=debug)) as heimdex:
        before = heimdex.schema.state()
        after = heimdex.schema.upgrade(revision)
    answer = {"before": before.current, "current": after.current, "head": after.head}
    if json:
        output.print_json(answer)
    else:
        tables.print_pairs(answer)


@app.command()
def current(*, org: Org = None, database_url: DatabaseUrl = None, json: AsJson = False, debug: Debug = False) -> None:
    """Show the database's revision, and the one that this Heimdex needs."""
    from heimdex.entrypoints.cli import output, tables
    from heimdex.entrypoints.cli.opening import application

    with application(Asked(json=json, org=org, database_url=database_url, debug=debug)) as heimdex:
        state = heimdex.schema.state()
    answer = {"current": state.current, "head": state.head}
    if json:
        output.print_json(answer)
    else:
        tables.print_pairs(answer)


@app.command()
def check(*, org: Org = None, database_url: DatabaseUrl = None, json: AsJson = False, debug: Debug = False) -> None:
    """Find out whether the database has the schema that this Heimdex needs; exits with 1 if not."""
    from heimdex.domain.errors import SchemaMismatch, SchemaMissing
    from heimdex.entrypoints.cli import output, tables
    from heimdex.entrypoints.cli.opening import application

    problem = None
    with application(Asked(json=json, org=org, database_url=database_url, debug=debug)) as heimdex:
        try:
            heimdex.schema.check()
        except (SchemaMissing, SchemaMismatch) as error:
            problem = str(error)
        state = heimdex.schema.state()
    answer = {"current": state.current, "head": state.head, "problem": problem}
    if json:
        output.print_json(answer)
    else:
        tables.print_pairs(answer)
    if problem is not None:
        raise typer.Exit(FOUND_SOMETHING)


@app.command("roles")
def make_roles(
    *,
    login: Annotated[
        str | None, typer.Option(help="A login of the database that is to take part; it exists.", metavar="NAME")
    ] = None,
    duty: Annotated[
        Duty, typer.Option("--as", help=f"What that login does: {', '.join(Duty)}.", metavar="DUTY")
    ] = Duty.BOTH,
    org: Org = None,
    database_url: DatabaseUrl = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make the roles, rights and row-level security that keep organisations apart, where they are missing.

    To be run after `heimdex db upgrade`, by the owner of the tables, who may make
    roles. PostgreSQL alone has them.
    """
    from heimdex.entrypoints.cli import output, tables
    from heimdex.entrypoints.cli.opening import application

    with application(Asked(json=json, org=org, database_url=database_url, debug=debug)) as heimdex:
        made = heimdex.schema.make_roles(login, duty=duty)
    answer = {"roles": made.roles, "tables": made.tables, "login": made.login}
    if json:
        output.print_json(answer)
        return
    tables.print_pairs(
        {
            "new roles": ", ".join(made.roles) or "none: they were there",
            "tables": ", ".join(made.tables),
            "login": "none" if made.login is None else f"{made.login} works as {duty}",
        }
    )
