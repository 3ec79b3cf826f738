"""`heimdex ingest`: the files of a folder as jobs."""

from typing import Annotated

import typer

from heimdex.entrypoints.cli.errors import REFUSED
from heimdex.entrypoints.cli.options import AsJson, Asked, DatabaseUrl, Debug, Org

app = typer.Typer()


@app.command()
def ingest(
    path: Annotated[str, typer.Argument(help="A folder or a file.", metavar="PATH", show_default=False)],
    *,
    limit: Annotated[
        int | None, typer.Option(help="At most so many files.", min=1, metavar="N", show_default="all")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="A folder's name to leave out, wherever; may be repeated.", metavar="NAME")
    ] = None,
    run: Annotated[bool, typer.Option("--run", help="Work here until its jobs have ended.")] = False,
    org: Org = None,
    database_url: DatabaseUrl = None,
    json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make a job of each file below a folder. Prints the id of the job that walks it; workers do the rest.

    A file that has not changed since it was ingested is not ingested again.
    """
    from heimdex.entrypoints.cli import ingesting, output, tables

    asked = Asked(json=json, org=org, database_url=database_url, debug=debug)
    if not run:
        job = ingesting.start(asked, path, limit=limit, exclude=exclude or ())
        if json:
            output.print_json({"job": output.document(job)})
        else:
            output.print_line(str(job.id))
        return
    with output.kept_apart(asked):
        summary = ingesting.start_and_run(asked, path, limit=limit, exclude=exclude or ())
    if json:
        output.print_json(summary)
    else:
        # There is one, and its outcome is in the summary already.
        tables.print_pairs({name: value for name, value in summary.items() if name != "ingests"})
        if summary["failed_before"]:
            output.print_line(
                "To read files that failed before:"
                " heimdex job retry --reason TEXT --type drive.ingest_file --status failed"
            )
    if summary["status"] != "succeeded":
        raise typer.Exit(REFUSED)
