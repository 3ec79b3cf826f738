"""`heimdex demo`: real files through the queue, and a check that none was lost."""

from typing import Annotated

import typer

from heimdex.entrypoints.cli.errors import FOUND_SOMETHING
from heimdex.entrypoints.cli.options import AsJson, Asked, DatabaseUrl, Debug, Org

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

    Uses a temporary SQLite database unless --database-url is given
    (HEIMDEX_DATABASE_URL is not used), and an organisation of its own unless
    --org is. Folders called __pycache__ are left out.
    """
    from heimdex.entrypoints.cli import demo_report, demonstration, output

    asked = Asked(json=json, org=org, database_url=database_url, debug=debug)
    with output.progress() as bars:
        if check is None:
            shown = demonstration.demonstrate(asked, path, all_files=all_files, keep=keep, bars=bars)
        else:
            shown = demonstration.check(asked, check, path, all_files=all_files, bars=bars)
    if json:
        output.print_json(demo_report.as_document(shown))
    else:
        demo_report.print_report(shown)
    if not shown.check.sound:
        raise typer.Exit(FOUND_SOMETHING)
