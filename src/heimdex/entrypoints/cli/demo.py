"""`heimdex demo`: real files through the queue, and a check that none was lost."""

from typing import Annotated

import typer

from heimdex.entrypoints.cli.errors import FOUND_SOMETHING
from heimdex.entrypoints.cli.options import AsJson, Asked, DatabaseUrl, Debug, Misuse, Org

app = typer.Typer()


@app.command()
def demo(
    path: Annotated[
        str | None,
        typer.Argument(
            help="A folder or a file.", metavar="PATH", show_default="Python's own library and the installed packages"
        ),
    ] = None,
    *,
    all_files: Annotated[bool, typer.Option("--all", help="Every file, instead of the first 5,000.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the temporary database in place.")] = False,
    postgres: Annotated[
        bool, typer.Option("--postgres", help="On a PostgreSQL server that is started for it and thrown away.")
    ] = False,
    check: Annotated[
        str | None,
        typer.Option("--check", metavar="URL", help="Only check the database of an earlier demo against the files."),
    ] = None,
    org: Org = None,
    database_url: DatabaseUrl = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Ingest files through the queue, then check the ledger against a walk of its own; exits with 1 if they differ.

    Uses a temporary SQLite database unless --postgres or --database-url is given
    (HEIMDEX_DATABASE_URL is not used), and an organisation of its own unless
    --org is. Folders called __pycache__ are left out.

    The server of --postgres is gone when the demo ends, with its data, but it
    writes as safely as one that stays: what the demo says of speed holds there.
    """
    from heimdex.entrypoints.cli import demo_report, demonstration, output, tables

    asked = Asked(json=json, org=org, database_url=database_url, debug=debug)
    if postgres and (database_url or check or keep):
        raise Misuse("--postgres is a database of its own, and not kept: without --database-url, --check and --keep.")
    database = demonstration.database(database_url, postgres=postgres, keep=keep)
    with tables.progress() as bars, output.kept_apart(asked):
        if check is None:
            shown = demonstration.demonstrate(asked, path, database, all_files=all_files, bars=bars)
        else:
            shown = demonstration.check(asked, check, path, all_files=all_files, bars=bars)
    if json:
        output.print_json(demo_report.as_document(shown))
    else:
        demo_report.print_report(shown)
    if not shown.sound:
        raise typer.Exit(FOUND_SOMETHING)
